"""Hosts that are reached over SSH, as another user: one directly, the other through a jump host."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from engine.cli.launching import launch_restore, launch_resume
from engine.errors import ExitCode, NewhopeError
from engine.hosts import HostLane, HostLanes, checkpoints, disk_move, freeze, image, pull_backup, volumes
from engine.hosts.model import VmState, Way
from engine.jobs import JobState, Journal, Knobs
from engine.lab import Lab
from engine.lab.journal import ask_journal, prove
from engine.repository import Consistency
from engine.restore import Mode, RestoreJournal
from engine.settings import Settings, save
from tests.command import newhope
from tests.e2e.conftest import Operator
from tests.e2e.restored import is_whole
from tests.hosts.live import in_guest, lab_of_its_own
from tests.left_by_the_dead import scratch_file
from tests.sshd import Sshd, descendants
from tests.waiting import wait_for

pytestmark = [pytest.mark.lab, pytest.mark.slow]


class Farm:
    """A lab whose hosts stand behind SSH servers; `gate` leads to yavin's."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.near, self.gate, self.far = (Sshd(folder, name) for name in ("kvm01", "gate", "kvm02"))
        self.far.behind(self.gate)
        for server in (self.near, self.gate, self.far):
            server.start()
        servers = {"alderaan": self.near, "yavin": self.far}
        hosts = tuple(
            replace(
                host,
                uri=f"{servers[host.name].uri('/session')}?socket={lab.layout.host(host.name).socket}",
                ssh_config=servers[host.name].config,
            )
            for host in lab.settings.hosts
        )
        self.settings: Settings = replace(lab.settings, hosts=hosts, file=lab.folder / "far.toml")
        save(self.settings, self.settings.file)

    def stop(self) -> None:
        for server in (self.near, self.gate, self.far):
            server.stop()


@pytest.fixture(scope="module")
def farm() -> Iterator[Farm]:
    folder = Path(tempfile.mkdtemp(prefix="nhs-", dir="/tmp"))
    folder.chmod(0o755)
    with lab_of_its_own(hosts=("alderaan", "yavin"), guests=("web", "build")) as lab:
        farm = Farm(lab, folder)
        try:
            yield farm
        finally:
            farm.stop()
            shutil.rmtree(folder)


@pytest.fixture
def operator(farm: Farm) -> Iterator[Operator]:
    with HostLanes(farm.settings) as lanes, Journal(farm.settings.state) as journal:
        at_work = Operator(farm.lab, lanes, journal)
        at_work.settings = farm.settings
        yield at_work
        at_work.remove_restored()


def doctor(farm: Farm, *words: str) -> tuple[int, dict[str, Any]]:
    command = newhope(farm.settings.file, "doctor", "--json", *words)
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


def scratch_files(farm: Farm, host: str) -> list[str]:
    return sorted(path.name for path in farm.lab.layout.host(host).scratch.iterdir())


def test_a_running_vm_is_backed_up_twice_and_restored_through_a_jump_host(farm: Farm, operator: Operator) -> None:
    web = operator.vm("web")
    lane, elsewhere = operator.lanes["alderaan"], operator.lanes["yavin"]
    first = operator.back_up("web")
    in_guest(lane, web, "head -c 3000000 /dev/urandom > /data/fresh; sync")
    before = ask_journal(lane, web.uuid)

    second = operator.back_up("web")
    after = ask_journal(lane, web.uuid)
    restored = operator.restore(second, "yavin")

    assert second.manifest.consistency is Consistency.FILESYSTEM
    (disk,) = second.manifest.disks
    assert disk.read_reason == f"what was written since web@{first.id[:8]}"
    assert prove((lane, web.uuid), (elsewhere, restored.uuid), before, after).compared_bytes > 0
    assert in_guest(elsewhere, restored, "md5sum < /data/fresh") == in_guest(lane, web, "md5sum < /data/fresh")
    assert scratch_files(farm, "alderaan") == scratch_files(farm, "yavin") == []


def test_a_vm_that_is_off_is_read_by_a_program_on_its_host_and_comes_back_byte_for_byte(
    farm: Farm, operator: Operator
) -> None:
    original = operator.vm("build")

    point = operator.back_up("build")
    restored = operator.restore(point, "alderaan", start=False)

    assert operator.vm("build").state is VmState.OFF
    assert point.manifest.consistency is Consistency.OFF
    (before,), (after,) = original.disks, restored.disks
    assert before.source and after.source and before.source != after.source
    assert image.same_content(before.source, after.source, formats=(before.format, after.format))
    assert scratch_files(farm, "alderaan") == scratch_files(farm, "yavin") == []


