"""Real processes that are stopped (SIGSTOP) until their lease is gone, and go on (SIGCONT) as if nothing had been.

A laptop whose lid was closed, a virtual machine that was paused, a host that hung on a dead disk: the process cannot
know that it slept. Whatever it was about to do must fail then, or do no harm.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.repository import Repository
from engine.repository.directory_storage import DirectoryStorage
from engine.repository.lease import leases
from tests.faults.figures import Fault, count
from tests.faults.repository_scenario import fast_folder
from tests.repository.building import BLOCK, SMALL, back_up, later, packs_of, restored

CONTENT = random.Random(9).randbytes(40 * BLOCK)
CHILD = """
import os, random, signal, sys
from engine.errors import NewhopeError
from engine.repository import Repository, WriterLimits
from engine.repository.directory_storage import DirectoryStorage
from engine.repository.lease import HeldLease
from tests.repository.building import BLOCK, commit, later, write_disk

what, folder = sys.argv[1:]
LIMITS = WriterLimits(pack_bytes=16 * BLOCK, index_every_blocks=40, lease_s=1.0)
CONTENT = random.Random(9).randbytes(40 * BLOCK)

def sleep():
    os.kill(os.getpid(), signal.SIGSTOP)

def sleeping_after(kind, times, work):
    # Once: after a look at the lease that said that all is well.
    real = HeldLease.check
    looks = 0
    def check(held):
        nonlocal looks
        real(held)
        looks += held.lease.kind == kind
        if looks == times:
            looks += 1
            sleep()
    HeldLease.check = check
    work()

def write(pause):
    with Repository.open(folder).writer(what, limits=LIMITS) as writer:
        disk = write_disk(writer, "vda", CONTENT)
        pause()
        commit(writer, (disk,), later(50))

def collect():
    with Repository.open(folder).collector(what, limits=LIMITS) as collector:
        collector.drop([point for point in Repository.open(folder).points() if point.manifest.moment == later(0)])
        collector.collect()

try:
    match what:
        case "before commit":
            write(sleep)
        case "before manifest":
            sleeping_after("writer", 1, lambda: write(lambda: None))
        case "before delete":
            sleeping_after("collector", 3, collect)
    print("done")
except NewhopeError as error:
    print(type(error).__name__)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with fast_folder() as folder:
        vault = folder / "vault"
        repository = Repository.create(vault, block_bytes=BLOCK)
        # Its point goes, its blocks are those that the sleeping writer leans on.
        back_up(repository, CONTENT, moment=later(0))
        back_up(repository, b"newer", moment=later(1))
        yield vault


class Sleeper:
    """A process that stops itself at a place."""

    def __init__(self, folder: Path, place: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CHILD, place, str(folder)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        until(lambda: _state(self.process.pid) == "T" or self.process.poll() is not None)
        assert self.process.poll() is None, self.process.communicate()

    def __enter__(self) -> Sleeper:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def wake(self) -> str:
        """Let it go on to its end; what it said last."""
        self.process.send_signal(signal.SIGCONT)
        return self.process.communicate()[0].strip()


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def until(holds: Callable[[], bool]) -> None:
    """However long it takes: machines are slow, and the run's own limit ends it."""
    while not holds():
        time.sleep(0.05)


def collect_over(folder: Path) -> None:
    """Drop the first point, and collect until the sleeper's lease was taken away."""

    def taken() -> bool:
        repository = Repository.open(folder)
        with repository.collector("awake", limits=SMALL) as collector:
            collector.drop([point for point in repository.points() if point.manifest.moment == later(0)])
            collector.collect()
        return leases(DirectoryStorage(folder))[0] == ()

    until(taken)


def test_a_writer_that_slept_past_its_lease_and_was_collected_over_lists_nothing(folder: Path):
    with Sleeper(folder, "before commit") as sleeper:
        collect_over(folder)
        said = sleeper.wake()

    assert said == "LeaseLost"
    repository = Repository.open(folder)
    assert [point.manifest.moment for point in repository.points()] == [later(1)]
    assert repository.damaged == ()
    assert list(folder.glob("pending/*")) == []
    count(Fault.SLEEP, "backup")


def test_a_writer_that_sleeps_between_its_last_look_at_its_lease_and_its_manifest_lists_a_whole_point(folder: Path):
    with Sleeper(folder, "before manifest") as sleeper:
        collect_over(folder)
        said = sleeper.wake()

    assert said == "done"
    repository = Repository.open(folder)
    points = repository.points()
    assert [point.manifest.moment for point in points] == [later(50), later(1)]
    assert restored(repository, points[0].manifest.disks[0]) == CONTENT
    count(Fault.SLEEP, "backup")


def test_a_collector_that_sleeps_between_its_last_look_at_its_lease_and_a_delete_harms_nothing(folder: Path):
    packs = len(packs_of(folder))
    with Sleeper(folder, "before delete") as sleeper:
        assert len(packs_of(folder)) == packs
        until(lambda: _passed(folder))
        # Another one has done the work, and a backup has stored again what was deleted.
        collect_over(folder)
        point = back_up(Repository.open(folder), CONTENT, moment=later(60))
        said = sleeper.wake()

    assert said == "LeaseLost"
    repository = Repository.open(folder)
    assert restored(repository, point.manifest.disks[0]) == CONTENT
    assert len(repository.points()) == 2
    count(Fault.SLEEP, "collection")


def _passed(folder: Path) -> bool:
    """Whether a second collector may begin: the first one's lease has run out."""
    (lease,) = leases(DirectoryStorage(folder))[0]
    age_s = time.time() - os.stat(folder / lease.key).st_mtime
    return age_s > 2 * lease.lasts_s
