"""Pull backups of real guests that write all the time, and everything that can come between."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.errors import Conflict, ExitCode
from engine.hosts import (
    HostLane,
    checkpoints,
    freeze,
    image,
    power_off,
    pull_backup,
    resume,
    scratch,
    start,
    suspend,
    thaw,
)
from engine.hosts.model import Vm
from engine.lab import Lab
from engine.nbd import Client, ServerUnreachable
from tests.hosts.live import (
    copy_export,
    files_in,
    in_guest,
    journal_lines,
    lab_of_its_own,
    lane_to,
    restart_daemon,
    vm_of,
)
from tests.waiting import wait_for

pytestmark = [pytest.mark.lab, pytest.mark.slow]

RUNNING = [
    ("alderaan", "web"),
    pytest.param("alderaan", "db", marks=pytest.mark.guests("db")),
    pytest.param("coruscant", "legacy", marks=pytest.mark.guests("legacy")),
]


@pytest.fixture(scope="module")
def own_lab() -> Iterator[Lab]:
    with lab_of_its_own(guests=("web", "db")) as made:
        yield made


@pytest.fixture(scope="module")
def lane(own_lab: Lab) -> Iterator[HostLane]:
    with lane_to(own_lab, "alderaan") as opened:
        yield opened


@pytest.fixture
def web(own_lab: Lab, lane: HostLane) -> Iterator[Vm]:
    """A running guest, which is in order again afterwards and has no job, no file and no checkpoint of ours."""
    vm = vm_of(lane, "web")
    yield vm
    if not lane.run(lambda connection: connection.lookupByUUIDString(vm.uuid).isActive()):
        start(lane, vm.uuid)
        own_lab.wait_until_up("alderaan", "web")
    assert files_in(lane.host.scratch) == []
    for name in checkpoints.own_checkpoints(lane, vm.uuid):
        checkpoints.delete(lane, vm.uuid, name)


def has_job(lane: HostLane, vm: Vm) -> bool:
    return lane.run(lambda connection: connection.lookupByUUIDString(vm.uuid).jobInfo()[0] != 0)


def begin_in_a_process_that_is_killed(lane: HostLane, vm: Vm) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from engine.hosts import HostLane, checkpoints, pull_backup, take_snapshot\n"
        "from engine.settings import Host\n"
        "lane = HostLane(Host('alderaan', sys.argv[1], scratch=Path(sys.argv[2])))\n"
        "vm = next(vm for vm in take_snapshot(lane).vms if vm.name == sys.argv[3])\n"
        "pull_backup.begin(lane, vm, checkpoint=checkpoints.new_name())\n"
        "print('begun', flush=True)\nsys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, lane.host.uri, str(lane.host.scratch), vm.name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    process.kill()
    process.wait()


@pytest.mark.parametrize(("host", "name"), RUNNING)
def test_every_guest_is_read_as_it_was_while_it_writes(lab: Lab, tmp_path: Path, host: str, name: str) -> None:
    with lane_to(lab, host) as lane:
        vm = vm_of(lane, name)

        with freeze.frozen(lane.host, lane, vm.uuid) as outcome:
            before = datetime.now(UTC)
            backup = pull_backup.begin(lane, vm, checkpoint=checkpoints.new_name())
            after = datetime.now(UTC)
        try:
            # Long enough for lines that must not be seen.
            time.sleep(3)
            copies = [copy_export(each.address.uri(each.export), tmp_path / each.target) for each in backup.exports]
            progress = pull_backup.how_it_goes(lane, backup)
        finally:
            pull_backup.finish(lane, backup)
            if backup.checkpoint is not None:
                checkpoints.delete(lane, vm.uuid, backup.checkpoint)

        assert [each.target for each in backup.exports] == [disk.target for disk in vm.disks]
        assert [each.size_bytes for each in backup.exports] == [copy.stat().st_size for copy in copies]
        assert [each.checkpoint for each in backup.exports] == [disk.format == "qcow2" for disk in vm.disks]
        assert before <= backup.moment <= after
        assert outcome.frozen == (name != "legacy")
        assert progress.over is None
        assert files_in(lane.host.scratch) == []

        first, *others = [journal_lines(copy) for copy in copies]
        last_moment = datetime.fromtimestamp(int(first[-1].split()[1]), UTC)
        assert abs(last_moment - backup.moment) < timedelta(seconds=60)
        for second in others:
            assert first[: len(second)] == second
            assert len(first) - len(second) <= 1


def test_what_is_read_is_what_the_image_at_rest_shows(own_lab: Lab, lane: HostLane, tmp_path: Path) -> None:
    vm = vm_of(lane, "db")
    suspend(lane, vm.uuid)

    with pull_backup.pulling(lane, vm, checkpoint=None) as backup:
        copies = {
            each.target: copy_export(each.address.uri(each.export), tmp_path / each.target) for each in backup.exports
        }
    # Never resumed, so nothing was written since; a clean end makes QEMU write out what it holds.
    power_off(lane, vm.uuid)

    assert backup.checkpoint is None
    assert len(copies) == 2
    for disk in vm.disks:
        assert image.same_content(copies[disk.target], disk.source or "", formats=("raw", disk.format))
    start(lane, vm.uuid)
    own_lab.wait_until_up("alderaan", "db")


def test_a_paused_guest_stays_paused(lane: HostLane, web: Vm) -> None:
    suspend(lane, web.uuid)
    try:
        with pull_backup.pulling(lane, web, checkpoint=checkpoints.new_name()) as backup:
            exports = backup.exports
        assert vm_of(lane, "web").state == "paused"
    finally:
        resume(lane, web.uuid)

    assert [each.target for each in exports] == ["vda"]


def test_our_own_client_reads_every_export_of_the_one_server(lane: HostLane, tmp_path: Path) -> None:
    vm = vm_of(lane, "db")

    with pull_backup.pulling(lane, vm, checkpoint=None) as backup:
        sizes: list[int] = []
        for each in backup.exports:
            with Client.connect(each.address, each.export) as client:
                sizes.append(client.size_bytes)
                superblock = bytearray(1024)
                client.read_into(1024, memoryview(superblock))
                assert superblock[56:58] == b"\x53\xef"

    assert sizes == [disk.capacity_bytes for disk in vm.disks]


def test_what_the_guest_overwrites_meanwhile_goes_to_scratch(lane: HostLane, web: Vm) -> None:
    with pull_backup.pulling(lane, web, checkpoint=None) as backup:
        in_guest(lane, web, "dd if=/dev/urandom of=/data/payload bs=64k count=32 conv=notrunc,fsync 2>/dev/null")
        progress = pull_backup.how_it_goes(lane, backup)

    assert progress.scratch_used_bytes >= 2 << 20
    assert progress.scratch_free_bytes is not None


def test_finishing_twice_is_fine(lane: HostLane, web: Vm) -> None:
    backup = pull_backup.begin(lane, web, checkpoint=None)

    pull_backup.finish(lane, backup)
    pull_backup.finish(lane, backup)

    assert not has_job(lane, web)
    assert pull_backup.how_it_goes(lane, backup).over is not None
    with pytest.raises(ServerUnreachable):
        Client.connect(backup.exports[0].address, "vda")


def test_a_failed_copy_takes_its_new_checkpoint_away_and_keeps_the_parent(lane: HostLane, web: Vm) -> None:
    parent, new = checkpoints.new_name(datetime(2026, 1, 1, tzinfo=UTC)), checkpoints.new_name()
    with pull_backup.pulling(lane, web, checkpoint=parent):
        pass

    with pytest.raises(ZeroDivisionError), pull_backup.pulling(lane, web, checkpoint=new):
        raise ZeroDivisionError

    assert checkpoints.own_checkpoints(lane, web.uuid) == (parent,)
    assert not has_job(lane, web)


def test_an_old_qcow2_is_read_without_a_checkpoint(lane: HostLane, web: Vm) -> None:
    # What the inventory says of an image of version 2, which holds no bitmaps.
    old = replace(web, disks=tuple(replace(disk, bitmaps_possible=False) for disk in web.disks))

    with pull_backup.pulling(lane, old, checkpoint=checkpoints.new_name()) as backup:
        pass

    assert (backup.checkpoint, backup.exports[0].checkpoint) == (None, False)
    assert checkpoints.own_checkpoints(lane, web.uuid) == ()


class TestInTheWay:
    def test_a_second_backup_names_the_process_that_makes_the_first(self, lane: HostLane, web: Vm) -> None:
        with pull_backup.pulling(lane, web, checkpoint=None) as first:
            with pytest.raises(Conflict) as failure:
                pull_backup.begin(lane, web, checkpoint=None)

            assert pull_backup.how_it_goes(lane, first).over is None

        assert f"process {os.getpid()} of this machine" in failure.value.what
        assert failure.value.exit_code == ExitCode.CONFLICT

    def test_a_backup_of_another_program_is_named_and_left_alone(self, lane: HostLane, web: Vm, own_lab: Lab) -> None:
        folder = lane.host.scratch
        assert folder is not None
        job = (
            f"<domainbackup mode='pull'><server transport='unix' socket='{folder}/other.sock'/><disks><disk name='vda' "
            f"type='file'><scratch file='{folder}/other.vda'/></disk></disks></domainbackup>"
        )
        lane.run(lambda connection: connection.lookupByUUIDString(web.uuid).backupBegin(job, None))
        try:
            with pytest.raises(Conflict) as failure:
                pull_backup.begin(lane, web, checkpoint=checkpoints.new_name())
            cleared = pull_backup.clear_leftovers(lane, web)

            assert has_job(lane, web)
        finally:
            lane.run(lambda connection: connection.lookupByUUIDString(web.uuid).abortJob())
            assert wait_for(lambda: not has_job(lane, web))

        assert "a backup" in failure.value.what
        assert cleared == ()
        assert checkpoints.own_checkpoints(lane, web.uuid) == ()

    def test_a_block_job_is_named(self, lane: HostLane, web: Vm) -> None:
        folder = lane.host.scratch
        assert folder is not None
        target = folder / "copied.qcow2"
        disk = f"<disk type='file'><source file='{target}'/><driver type='qcow2'/></disk>"
        transient_job = 4
        lane.run(
            lambda connection: connection.lookupByUUIDString(web.uuid).blockCopy(
                "vda", disk, {"bandwidth": 1 << 20}, transient_job
            )
        )
        try:
            with pytest.raises(Conflict) as failure:
                pull_backup.begin(lane, web, checkpoint=None)
        finally:
            lane.run(lambda connection: connection.lookupByUUIDString(web.uuid).blockJobAbort("vda"))
            target.unlink()

        assert "a block copy of vda" in failure.value.what

    def test_a_vm_that_is_off_has_nothing_to_pull(self, lab: Lab) -> None:
        with lane_to(lab, "yavin") as yavin, pytest.raises(pull_backup.NothingToPull) as failure:
            pull_backup.begin(yavin, vm_of(yavin, "build"), checkpoint=None)

        assert failure.value.exit_code == ExitCode.PREFLIGHT

    def test_a_scratch_folder_that_qemu_may_not_write_is_named_and_nothing_stays(
        self, own_lab: Lab, lane: HostLane, web: Vm, tmp_path: Path
    ) -> None:
        if os.geteuid() != 0:
            pytest.skip("QEMU runs as this very user")
        folder = Path("/tmp") / f"nh-{os.getpid():x}"
        folder.mkdir(mode=0o700)
        elsewhere = HostLane(replace(lane.host, scratch=folder))
        try:
            with pytest.raises(scratch.ScratchUnusable) as failure:
                pull_backup.begin(elsewhere, web, checkpoint=checkpoints.new_name())
            left = files_in(folder)
        finally:
            elsewhere.close()
            folder.rmdir()

        assert str(folder) in failure.value.what
        assert left == []
        assert not has_job(lane, web)
        assert checkpoints.own_checkpoints(lane, web.uuid) == ()


class TestInTheMiddle:
    def test_a_guest_that_is_destroyed_ends_the_job_and_finish_cleans_up(self, lane: HostLane, web: Vm) -> None:
        backup = pull_backup.begin(lane, web, checkpoint=None)

        power_off(lane, web.uuid)
        progress = pull_backup.how_it_goes(lane, backup)
        pull_backup.finish(lane, backup)

        assert progress.over == "web on alderaan was switched off or crashed in the middle."

    def test_a_qemu_that_is_killed_leaves_no_files(self, own_lab: Lab, lane: HostLane, web: Vm) -> None:
        backup = pull_backup.begin(lane, web, checkpoint=None)

        for pid in own_lab.status().hosts[0].qemu_pids:
            if b"guest=web," in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
        assert wait_for(lambda: pull_backup.how_it_goes(lane, backup).over is not None)
        pull_backup.finish(lane, backup)

        assert files_in(lane.host.scratch) == []

    def test_a_job_that_somebody_ends_says_so(self, lane: HostLane, web: Vm) -> None:
        backup = pull_backup.begin(lane, web, checkpoint=None)

        lane.run(lambda connection: connection.lookupByUUIDString(web.uuid).abortJob())
        assert wait_for(lambda: not has_job(lane, web))

        assert "ended by somebody else" in (pull_backup.how_it_goes(lane, backup).over or "")
        pull_backup.finish(lane, backup)

    def test_a_restarted_daemon_still_knows_the_job(
        self, own_lab: Lab, lane: HostLane, web: Vm, tmp_path: Path
    ) -> None:
        backup = pull_backup.begin(lane, web, checkpoint=None)

        restart_daemon(own_lab, "alderaan")
        lane.forget_failure()
        progress = pull_backup.how_it_goes(lane, backup)
        copied = copy_export(backup.exports[0].address.uri("vda"), tmp_path / "vda")
        pull_backup.finish(lane, backup)

        assert progress.over is None
        assert len(journal_lines(copied)) > 0
        assert not has_job(lane, web)


class TestLeftovers:
    def test_the_job_of_a_killed_newhope_is_cleared_with_its_files(self, lane: HostLane, web: Vm) -> None:
        begin_in_a_process_that_is_killed(lane, web)
        assert has_job(lane, web)
        assert len(files_in(lane.host.scratch)) == 2

        done = pull_backup.clear_leftovers(lane, web)

        assert not has_job(lane, web)
        assert files_in(lane.host.scratch) == []
        assert "web" in done[0]
        assert pull_backup.clear_leftovers(lane, web) == ()

    def test_the_next_backup_clears_them_by_itself(self, lane: HostLane, web: Vm) -> None:
        begin_in_a_process_that_is_killed(lane, web)

        with pull_backup.pulling(lane, web, checkpoint=checkpoints.new_name()) as backup:
            assert pull_backup.how_it_goes(lane, backup).over is None

    def test_files_that_outlived_their_vm_are_cleared(self, own_lab: Lab, lane: HostLane, web: Vm) -> None:
        begin_in_a_process_that_is_killed(lane, web)
        own_lab.break_host("alderaan")
        own_lab.heal_host("alderaan")
        own_lab.wait_until_up("alderaan", "web")
        lane.forget_failure()
        assert files_in(lane.host.scratch) != []

        done = pull_backup.clear_leftovers(lane, web)

        assert files_in(lane.host.scratch) == []
        assert len(done) == 1

    def test_a_living_newhopes_job_is_left_alone(self, lane: HostLane, web: Vm) -> None:
        with pull_backup.pulling(lane, web, checkpoint=None) as backup:
            assert pull_backup.clear_leftovers(lane, web) == ()

            assert pull_backup.how_it_goes(lane, backup).over is None


def test_a_killed_process_while_frozen_leaves_neither_job_nor_frozen_guest(lane: HostLane, web: Vm) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\n"
        "from engine.hosts import HostLane, freeze, pull_backup, take_snapshot\n"
        "from engine.settings import Host\n"
        "lane = HostLane(Host('alderaan', sys.argv[1], scratch=Path(sys.argv[2])))\n"
        "vm = next(vm for vm in take_snapshot(lane).vms if vm.name == 'web')\n"
        "with freeze.frozen(lane.host, lane, vm.uuid):\n"
        "    pull_backup.begin(lane, vm, checkpoint=None)\n"
        f"    os.kill(os.getpid(), {int(signal.SIGKILL)})\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code, lane.host.uri, str(lane.host.scratch)],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        check=False,
    )

    assert killed.returncode == -signal.SIGKILL
    assert wait_for(lambda: thaw.freeze_status(lane, web.uuid) == "thawed")
    assert len(pull_backup.clear_leftovers(lane, web)) == 1
