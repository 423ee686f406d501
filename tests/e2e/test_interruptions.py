"""What is left when a job, a terminal or a host dies: nothing half done, nothing lost, and a way on."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine import nbd
from engine.backup.moment import How, Marks, fixed_moment
from engine.backup.vm_notes import VmNotes
from engine.backup.watching import BackupInterrupted
from engine.errors import NewhopeError
from engine.fleet import open_repository
from engine.hosts import agent, checkpoints, power_off, start, take_snapshot
from engine.jobs import Job, JobState
from engine.lab import Lab
from engine.lab.journal import ask_journal
from engine.settings import Method
from tests.command import newhope
from tests.e2e.conftest import Operator
from tests.waiting import wait_for

pytestmark = pytest.mark.lab

KILL_AFTER_S = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)


def running(operator: Operator, job: Job) -> Job:
    found = wait_for(
        lambda: (now := operator.journal.job(job.id)).state is not JobState.QUEUED and now, what="the start"
    )
    assert isinstance(found, Job)
    return found


def kill(job: Job) -> None:
    assert job.pid
    try:
        os.kill(job.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def journal_line(operator: Operator, name: str) -> int | None:
    """The guest's last acknowledged line; None while its agent refuses to run anything."""
    vm = operator.vm(name)
    try:
        return ask_journal(operator.lanes[vm.host], vm.uuid).acked
    except NewhopeError:
        return None


def scratch_files(operator: Operator, host: str) -> list[str]:
    folder = next(each.scratch for each in operator.settings.hosts if each.name == host)
    assert folder is not None
    return sorted(path.name for path in folder.iterdir())


def pool_files(operator: Operator, host: str) -> set[str]:
    (pool,) = take_snapshot(operator.lanes[host]).pools
    assert pool.path
    return {path.name for path in Path(pool.path).iterdir()}


def test_a_backup_killed_at_any_moment_leaves_a_thawed_guest_and_no_half_recovery_point(operator: Operator):
    vm = operator.vm("web")
    lane = operator.lanes[vm.host]
    lost = 0

    for delay_s in KILL_AFTER_S:
        points = len(operator.points("web"))
        job = running(operator, operator.start_backup("web"))
        time.sleep(delay_s)
        kill(job)
        job = operator.finish(job)

        assert job.state in (JobState.LOST, JobState.DONE)
        if job.state is JobState.LOST:
            lost += 1
            assert job.failure
            assert "newhope" in job.failure.next_step
            assert len(operator.points("web")) in (points, points + 1)
        # A job killed while the guest is frozen leaves the thaw to the guard; until then the agent runs nothing.
        wait_for(lambda: journal_line(operator, vm.name) is not None, 90, what="the thaw")
        before = ask_journal(lane, vm.uuid).acked
        wait_for(lambda seen=before: ask_journal(lane, vm.uuid).acked > seen + 1, 60, what="the guest's next writes")
    assert lost > 0

    point = operator.back_up("web")

    assert point.manifest.read_bytes > 0
    assert scratch_files(operator, vm.host) == []
    with open_repository(operator.settings.repositories[0]) as repository:
        assert repository.damaged == ()


def test_a_cancelled_restore_takes_back_what_it_made(operator: Operator):
    point = operator.back_up("web")
    untouched = pool_files(operator, "yavin")
    job = running(operator, operator.start_restore(operator.plan_restore(point, "yavin", name="cancelled")))

    operator.journal.ask_cancel(job.id)
    job = operator.finish(job)

    if job.state is JobState.CANCELLED:
        assert pool_files(operator, "yavin") == untouched
        assert "cancelled" not in {vm.name for vm in take_snapshot(operator.lanes["yavin"]).vms}
    else:
        # It was past the last point at which stopping is clean: then the VM is whole.
        assert job.state in (JobState.DONE, JobState.WARN)


