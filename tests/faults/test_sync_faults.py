"""A sync killed (SIGKILL) at every call that changes the target's disk, or refused from any call on.

Whatever the instant: every point that the target lists restores from the target alone, byte for byte; none is half
there; the source is not touched; and the next run copies the rest.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import NewhopeError, NoSpace
from engine.repository import StorageFailed
from tests.faults.figures import Fault, count
from tests.faults.parts import parts
from tests.faults.repository_scenario import fast_folder
from tests.faults.repository_system_calls import Call, SystemCalls
from tests.faults.sync_scenario import SyncScenario
from tests.faults.test_repository_kill import in_a_child
from tests.repository.building import BLOCK

PARTS = 4
NEEDING_SPACE = ("open", "write", "writev", "fsync", "link", "mkdir")


@pytest.mark.parametrize("part", parts(PARTS))
@pytest.mark.parametrize("block_bytes", [BLOCK, 4 * BLOCK], ids=["names alike", "cut anew"])
def test_a_sync_killed_at_any_change_of_the_disk_harms_no_point(part: int, block_bytes: int):
    with fast_folder() as folder:
        scenario = SyncScenario(folder, block_bytes)
        scenario.begin()
        calls = in_a_child(scenario, 0, "never")  # type: ignore[arg-type]
        assert calls is not None
        assert len(calls) > 60
        assert scenario.check()
        tried = killed = 0
        for kill_at in range(1 + part, len(calls) + 1, PARTS):
            whens = ("before", "in the middle") if calls[kill_at - 1] == "writev" else ("before", "after")
            for when in whens:
                scenario.begin()
                tried += 1
                # Threads take turns differently each time: a run may make a few calls less than the first did.
                if in_a_child(scenario, kill_at, when) is None:  # type: ignore[arg-type]
                    killed += 1
                    scenario.check()
                    scenario.check_next_run()
                    count(Fault.KILL, "sync")

    assert killed > 0.8 * tried


@pytest.mark.parametrize(
    ("number", "failing", "expected", "fault"),
    [
        (errno.ENOSPC, NEEDING_SPACE, NoSpace, Fault.FULL),
        (errno.EROFS, (*NEEDING_SPACE, "unlink"), StorageFailed, Fault.READ_ONLY),
        (errno.EIO, ("writev", "fsync"), StorageFailed, Fault.BROKEN),
    ],
    ids=["full", "read-only", "broken"],
)
def test_a_target_that_refuses_at_any_call_harms_no_point(
    number: int, failing: tuple[str, ...], expected: type[Exception], fault: Fault
):
    refused = 0
    with fast_folder() as folder:
        scenario = SyncScenario(folder, 4 * BLOCK)
        for first in range(1, 1000, 2):
            scenario.begin()
            error = _run_failing_from(scenario, first, number, failing)
            done = scenario.check()
            if error is None:
                # Only what comes after the last commit failed, or nothing did.
                assert done
                break
            refused += 1
            assert isinstance(error, expected)
            assert error.untouched
            assert error.next_step
            if first % 10 == 1:
                scenario.check_next_run(leases_may_stay="unlink" in failing)
            count(fault, "sync")

    assert refused > 20


def _run_failing_from(scenario: SyncScenario, first: int, number: int, failing: tuple[str, ...]) -> NewhopeError | None:
    def hook(at: int, name: str, arguments: tuple[object, ...], call: Call) -> object:
        if at >= first and name in failing:
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


def test_with_credentials_that_cannot_delete_a_sync_works():
    """Deleting is refused from the first call to the last; what is left over is leases, which run out."""
    with fast_folder() as folder:
        scenario = SyncScenario(folder, 4 * BLOCK)
        scenario.begin()

        def hook(_: int, name: str, arguments: tuple[object, ...], call: Call) -> object:
            # What never became an object is a matter of the writer's own folder.
            if name == "unlink" and ".new-" not in str(arguments[0]):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return call()

        calls = SystemCalls(str(scenario.folder), hook)
        calls.install()
        try:
            scenario.run()
        finally:
            calls.remove()

        assert scenario.check()
        count(Fault.REFUSED, "sync")


OWN_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount")
FILL = """
set -e
mount -t tmpfs -o size=1m tmpfs "$1/there"
cd "$2"
exec "$3" -c '
import os, sys
from engine.errors import NoSpace
from engine.repository import Repository
from tests.repository.building import BLOCK, back_up, later
from tests.repository.syncing import disks_of, sync
source = Repository.create(sys.argv[1] + "/here", block_bytes=BLOCK)
small = os.urandom(50 * BLOCK)
back_up(source, os.urandom(2_000_000), moment=later(0))
back_up(source, small, moment=later(1))
target = Repository.create(sys.argv[1] + "/there", block_bytes=4 * BLOCK)
try:
    sync(source, target)
except NoSpace as error:
    print(error)
assert [disks_of(target, point) for point in target.points()] == [[small]]
assert not [name for name in os.listdir(sys.argv[1] + "/there") if name.startswith(".new-")]
' "$1"
"""


def test_a_target_that_is_really_full_is_told_as_full_and_keeps_what_has_arrived(tmp_path: Path):
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare, of util-linux")
    root = Path(__file__).parents[2]
    (tmp_path / "there").mkdir()
    done = subprocess.run(
        [*OWN_MOUNTS, "sh", "-c", FILL, "sh", str(tmp_path), str(root), sys.executable],
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no file system of its own for this user: {done.stderr.strip()}")

    assert done.returncode == 0, done.stderr
    assert "no space left" in done.stdout
