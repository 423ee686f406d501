"""A collection killed (SIGKILL) at every call that changes the disk, or on a disk that refuses from any call on.

Whatever the instant: every listed point restores byte for byte, and the next run frees what this one would have freed.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import NewhopeError
from tests.faults.collection_scenario import CollectionScenario
from tests.faults.figures import Fault, count
from tests.faults.parts import parts
from tests.faults.repository_scenario import fast_folder
from tests.faults.repository_system_calls import Call, SystemCalls
from tests.faults.test_repository_kill import in_a_child

PARTS = 4


@pytest.mark.parametrize("part", parts(PARTS))
def test_a_collection_killed_at_any_change_of_the_disk_harms_no_point(part: int):
    with fast_folder() as folder:
        scenario = CollectionScenario(folder)
        scenario.begin()
        calls = in_a_child(scenario, 0, "never")  # type: ignore[arg-type]
        assert calls is not None
        assert len(calls) > 60
        assert scenario.check() == 2
        tried = killed = 0
        for kill_at in range(1 + part, len(calls) + 1, PARTS):
            for when in ("before", "after"):
                scenario.begin()
                tried += 1
                # The order of packs, and with it the number of calls, differs a little each time.
                if in_a_child(scenario, kill_at, when) is None:  # type: ignore[arg-type]
                    killed += 1
                    scenario.check()
                    scenario.check_next_run()
                    count(Fault.KILL, "collection")

    assert killed > 0.8 * tried


@pytest.mark.parametrize(
    ("number", "failing", "fault"),
    [
        (errno.ENOSPC, ("open", "write", "writev", "fsync", "link", "mkdir"), Fault.FULL),
        (errno.EROFS, ("open", "write", "writev", "fsync", "link", "mkdir", "unlink"), Fault.READ_ONLY),
        (errno.EACCES, ("unlink",), Fault.REFUSED),
    ],
    ids=["full", "read-only", "no deleting"],
)
def test_a_disk_that_refuses_at_any_call_of_a_collection_harms_no_point(
    number: int, failing: tuple[str, ...], fault: Fault
):
    refused = 0
    with fast_folder() as folder:
        scenario = CollectionScenario(folder)
        for first in range(1, 1000):
            scenario.begin()
            done = _run_failing_from(scenario, first, number, failing)
            scenario.check()
            if done == "nothing failed":
                break
            refused += 1
            count(fault, "collection")
            if first % 5 == 0:
                _forget_leases_of_this_process(scenario.folder)
                scenario.check_next_run()

    assert refused > 30


def _run_failing_from(scenario: CollectionScenario, first: int, number: int, failing: tuple[str, ...]) -> str:
    failed = False

    def hook(count: int, name: str, arguments: tuple[object, ...], call: Call) -> object:
        nonlocal failed
        if count >= first and name in failing:
            failed = True
            raise OSError(number, os.strerror(number))
        return call()

    calls = SystemCalls(str(scenario.folder), hook)
    calls.install()
    try:
        scenario.run()
    except NewhopeError as error:
        assert error.untouched
        assert error.next_step
    finally:
        calls.remove()
    return "something failed" if failed else "nothing failed"


def _forget_leases_of_this_process(folder: Path) -> None:
    """This process lives on, so a lease it could not delete would be believed until it runs out."""
    for lease in folder.glob("leases/*"):
        lease.unlink()


OWN_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount")
FILL = """
set -e
mount -t tmpfs -o size=3m tmpfs "$1"
cd "$2"
exec "$3" -c '
import os, random, sys
from engine.errors import NoSpace
from engine.repository import Repository
from tests.repository.building import BLOCK, SMALL, back_up, later, restored
folder = sys.argv[1] + "/vault"
with open(sys.argv[1] + "/room", "wb") as room:
    room.write(bytes(int(sys.argv[2])))
repository = Repository.create(folder, block_bytes=BLOCK)
old = back_up(repository, random.Random(1).randbytes(200 * BLOCK), moment=later(0))
content = random.Random(2).randbytes(100 * BLOCK)
point = back_up(repository, content, moment=later(1))
try:
    back_up(repository, os.urandom(8_000_000), moment=later(2))
except NoSpace:
    pass
with open(sys.argv[1] + "/ballast", "wb", buffering=0) as ballast:
    try:
        while True:
            ballast.write(bytes(4096))
    except OSError:
        pass
os.unlink(sys.argv[1] + "/room")
before = os.statvfs(folder).f_bavail * 4096
with Repository.open(folder).collector("a test", limits=SMALL) as collector:
    collector.drop([old])
    done = collector.collect()
after = os.statvfs(folder).f_bavail * 4096
print(before, after, done)
assert after > 190 * BLOCK
assert restored(Repository.open(folder), point.manifest.disks[0]) == content
' "$1" "$4"
"""


@pytest.mark.parametrize("room", ["0", "16384"])
def test_space_is_freed_on_a_file_system_that_is_full_to_the_last_byte(tmp_path: Path, room: str):
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare, of util-linux")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [*OWN_MOUNTS, "sh", "-c", FILL, "sh", str(tmp_path), str(root), sys.executable, room],
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no file system of its own for this user: {done.stderr.strip()}")

    assert done.returncode == 0, done.stderr
    print(done.stdout)
