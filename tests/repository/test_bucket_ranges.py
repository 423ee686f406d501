"""Looking at parts of an object in a bucket: few requests for a few looks, the whole once there are many."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from threading import Barrier

import pytest

from engine.errors import NoSpace
from engine.repository import Repository, StorageFailed
from engine.repository import index as index_module
from engine.repository.bucket_ranges import PAGE_BYTES, REQUEST_COSTS_BYTES, BucketRanges, Pages
from engine.repository.errors import ObjectMissing, Unsound
from engine.repository.index import Index
from engine.repository.index_file import IndexFile, encode_index
from engine.repository.patience import NO_PATIENCE
from engine.repository.ranges import HeldRanges, Ranges
from engine.repository.s3_address import S3Address
from engine.repository.s3_storage import STRETCH_BYTES, S3Storage
from tests.repository.building import BLOCK, back_up, later, mixed_disk
from tests.repository.misbehaving_s3 import Rule, misbehaving
from tests.repository.s3_server import S3Server

SIZE = 6 * REQUEST_COSTS_BYTES + 777
CONTENT = random.Random(5).randbytes(SIZE)


class Bucket:
    """One object, and what was asked of it."""

    def __init__(self, content: bytes = CONTENT, kept_pages: int = 64) -> None:
        self.content = content
        self.pieces: list[tuple[int, int]] = []
        self.whole = 0
        self.room = True
        self.ranges = BucketRanges("index/one", len(content), Pages(kept_pages), self.fetch, self.fetch_all)

    def fetch(self, offset: int, length: int) -> bytes:
        self.pieces.append((offset, length))
        return self.content[offset : offset + length]

    def fetch_all(self) -> Ranges:
        if not self.room:
            raise NoSpace("There is no room.", next_step="Make room.")
        self.whole += 1
        return HeldRanges(self.content)


def test_any_piece_is_what_it_is_in_the_object():
    bucket = Bucket()
    chance = random.Random(1)
    for _ in range(300):
        offset = chance.randrange(SIZE)
        length = chance.choice((1, 44, 5632, PAGE_BYTES, 5 * PAGE_BYTES))
        length = min(length, SIZE - offset)

        assert bucket.ranges.read(offset, length) == CONTENT[offset : offset + length]
    assert bucket.ranges.read(SIZE, 0) == b""


def test_a_few_looks_fetch_a_few_pages_and_looking_again_fetches_nothing():
    bucket = Bucket()
    for offset in (0, SIZE - 64, SIZE // 2, 0, SIZE - 64, SIZE // 2):
        bucket.ranges.read(offset, 64)

    assert len(bucket.pieces) == 3
    assert sum(length for _, length in bucket.pieces) <= 3 * PAGE_BYTES
    assert bucket.whole == 0


def test_a_large_piece_is_one_request():
    bucket = Bucket()

    assert bucket.ranges.read(100, 20 * PAGE_BYTES) == CONTENT[100 : 100 + 20 * PAGE_BYTES]
    assert bucket.pieces == [(100, 20 * PAGE_BYTES)]


def test_a_small_object_is_one_request():
    bucket = Bucket(CONTENT[:REQUEST_COSTS_BYTES])
    for offset in (0, 100, REQUEST_COSTS_BYTES - 10):
        bucket.ranges.read(offset, 10)

    assert (bucket.pieces, bucket.whole) == ([], 1)


def test_when_pages_have_cost_as_much_as_the_object_it_is_fetched_once():
    bucket = Bucket(kept_pages=4)
    chance = random.Random(2)
    for _ in range(1000):
        offset = chance.randrange(SIZE - 44)
        assert bucket.ranges.read(offset, 44) == CONTENT[offset : offset + 44]

    assert bucket.whole == 1
    paid = sum(length + REQUEST_COSTS_BYTES for _, length in bucket.pieces)
    assert paid <= SIZE + 2 * (PAGE_BYTES + REQUEST_COSTS_BYTES)


def test_who_is_going_to_read_it_all_fetches_it_at_once():
    bucket = Bucket()
    bucket.ranges.expect_all()

    assert bucket.ranges.read(SIZE - 1000, 1000) == CONTENT[-1000:]
    assert (bucket.pieces, bucket.whole) == ([], 1)


def test_without_room_for_the_object_its_pages_are_enough():
    bucket = Bucket(kept_pages=4)
    bucket.room = False
    chance = random.Random(3)
    for _ in range(200):
        offset = chance.randrange(SIZE - 44)
        assert bucket.ranges.read(offset, 44) == CONTENT[offset : offset + 44]

    assert bucket.whole == 0


def test_an_object_that_ends_early_is_unsound():
    bucket = Bucket()
    bucket.content = CONTENT[: SIZE - 100]

    with pytest.raises(Unsound, match="cut"):
        bucket.ranges.read(SIZE - 50, 50)
    with pytest.raises(Unsound, match="cut"):
        bucket.ranges.read(SIZE - 10 * PAGE_BYTES, 10 * PAGE_BYTES)
    with pytest.raises(Unsound, match="cut"):
        bucket.ranges.read(SIZE, 1)


def test_a_page_that_failed_is_asked_for_again():
    bucket = Bucket()

    def fail(offset: int, length: int) -> bytes:
        raise StorageFailed("It does not answer.", next_step="Wait.")

    failing = BucketRanges("index/one", SIZE, (pages := Pages()), fail, bucket.fetch_all)
    with pytest.raises(StorageFailed):
        failing.read(0, 10)

    assert BucketRanges("index/one", SIZE, pages, bucket.fetch, bucket.fetch_all).read(0, 10) == CONTENT[:10]


def test_threads_that_need_one_page_share_one_request():
    bucket = Bucket()
    together = Barrier(4)

    def look(_: int) -> bytes:
        together.wait()
        return bucket.ranges.read(5 * PAGE_BYTES, 44)

    with ThreadPoolExecutor(4) as threads:
        assert len(set(threads.map(look, range(4)))) == 1
    assert len(bucket.pieces) == 1


def test_memory_holds_so_many_pages_and_no_more():
    pages = Pages(8)
    for page in range(100):
        pages.get("index/one", page, lambda: b"x")

    assert len(pages._kept) == 8


# On a real server.


@cache
def names() -> list[bytes]:
    chance = random.Random(400_000)
    return sorted(chance.randbytes(32) for _ in range(400_000))


def index_over(known: list[bytes], pack: bytes = b"p" * 32) -> bytes:
    """An index file of 17 MB."""
    place = (0).to_bytes(4, "little") + (32).to_bytes(4, "little") + (99).to_bytes(4, "little")
    runs = ([name + place for name in same] for _, same in groupby(known, key=itemgetter(0)))
    return b"".join(encode_index(runs, [(pack, 5)], (), 1))


def test_a_name_in_a_large_index_costs_a_few_small_requests_and_a_million_names_the_file_once(
    moto: S3Server, bucket: str
):
    known = names()
    content = index_over(known)
    name = IndexFile.of(content).id
    S3Storage(S3Address(bucket, "vault", moto.endpoint)).create(f"index/{name}", content)
    with misbehaving(moto) as proxy:
        index = Index(S3Storage(S3Address(bucket, "vault", proxy.endpoint)))
        index.refresh()
        assert [place.offset for place in index.find(known[200_000])] == [32]
        assert index.find(bytes(32)) == []

        fetched = [request for request in proxy.requests if f"index/{name}" in request]
        # The beginning, the end, and a page or two for the first name; the other lies in the first page.
        assert 3 <= len(fetched) <= 4
        assert not [request for request in fetched if request.startswith("HEAD")]

        assert all(index.find(each) for each in known[::40])
        fetched = [request for request in proxy.requests if f"index/{name}" in request]
        assert len(fetched) <= 4 + len(content) // REQUEST_COSTS_BYTES + len(content) // STRETCH_BYTES + 2


def test_an_index_file_that_was_merged_and_removed_meanwhile_is_made_up_for(moto: S3Server, bucket: str):
    storage = S3Storage(S3Address(bucket, "vault", moto.endpoint))
    known = names()
    old, new = index_over(known, b"o" * 32), index_over(known, b"n" * 32)
    storage.create(f"index/{IndexFile.of(old).id}", old)
    index = Index(storage)
    index.refresh()
    storage.create(f"index/{IndexFile.of(new).id}", new)
    storage.delete(f"index/{IndexFile.of(old).id}")

    assert [place.pack for place in index.find(known[200_000])] == [b"n" * 32]


def test_an_index_in_a_bucket_that_does_not_answer_says_so(moto: S3Server, bucket: str):
    known = names()
    content = index_over(known)
    S3Storage(S3Address(bucket, "vault", moto.endpoint)).create(f"index/{IndexFile.of(content).id}", content)
    with misbehaving(moto) as proxy:
        storage = S3Storage(S3Address(bucket, "vault", proxy.endpoint), patience=NO_PATIENCE)
        index = Index(storage)
        index.refresh()
        proxy.rules.append(Rule("GET", "index/", times=99, refuse=(503, "SlowDown")))

        with pytest.raises(StorageFailed):
            index.find(known[200_000])


def test_a_backup_that_leans_on_many_packs_lists_them_instead_of_asking_for_each(
    moto: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(index_module, "LIST_PACKS_AT", 3)
    content = mixed_disk(1200)
    back_up(Repository.create(f"s3://{bucket}/vault?endpoint={moto.endpoint}", block_bytes=BLOCK), content)
    with misbehaving(moto) as proxy:
        repository = Repository.open(f"s3://{bucket}/vault?endpoint={proxy.endpoint}")
        again = back_up(repository, content, moment=later(1))

        assert again.manifest.new_bytes == 0
        assert repository.info().packs > 25
        # Several threads may have been asking when the list was begun.
        assert len([request for request in proxy.requests if request.startswith("HEAD") and "packs/" in request]) <= 10


def test_what_was_fetched_has_no_name_on_this_machine(
    moto: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    storage = S3Storage(S3Address(bucket, "vault", moto.endpoint))
    content = random.Random(9).randbytes(3 << 20)
    storage.create("index/one", content)
    ranges = storage.ranges("index/one")
    ranges.expect_all()
    storage.delete("index/one")

    assert ranges.read(12345, 678) == content[12345 : 12345 + 678]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ObjectMissing):
        storage.ranges("index/one")
