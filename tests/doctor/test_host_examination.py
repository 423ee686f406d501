"""What the doctor says of a host: how it answers, and what would keep a backup from it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from engine.doctor import HostCheck, examine_host
from engine.hosts import HostLane
from engine.hosts.files_of_host import LocalFiles
from engine.hosts.model import Way
from engine.settings import Host

FOLDER = Path("/tmp")


def check_of(**changes: object) -> HostCheck:
    lane = HostLane(Host(**({"name": "alderaan", "uri": "test:///default", "scratch": FOLDER} | changes)))  # type: ignore[arg-type]
    try:
        return examine_host(lane)[0]
    finally:
        lane.close()


def test_a_host_in_order_says_its_way_its_versions_and_its_room() -> None:
    check = check_of()

    assert check.answered_in_s is not None
    assert check.way is Way.HERE
    assert check.libvirt_version[0].isdigit() and check.qemu_version[0].isdigit()
    assert check.scratch is not None
    assert check.scratch.folder == FOLDER
    assert check.scratch.free_bytes
    assert (check.faults, check.limits) == ((), ())


def test_a_host_that_does_not_answer_is_a_fault_with_the_reason() -> None:
    check = check_of(uri="qemu+unix:///session?socket=/nonexistent")

    (fault,) = check.faults
    assert fault.what.startswith("it does not answer: ") and "/nonexistent" in fault.what
    assert fault.next_step
    assert (check.answered_in_s, check.way, check.scratch) == (None, None, None)


def test_a_program_that_the_host_lacks_is_a_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    (fault,) = check_of().faults

    assert fault.what.startswith("qemu-nbd and qemu-img are not installed there")


@pytest.mark.parametrize(
    ("scratch", "floor", "what"),
    [
        ("/nonexistent/scratch", 0, "The scratch folder /nonexistent/scratch of host alderaan does not exist"),
        ("/tmp/" + "deep/" * 20, 0, "is too deep: a socket in it has a path of"),
        ("/tmp", 1 << 62, "less than the floor of"),
    ],
)
def test_a_scratch_folder_that_a_backup_would_refuse_is_a_fault(scratch: str, floor: int, what: str) -> None:
    check = check_of(scratch=Path(scratch), scratch_floor_bytes=floor)

    assert any(what in fault.what for fault in check.faults)
    assert all(fault.next_step for fault in check.faults)


def test_a_private_folder_that_is_not_made_yet_is_no_fault_and_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    # pytest's own folders are too deep for sockets.
    with tempfile.TemporaryDirectory(prefix="nh-", dir="/tmp") as home:
        monkeypatch.setattr(LocalFiles, "cache_home", lambda _: Path(home))

        check = check_of(scratch=None)

        assert check.faults == ()
        assert check.scratch is not None
        assert check.scratch.folder == Path(home, "newhope", "scratch")
        assert check.scratch.free_bytes
        assert list(Path(home).iterdir()) == []
