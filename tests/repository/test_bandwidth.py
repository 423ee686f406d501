"""The limiter, by a clock that only these tests move."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from engine.repository import Limiter, Repository
from tests.repository.building import BLOCK, back_up, mixed_disk, packs_of, restored
from tests.repository.syncing import sync

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class MovedClock:
    """Time that passes only by sleeping in it."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.passed_s)

    def monotonic_s(self) -> float:
        return self.passed_s

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= 1
        self.passed_s += seconds


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


def test_the_mean_keeps_to_the_limit(clock: MovedClock):
    limiter = Limiter(lambda _: 1000, clock=clock)

    for _ in range(100):
        limiter.take(500)

    # The last piece is paid for by whoever comes next.
    assert clock.passed_s == pytest.approx(99 * 0.5)


def test_without_a_limit_nothing_waits(clock: MovedClock):
    limiter = Limiter(lambda _: None, clock=clock)

    for _ in range(100):
        limiter.take(1 << 30)

    assert clock.passed_s == 0


def test_idle_time_is_not_saved_up(clock: MovedClock):
    limiter = Limiter(lambda _: 1000, clock=clock)
    limiter.take(1000)
    clock.passed_s += 3600
    begun = clock.passed_s

    for _ in range(11):
        limiter.take(1000)

    assert clock.passed_s - begun == pytest.approx(10)


def test_a_limit_that_changes_counts_at_once_also_for_who_waits(clock: MovedClock):
    limits = [100.0]
    limiter = Limiter(lambda _: limits[0], clock=clock)
    limiter.take(100_000)
    clock.passed_s += 10
    sleep, clock.sleep = clock.sleep, lambda seconds: (limits.__setitem__(0, 99_000.0), sleep(seconds))[1]  # type: ignore[method-assign]

    limiter.take(1)

    assert clock.passed_s == pytest.approx(11, abs=0.1)


def test_a_limit_goes_by_the_hour(clock: MovedClock):
    limiter = Limiter(lambda now: None if now.hour >= 13 else 1000, clock=clock)
    limiter.take(1 << 40)

    limiter.take(1)

    assert clock.passed_s == pytest.approx(3600, abs=1)


def test_who_waits_can_be_stopped(clock: MovedClock):
    def stop() -> None:
        if clock.passed_s > 5:
            raise InterruptedError

    limiter = Limiter(lambda _: 1, clock=clock, stop=stop)
    limiter.take(1 << 30)

    with pytest.raises(InterruptedError):
        limiter.take(1)
    assert clock.passed_s == pytest.approx(6)


def test_several_threads_share_the_limit(clock: MovedClock):
    limiter = Limiter(lambda _: 1000, clock=clock)
    threads = [threading.Thread(target=lambda: [limiter.take(250) for _ in range(20)]) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert clock.passed_s == pytest.approx(99 * 0.25)


def test_a_sync_reads_and_writes_no_faster_than_each_side_may(tmp_path: Path, clock: MovedClock):
    source = Repository.create(tmp_path / "here", block_bytes=BLOCK)
    content = mixed_disk(200)
    back_up(source, content)
    target = Repository.create(tmp_path / "there", block_bytes=BLOCK)

    sync(source, target.limited(Limiter(lambda _: 10_000, clock=clock)))

    stored = sum(pack.stat().st_size for pack in packs_of(tmp_path / "there"))
    assert clock.passed_s == pytest.approx(stored / 10_000, rel=0.1)
    assert restored(Repository.open(tmp_path / "there"), target.points()[0].manifest.disks[0]) == content

    other = MovedClock()
    third = Repository.create(tmp_path / "third", block_bytes=BLOCK)
    sync(source.limited(Limiter(lambda _: 10_000, clock=other)), third)
    assert other.passed_s == pytest.approx(stored / 10_000, rel=0.1)
    assert restored(third, third.points()[0].manifest.disks[0]) == content
