"""A guest that overwrites more than there is scratch space for: its backup ends, the guest does not."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine import nbd
from engine.backup.moment import How, Marks, fixed_moment
from engine.backup.vm_notes import VmNotes
from engine.backup.watching import BackupInterrupted
from engine.errors import ExitCode, NoSpace
from engine.hosts import HostLane, backup_job, checkpoints, start
from engine.lab import Lab
from engine.lab.account import lab_account
from engine.lab.journal import ask_journal
from engine.settings import Method
from tests.e2e.conftest import Operator
from tests.hosts.live import files_in, in_guest, kill_qemu
from tests.waiting import wait_for

pytestmark = [pytest.mark.lab, pytest.mark.slow]

MIB = 1 << 20


@pytest.fixture
def small_folder() -> Iterator[Path]:
    """A scratch folder on a file system of its own with 64 MiB."""
    if os.geteuid() != 0:
        pytest.skip("needs a file system of its own that QEMU sees, which only root may mount")
    folder = Path(tempfile.mkdtemp(prefix="nhs-", dir="/tmp"))
    lab_account().own(folder)
    owner = folder.stat()
    options = f"size=64m,mode=0755,uid={owner.st_uid},gid={owner.st_gid}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


def read_until_it_breaks(address: nbd.UnixAddress, export: str) -> None:
    """Read the same range again and again, as a slow copy that never ends."""
    deadline = time.monotonic() + 120
    with nbd.Client.connect(address, export) as client:
        while time.monotonic() < deadline:
            client.read_into(0, memoryview(bytearray(4096)))
            time.sleep(0.05)


def test_a_job_ends_before_its_scratch_folder_is_full_and_the_guest_goes_on(
    operator: Operator, small_folder: Path
) -> None:
    web = operator.vm("web")
    in_guest(operator.lane("web"), web, "head -c 48000000 /dev/urandom > /data/area; sync")
    lane = HostLane(replace(operator.lane("web").host, scratch=small_folder, scratch_floor_bytes=40 * MIB))
    notes = VmNotes(operator.settings.state)

    with (
        pytest.raises(NoSpace) as failure,
        fixed_moment(lane, web, How(Method.HOT), Marks(checkpoints.new_name()), notes, None) as moment,  # type: ignore[arg-type]
    ):
        in_guest(lane, web, "dd if=/dev/urandom of=/data/area bs=1M count=45 conv=notrunc 2>&1; sync")
        read_until_it_breaks(moment.disks[0].address, moment.disks[0].export)

    assert failure.value.exit_code is ExitCode.NO_SPACE
    assert "floor of 40MiB" in failure.value.what
    assert backup_job.look(lane, web.uuid).job is None
    assert files_in(small_folder) == []
    before = ask_journal(lane, web.uuid).acked
    assert wait_for(lambda: ask_journal(lane, web.uuid).acked > before)
    for name in checkpoints.own_checkpoints(lane, web.uuid):
        checkpoints.delete(lane, web.uuid, name)
    lane.close()


def test_too_little_room_is_refused_before_the_guest_is_touched(operator: Operator, small_folder: Path) -> None:
    web = operator.vm("web")
    lane = HostLane(replace(operator.lane("web").host, scratch=small_folder))

    with (
        pytest.raises(NoSpace) as failure,
        fixed_moment(lane, web, How(Method.HOT), Marks("none"), VmNotes(operator.settings.state), None),  # type: ignore[arg-type]
    ):
        pass

    assert "floor of 1GiB" in failure.value.what
    lane.close()


def test_a_vm_that_crashes_during_its_backup_is_named_as_the_reason(operator: Operator, lab: Lab) -> None:
    web = operator.vm("web")
    lane = operator.lane("web")
    marks, notes = Marks(checkpoints.new_name()), VmNotes(operator.settings.state)
    try:
        with (
            pytest.raises(BackupInterrupted) as failure,
            fixed_moment(lane, web, How(Method.HOT), marks, notes, None) as moment,  # type: ignore[arg-type]
        ):
            kill_qemu(lab, lane, web)
            read_until_it_breaks(moment.disks[0].address, moment.disks[0].export)

        assert "was switched off or crashed" in failure.value.what
        assert files_in(lane.host.scratch) == []
        assert notes.kept() == ()
    finally:
        start(lane, web.uuid)
        lab.wait_until_up(web.host, web.name)


def test_a_job_that_somebody_else_ends_is_named_as_the_reason(operator: Operator) -> None:
    web = operator.vm("web")
    lane = operator.lane("web")
    marks, notes = Marks(checkpoints.new_name()), VmNotes(operator.settings.state)

    with (
        pytest.raises(BackupInterrupted) as failure,
        fixed_moment(lane, web, How(Method.HOT), marks, notes, None) as moment,  # type: ignore[arg-type]
    ):
        lane.run(lambda connection: connection.lookupByUUIDString(web.uuid).abortJob())
        read_until_it_breaks(moment.disks[0].address, moment.disks[0].export)

    assert "ended by somebody else" in failure.value.what
    checkpoints.delete(lane, web.uuid, marks.new)
