"""Reads in a row are served from few requests; others cost what they ask for; all bring the same bytes."""

from __future__ import annotations

import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.repository.errors import ObjectMissing
from engine.repository.read_ahead import STRETCHES, ReadAhead

STRETCH = 1 << 20
CONTENT = os.urandom(5 * STRETCH + 777)


class Store:
    def __init__(self) -> None:
        self.requests: list[tuple[int, int]] = []
        self.lock = threading.Lock()

    def fetch(self, key: str, offset: int, length: int) -> bytes:
        with self.lock:
            self.requests.append((offset, length))
        if key == "packs/gone":
            raise ObjectMissing(key, "here")
        return CONTENT[offset : offset + length]


@pytest.fixture
def store() -> Store:
    return Store()


def test_blocks_in_a_row_are_fetched_a_stretch_at_a_time(store: Store):
    ahead = ReadAhead(store.fetch, STRETCH)
    block = 100_000
    found = b"".join(ahead.read("packs/one", offset, block) for offset in range(0, len(CONTENT), block))

    assert found == CONTENT
    assert len(store.requests) == 7


def test_threads_side_by_side_fetch_each_stretch_once(store: Store):
    ahead = ReadAhead(store.fetch, STRETCH)
    block = 64 << 10
    offsets = range(0, len(CONTENT), block)
    with ThreadPoolExecutor(4) as pool:
        found = b"".join(pool.map(lambda offset: ahead.read("packs/one", offset, block), offsets))

    assert found == CONTENT
    stretches = [request for request in store.requests if request[1] == STRETCH]
    assert len(stretches) == len(set(stretches)) == 6
    assert len(store.requests) <= 10


def test_scattered_reads_cost_what_they_ask_for(store: Store):
    ahead = ReadAhead(store.fetch, STRETCH)
    for offset in (0, 3 * STRETCH, STRETCH + 5, 5 * STRETCH):
        assert ahead.read("packs/one", offset, 500) == CONTENT[offset : offset + 500]

    assert sum(length for _, length in store.requests) == 4 * 500


def test_any_order_brings_the_right_bytes_and_few_stretches_are_kept(store: Store):
    chance = random.Random(1)
    ahead = ReadAhead(store.fetch, STRETCH)
    for _ in range(300):
        offset, length = chance.randrange(len(CONTENT) + 1000), chance.randrange(1, 2 * STRETCH)
        key = f"packs/{chance.randrange(3)}"
        assert ahead.read(key, offset, length) == CONTENT[offset : offset + length]
        assert len(ahead._stretches) <= STRETCHES


def test_a_failure_is_not_kept(store: Store):
    ahead = ReadAhead(store.fetch, STRETCH)
    for _ in range(3):
        with pytest.raises(ObjectMissing):
            ahead.read("packs/gone", 0, 10)

    assert len(store.requests) == 3