def test_a_restore_outlives_the_terminal_it_was_started_from(operator: Operator):
    operator.back_up("web")
    known = {job.id for job in operator.journal.jobs()}
    command = newhope(
        operator.lab.settings_file, "restore", "web@latest", "--to", "yavin", "--name", "outlives", "--yes"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(command[0], command)

    def started() -> Job | None:
        return next((job for job in operator.journal.jobs() if job.id not in known and job.kind == "restore"), None)

    job = wait_for(started, what="the job")
    assert isinstance(job, Job)
    os.close(terminal)
    os.waitpid(pid, 0)

    job = operator.finish(job)

    assert job.state is JobState.DONE
    listed = subprocess.run(newhope(operator.lab.settings_file, "jobs", "--json"), capture_output=True, check=True)
    assert any(each["id"] == job.id for each in json.loads(listed.stdout)["jobs"])
    assert agent.ping(operator.lanes["yavin"], operator.vm("outlives").uuid)
    operator.remove("yavin", "outlives")


def test_a_vm_comes_up_elsewhere_when_its_host_is_dead(operator: Operator, lab: Lab):
    point = operator.back_up("web")
    lab.break_host("alderaan")
    try:
        done = subprocess.run(
            newhope(operator.lab.settings_file, "restore", "web@latest", "--to", "coruscant", "--yes"),
            capture_output=True,
            text=True,
        )

        assert done.returncode == 0, done.stdout + done.stderr
        (restored,) = [vm for vm in take_snapshot(operator.lanes["coruscant"]).vms if vm.name == "web"]
        assert restored.uuid != point.manifest.vm.uuid
        assert ask_journal(operator.lanes["coruscant"], restored.uuid).found_last > 0
        operator.remove("coruscant", "web")
    finally:
        lab.heal_host("alderaan")
        lab.wait_until_up("alderaan", "web")


def test_a_backup_of_a_vm_on_a_dead_host_fails_in_one_sentence(operator: Operator, lab: Lab):
    lab.break_host("yavin")
    try:
        done = subprocess.run(
            newhope(operator.lab.settings_file, "backup", "build", "--yes"), capture_output=True, text=True
        )

        assert done.returncode in (4, 5)
        assert "Traceback" not in done.stderr
        assert "yavin" in done.stderr
    finally:
        lab.heal_host("yavin")


def test_a_vm_that_is_switched_off_during_its_backup_is_named_as_the_reason(operator: Operator):
    vm = operator.vm("web")
    lane = operator.lanes[vm.host]
    known = len(operator.points("web"))
    try:
        marks = Marks(checkpoints.new_name())
        with (
            pytest.raises(BackupInterrupted) as interrupted,
            fixed_moment(lane, vm, How(Method.HOT), marks, VmNotes(operator.settings.state), None) as moment,  # type: ignore[arg-type]
        ):
            power_off(lane, vm.uuid)
            for source in moment.disks:
                with nbd.Client.connect(source.address, source.export) as client:
                    client.read_into(0, memoryview(bytearray(4096)))

        assert "web" in interrupted.value.what
        assert len(operator.points("web")) == known
        assert scratch_files(operator, vm.host) == []
    finally:
        start(lane, vm.uuid)
        agent.wait_until_answering(lane, vm.uuid, timeout_s=120)


def test_a_full_repository_fails_the_backup_and_keeps_every_earlier_point(operator: Operator, tmp_path: Path):
    full = tmp_path / "full"
    full.mkdir()
    settings = tmp_path / "newhope.toml"
    text = operator.lab.settings_file.read_text()
    settings.write_text(text.replace(str(operator.settings.repositories[0].path), str(full)))
    settings.chmod(0o600)
    script = (
        f'mount -t tmpfs -o size=4m tmpfs "{full}" && "$0" -m engine.cli --config "{settings}" repo init'
        f' >/dev/null && "$0" -m engine.cli --config "{settings}" backup web --yes'
    )
    namespace = ["unshare", "--mount"] + ([] if os.geteuid() == 0 else ["--user", "--map-root-user"])

    done = subprocess.run([*namespace, "sh", "-c", script, sys.executable], capture_output=True, text=True)

    if done.stderr.startswith("unshare:"):
        pytest.skip(f"no file system of its own here: {done.stderr.strip()}")
    assert done.returncode == 8, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    vm = operator.vm("web")
    before = ask_journal(operator.lanes[vm.host], vm.uuid).acked
    wait_for(lambda: ask_journal(operator.lanes[vm.host], vm.uuid).acked > before, 60, what="the guest's next write")
    assert scratch_files(operator, vm.host) == []


def test_a_guest_whose_freeze_was_not_undone_by_its_job_is_thawed_all_the_same(operator: Operator):
    vm = operator.vm("web")
    lane = operator.lanes[vm.host]
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from engine.hosts import HostLanes, freeze\n"
        "from engine.settings import load\n"
        "settings = load(Path(sys.argv[1]))\n"
        "lanes = HostLanes(settings)\n"
        "lane = lanes[sys.argv[2]]\n"
        "with freeze.frozen(lane.host, lane, sys.argv[3], freeze_timeout_s=30) as outcome:\n"
        "    assert outcome.frozen, outcome.note\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )

    done = subprocess.run([sys.executable, "-c", code, str(operator.lab.settings_file), vm.host, vm.uuid])

    assert done.returncode == -signal.SIGKILL
    wait_for(lambda: journal_line(operator, vm.name) is not None, 90, what="the thaw")
    before = ask_journal(lane, vm.uuid).acked
    wait_for(lambda: ask_journal(lane, vm.uuid).acked > before, 60, what="the guest's next write")
