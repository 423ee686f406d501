"""What is set on a running job, and that its work obeys."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.errors import Conflict
from engine.jobs import Job, JobContext, JobState, Journal, Knobs, Priority, in_words, run
from engine.jobs.pace import Pace
from tests.waiting import wait_for

PIECE = 1000
ONE_STREAM = Knobs(streams=1)


class Worker:
    """A job that moves pieces in threads of this process until it is let go."""

    def __init__(self, journal: Journal, knobs: Knobs | None, threads: int = 1) -> None:
        self.journal = journal
        self.id = journal.insert(
            kind="restore", subject="web", host="h", spec=b"", lock=None, again="", untouched="", knobs=knobs
        )
        self.context: JobContext | None = None
        self.moved = 0
        self.at_once = self.most_at_once = 0
        self._threads = threads
        self._lock = threading.Lock()
        self._enough = threading.Event()
        self._thread = threading.Thread(target=run, args=(journal, self.id, self._work))

    def start(self) -> None:
        self._thread.start()
        wait_for(lambda: self.context is not None)

    def let_go(self) -> None:
        self._enough.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def set(self, change: Callable[[Knobs], Knobs]) -> Job:
        return self.journal.turn_knobs(self.id, change)

    def stands_still(self) -> bool:
        before = self.moved
        time.sleep(0.1)
        return self.moved == before

    def _work(self, job: Job, context: JobContext) -> str:
        self.context = context
        pace = Pace(context)
        threads = [threading.Thread(target=self._move, args=(pace,)) for _ in range(self._threads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        context.raise_if_cancelled()
        return "moved"

    def _move(self, pace: Pace) -> None:
        try:
            while not self._enough.is_set():
                with pace.stream("vda", PIECE):
                    with self._lock:
                        self.moved += PIECE
                        self.at_once += 1
                        self.most_at_once = max(self.most_at_once, self.at_once)
                    time.sleep(0.005)
                    with self._lock:
                        self.at_once -= 1
        except Exception:  # it was told to stop, which `_work` says
            return


@pytest.fixture
def working(journal: Journal) -> Iterator[Callable[..., Worker]]:
    started: list[Worker] = []

    def start(knobs: Knobs | None = ONE_STREAM, threads: int = 1) -> Worker:
        worker = Worker(journal, knobs, threads)
        started.append(worker)
        worker.start()
        return worker

    yield start
    for worker in started:
        journal.ask_cancel(worker.id)
        worker.let_go()


def paused(knobs: Knobs) -> Knobs:
    return replace(knobs, paused=True)


def test_a_paused_job_stands_still_lives_and_goes_on(working: Callable[..., Worker], journal: Journal):
    worker = working()
    wait_for(lambda: worker.moved > 0)

    worker.set(paused)
    wait_for(worker.stands_still)
    heard = journal.job(worker.id).heartbeat
    wait_for(lambda: journal.job(worker.id).heartbeat != heard)
    stood_at = worker.moved
    assert journal.job(worker.id).paused
    worker.set(lambda knobs: replace(knobs, paused=False))
    wait_for(lambda: worker.moved > stood_at)
    worker.let_go()

    assert journal.job(worker.id).state is JobState.DONE
    said = [line.text for line in journal.log(worker.id)]
    assert [text.partition(": ")[2] for text in said] == [
        "paused, no limit, priority normal, 1 stream",
        "no limit, priority normal, 1 stream",
    ]
    assert worker.context is not None
    assert [change.knobs.paused for change in worker.context.knob_changes] == [True, False]


def test_a_paused_job_can_be_cancelled(working: Callable[..., Worker], journal: Journal):
    worker = working(threads=4)
    worker.set(paused)
    wait_for(worker.stands_still)

    journal.ask_cancel(worker.id)
    wait_for(lambda: journal.job(worker.id).state.over)

    assert journal.job(worker.id).state is JobState.CANCELLED


def test_a_job_that_waits_can_be_set_and_begins_so(journal: Journal):
    worker = Worker(journal, Knobs(streams=1))
    worker.set(paused)

    worker.start()
    time.sleep(0.2)

    assert worker.moved == 0
    journal.ask_cancel(worker.id)
    worker.let_go()


def test_as_many_pieces_are_on_their_way_as_there_are_streams(working: Callable[..., Worker]):
    worker = working(Knobs(streams=2), threads=8)
    wait_for(lambda: worker.moved > 100 * PIECE)
    assert worker.most_at_once == 2

    worker.set(lambda knobs: replace(knobs, streams=5))
    wait_for(lambda: worker.most_at_once == 5)
    worker.set(lambda knobs: replace(knobs, streams=1))
    wait_for(lambda: worker.context is not None and worker.context.knobs.streams == 1 and worker.at_once <= 1)
    worker.most_at_once = 0
    moved = worker.moved
    wait_for(lambda: worker.moved > moved + 50 * PIECE)

    assert worker.most_at_once == 1


def test_a_limit_counts_for_what_moves_and_is_taken_away_again(working: Callable[..., Worker]):
    worker = working(Knobs(streams=4, bandwidth=20 * PIECE), threads=4)
    began_s = time.monotonic()
    wait_for(lambda: time.monotonic() - began_s > 1)
    slow = worker.moved / (time.monotonic() - began_s)
    assert slow <= 30 * PIECE

    worker.set(lambda knobs: replace(knobs, bandwidth=None))
    wait_for(lambda: worker.moved > 300 * PIECE)


def test_a_job_rests_while_one_of_higher_priority_moves_bytes(working: Callable[..., Worker]):
    low, high = working(Knobs(streams=1, priority=Priority.LOW)), working()
    assert low.context is not None and high.context is not None
    wait_for(lambda: low.context.rests == 3)
    assert high.context.rests <= 0

    high.set(lambda knobs: replace(knobs, priority=Priority.HIGH))
    wait_for(lambda: low.context.rests == 15)
    moved = low.moved, high.moved
    wait_for(lambda: high.moved > moved[1] + 200 * PIECE)
    assert 0 < low.moved - moved[0] < 60 * PIECE

    high.set(paused)
    wait_for(lambda: low.context.rests <= 0)


def test_jobs_without_knobs_are_never_waited_for_and_cannot_be_set(working: Callable[..., Worker], journal: Journal):
    run_of_backups, low = working(None), working(Knobs(streams=1, priority=Priority.LOW))
    wait_for(lambda: low.moved > 0)

    with pytest.raises(Conflict, match="cannot be paused or slowed down"):
        run_of_backups.set(paused)
    assert low.context is not None
    assert low.context.rests == 0


def test_a_job_that_is_over_cannot_be_set(journal: Journal):
    worker = Worker(journal, Knobs(streams=1))
    worker.start()
    worker.let_go()

    with pytest.raises(Conflict, match="is over already: done"):
        worker.set(paused)


def test_two_who_turn_different_knobs_at_once_both_get_theirs(journal: Journal, state_dir: Path):
    worker = Worker(journal, Knobs(streams=1))

    def slow(number: int) -> None:
        with Journal(state_dir) as other:
            other.turn_knobs(worker.id, lambda knobs: replace(knobs, streams=(knobs.streams or 0) + number))

    threads = [threading.Thread(target=slow, args=(number,)) for number in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert journal.job(worker.id).knobs == Knobs(streams=11)


def test_a_journal_from_before_there_were_knobs_is_read_and_its_jobs_have_none(state_dir: Path):
    with Journal(state_dir) as journal:
        job_id = journal.insert(kind="backup", subject="w", host="h", spec=b"", lock=None, again="", untouched="")
    with _changed_by_hand(state_dir) as connection:
        connection.executescript(
            "ALTER TABLE job DROP COLUMN knobs; ALTER TABLE job DROP COLUMN knobs_by; PRAGMA user_version = 1;"
        )

    with Journal(state_dir) as journal:
        assert journal.job(job_id).knobs is None
        newer = Worker(journal, Knobs(bandwidth=1 << 20))
        assert in_words(newer.set(paused).knobs) == "paused, at most 1MiB/s, priority normal"


@contextmanager
def _changed_by_hand(state_dir: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(state_dir / "journal.sqlite")
    yield connection
    connection.close()