def test_the_host_says_what_it_is_as_if_it_were_here(farm: Farm, operator: Operator) -> None:
    fleet = operator.fleet()

    for snapshot in fleet.snapshots:
        assert snapshot.facts is not None, snapshot.reason
        assert (snapshot.facts.way, snapshot.facts.local) == (Way.SSH, False)
        assert snapshot.facts.missing_programs == ()
        machine = Path("/etc/machine-id")
        assert snapshot.facts.machine_id == (machine.read_text().strip() if machine.exists() else None)
        (pool,) = snapshot.pools
        room = os.statvfs(farm.lab.layout.host(snapshot.host).pool)
        assert abs(pool.available_bytes - room.f_bavail * room.f_frsize) < 4 << 30
    status, told = doctor(farm)
    assert (status, told["leftovers"], told["unseen"]) == (ExitCode.OK, [], [])
    for host in told["hosts"]:
        assert (host["way"], host["faults"], host["limits"]) == ("ssh", [], [])
        assert host["answered_in_s"] > 0
        assert host["scratch"]["folder"] == str(farm.lab.layout.host(host["host"]).scratch)
        assert host["scratch"]["free_bytes"] > 0


def test_a_link_that_is_cut_fails_the_backup_and_doctor_tells_cleans_up_and_the_next_one_goes_on(
    farm: Farm, operator: Operator
) -> None:
    web = operator.vm("web")
    lane = operator.lanes["alderaan"]
    operator.back_up("web")
    known = operator.points("web")
    in_guest(lane, web, "head -c 60000000 /dev/urandom > /data/fresh; sync")
    before = ask_journal(lane, web.uuid)
    job = operator.start_backup("web")
    deadline = time.monotonic() + 120
    while not any(step.title == "read vda" and step.started for step in operator.journal.job(job.id).steps):
        assert time.monotonic() < deadline
        time.sleep(0.01)

    # Not even a new login is let in: the job cannot end its work on the host.
    farm.near.stop()
    failed = operator.finish(job)
    farm.near.start()
    scratch_file(farm.lab.layout.host("alderaan").scratch, "be1c206f-e8b5-4f55-98cc-16aadc925c76")
    left, told = doctor(farm)
    repaired, done = doctor(farm, "--repair", "--yes")

    assert failed.state is JobState.FAIL
    assert failed.failure is not None
    assert "alderaan" in failed.failure.what
    assert operator.points("web") == known
    assert (left, repaired) == (ExitCode.FINDINGS, ExitCode.OK)
    assert {(each["vm"], each["kind"]) for each in told["leftovers"]} == {("web", "backup job"), ("", "scratch files")}
    assert {job["state"] for job in done["repair"]["jobs"]} == {"done"}
    assert scratch_files(farm, "alderaan") == []
    assert len(checkpoints.own_checkpoints(lane, web.uuid)) == 1
    point = operator.back_up("web")
    assert ask_journal(lane, web.uuid).boot_id == before.boot_id
    assert point.manifest.disks[0].read_reason.startswith("what was written since")
    assert point.manifest.consistency is Consistency.FILESYSTEM
    assert len(checkpoints.own_checkpoints(lane, web.uuid)) == 1


def test_a_link_that_is_cut_interrupts_a_restore_that_goes_on_when_it_is_back(farm: Farm, operator: Operator) -> None:
    in_guest(operator.lanes["alderaan"], operator.vm("web"), "head -c 16000000 /dev/urandom > /data/more; sync")
    point = operator.back_up("web")
    plan = operator.plan_restore(point, "alderaan", mode=Mode.DISKS, name="cut-off")
    job = launch_restore(operator.settings, operator.journal, plan, Knobs(bandwidth=4 << 20, streams=1))
    assert wait_for(lambda: operator.journal.job(job.id).done_bytes > 0)

    farm.near.stop()
    operator.journal.turn_knobs(job.id, lambda knobs: replace(knobs, bandwidth=None))
    failed = operator.finish(job)
    farm.near.start()

    assert failed.failure is not None
    assert failed.failure.exit_code == ExitCode.HOST_UNREACHABLE, failed.failure
    assert "Host alderaan does not answer" in failed.failure.what
    assert f"newhope restores resume {plan.request.id}" in failed.failure.next_step
    entry = RestoreJournal(operator.settings.state).find(plan.request.id)
    resumed = operator.finish(launch_resume(operator.settings, operator.journal, entry))
    assert resumed.failure is None, resumed.failure
    is_whole(operator, plan)
    for disk in plan.request.disks:
        volumes.delete(operator.lanes["alderaan"], disk.pool, disk.volume)
    assert scratch_files(farm, "alderaan") == []


