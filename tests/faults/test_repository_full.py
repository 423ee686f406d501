"""A disk that is full, read-only or broken from any call on: an error says so, and no point is harmed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from engine.errors import NewhopeError, NoSpace
from engine.repository import StorageFailed
from tests.faults.figures import Fault, count
from tests.faults.own_file_system import run_in_own_file_system
from tests.faults.repository_scenario import Scenario, fast_folder
from tests.faults.repository_system_calls import Call, SystemCalls

NEEDING_SPACE = ("open", "write", "writev", "fsync", "link", "mkdir")


def run_failing_from(scenario: Scenario, first: int, number: int, failing: tuple[str, ...]) -> NewhopeError | None:
    """Run the backup with every such call failing from the `first` on."""

    def hook(count: int, name: str, arguments: tuple[object, ...], call: Call) -> object:
        if first and count >= first and name in failing:
            raise OSError(number, os.strerror(number))
        return call()

    calls = SystemCalls(str(scenario.folder), hook)
    calls.install()
    try:
        scenario.run()
    except NewhopeError as error:
        return error
    finally:
        calls.remove()
    return None


@pytest.mark.parametrize(
    ("number", "failing", "expected", "fault"),
    [
        (errno.ENOSPC, NEEDING_SPACE, NoSpace, Fault.FULL),
        (errno.EROFS, (*NEEDING_SPACE, "unlink"), StorageFailed, Fault.READ_ONLY),
        (errno.EIO, ("writev", "fsync"), StorageFailed, Fault.BROKEN),
    ],
    ids=["full", "read-only", "broken"],
)
def test_a_disk_that_fails_at_any_call_harms_no_point(
    number: int, failing: tuple[str, ...], expected: type[Exception], fault: Fault
):
    refused = 0
    with fast_folder() as folder:
        scenario = Scenario(folder)
        for first in range(1, 1000):
            scenario.begin()
            error = run_failing_from(scenario, first, number, failing)
            committed = scenario.check()
            if error is None:
                # Only what comes after the commit failed, or nothing did.
                assert committed
                break
            refused += 1
            assert isinstance(error, expected)
            assert error.untouched
            assert error.next_step
            assert "unlink" in failing or list(scenario.folder.glob(".new-*")) == []
            if first % 5 == 0:
                scenario.check_next_run(leases_may_stay="unlink" in failing)
            count(fault, "backup")

    assert refused > 40


FILL = """
import os, sys
from engine.errors import NoSpace
from engine.repository import Repository
from tests.repository.building import BLOCK, back_up, mixed_disk, restored
folder = sys.argv[1] + "/vault"
repository = Repository.create(folder, block_bytes=BLOCK)
content = mixed_disk(60)
point = back_up(repository, content)
try:
    back_up(repository, os.urandom(2_000_000))
except NoSpace as error:
    print(error)
assert len(repository.points()) == 1
assert restored(repository, point.manifest.disks[0]) == content
assert not [name for name in os.listdir(folder) if name.startswith(".new-")]
"""


def test_a_file_system_that_is_really_full_is_told_as_full(tmp_path: Path):
    told = run_in_own_file_system(tmp_path, "1m", FILL)

    assert "no space left" in told
    assert "df -h" in told