def test_a_guest_that_was_started_at_once_waits_for_its_link_and_gets_its_disk_when_it_is_back(
    farm: Farm, operator: Operator
) -> None:
    web, lane, elsewhere = operator.vm("web"), operator.lanes["alderaan"], operator.lanes["yavin"]
    before = ask_journal(lane, web.uuid)
    point = operator.back_up("web")
    after = ask_journal(lane, web.uuid)
    plan = operator.plan_restore(point, "yavin", instant=True)
    assert not plan.blocked, plan.checks
    restores, uuid = RestoreJournal(operator.settings.state), plan.request.new_uuid
    job = operator.start_restore(plan, Knobs(bandwidth=64 << 10))
    assert wait_for(lambda: _is_being_moved(elsewhere, uuid))

    farm.far.stop()
    operator.journal.turn_knobs(job.id, lambda knobs: replace(knobs, bandwidth=None))
    failed = operator.finish(job)
    farm.far.start()
    elsewhere.forget_failure()
    assert failed.failure is not None
    assert f"newhope restores resume {plan.request.id}" in failed.failure.next_step
    resumed = operator.finish(launch_resume(operator.settings, operator.journal, restores.find(plan.request.id)))

    assert resumed.failure is None, resumed.failure
    assert prove((lane, web.uuid), (elsewhere, uuid), before, after).compared_bytes > 0
    (disk,) = restores.find(plan.request.id).disks
    assert disk_move.image_of(elsewhere, uuid, "vda") == disk.path
    assert image.info(disk.path, disk.format).backing is None
    assert scratch_files(farm, "yavin") == []


def _is_being_moved(lane: HostLane, uuid: str) -> bool:
    try:
        return disk_move.look(lane, uuid, "vda") is not None
    except NewhopeError:
        return False


def test_a_guest_whose_link_is_cut_while_it_is_frozen_is_thawed_when_the_link_is_back(
    farm: Farm, operator: Operator
) -> None:
    web = operator.vm("web")
    lane = operator.lanes["alderaan"]

    with (
        pytest.raises(NewhopeError) as told,
        freeze.frozen(lane.host, lane, web.uuid, freeze_timeout_s=60, thaw_timeout_s=3) as outcome,
    ):
        assert outcome.frozen, outcome.note
        farm.near.stop()
    farm.near.start()

    assert "web" in told.value.what
    lane.forget_failure()
    # Until our second process has got through too, the agent runs nothing.
    assert wait_for(lambda: _acked(lane, web.uuid) is not None)
    before = ask_journal(lane, web.uuid).acked
    assert wait_for(lambda: ask_journal(lane, web.uuid).acked > before)


def _acked(lane: HostLane, uuid: str) -> int | None:
    try:
        return ask_journal(lane, uuid).acked
    except NewhopeError:
        return None


def test_when_our_process_is_killed_nothing_of_it_stays_on_the_host(farm: Farm, operator: Operator) -> None:
    build = operator.vm("build")
    source = build.disks[0].source
    assert source is not None

    reader = os.fork()
    if reader == 0:
        try:
            with HostLanes(farm.settings) as lanes:
                lane = lanes["yavin"]
                socket = pull_backup.scratch.own_socket(lane, build.uuid)
                with image.serve(source, "qcow2", socket, reach=lane.reach):
                    time.sleep(600)
        finally:
            os._exit(1)
    serving = _wait_for_nbd(farm, source)
    os.kill(reader, 9)
    os.waitpid(reader, 0)

    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() and _is_alive(pid) for pid in serving):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert operator.back_up("build").manifest.consistency is Consistency.OFF


def _wait_for_nbd(farm: Farm, source: str) -> list[int]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        below = [pid for pid in descendants(farm.far.pid) if source.encode() in _command(pid)]
        if any(_command(pid).startswith(b"qemu-nbd") for pid in below):
            return below
        time.sleep(0.05)
    raise AssertionError("no qemu-nbd was started on the host")


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _is_alive(pid: int) -> bool:
    return _command(pid) != b""
