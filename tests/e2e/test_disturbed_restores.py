"""A restore that is steered and disturbed while it runs: knobs, a repository that goes away, hosts that die under it.

Slowed down to a crawl first, so that each is met in the middle. What counts in the end: the bytes of the recovery
point, on both disks, and nothing left on the host.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from engine import backup, restore
from engine.cli.launching import launch_backup, launch_restore, launch_resume, launch_settlement
from engine.errors import ExitCode
from engine.fleet import create_repository, gather, open_repository
from engine.hosts import HostLanes, find_vm, take_snapshot, volumes
from engine.jobs import Job, JobState, Journal, Knobs, StepState, run
from engine.lab import Lab
from engine.lab.journal import ask_journal
from engine.repository import Consistency, Point, SyncRequest
from engine.repository.patience import NO_PATIENCE
from engine.repository.s3_storage import S3Storage
from engine.restore import AtEnd, DiskTarget, Entry, Mode, Phase, RestoreJournal, RestorePlan, Settlement
from engine.settings import Method, ObjectStorage
from engine.settings import Repository as RepositorySettings
from tests.command import newhope
from tests.e2e.conftest import Operator
from tests.e2e.restored import is_whole, what_is_there
from tests.hosts.live import in_guest, kill_qemu, lab_of_its_own, restart_daemon
from tests.repository.misbehaving_s3 import Rule, misbehaving
from tests.repository.s3_server import CREDENTIALS, s3_server
from tests.waiting import wait_for

pytestmark = [pytest.mark.lab, pytest.mark.slow]

CRAWL = Knobs(bandwidth=4 << 20, streams=1)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with lab_of_its_own(hosts=("alderaan", "coruscant"), guests=("db",)) as lab:
        yield lab


@pytest.fixture(scope="module")
def op(lab: Lab) -> Iterator[Operator]:
    with HostLanes(lab.settings) as lanes, Journal(lab.settings.state) as journal:
        yield Operator(lab, lanes, journal)


@pytest.fixture(scope="module")
def point(op: Operator) -> Point:
    db = op.vm("db")
    fill = "for disk in data second; do head -c 16000000 /dev/urandom > /$disk/filled; done; sync"
    in_guest(op.lanes[db.host], db, fill)
    return op.back_up("db")


@pytest.fixture
def nothing_left(op: Operator) -> Iterator[None]:
    before = what_is_there(op)
    yield
    assert what_is_there(op) == before


def written(job: Job) -> dict[str, int]:
    return {step.title: step.done_bytes for step in job.steps if step.title.startswith("write ")}


def crawling(op: Operator, point: Point, mode: Mode = Mode.DISKS, **choices: Any) -> tuple[RestorePlan, Job]:
    """A restore that has written some of both disks and goes on, slowly."""
    name = "" if mode is Mode.REPLACE else "crawling"
    plan = op.plan_restore(point, "coruscant", mode=mode, name=name, **choices)
    job = launch_restore(op.settings, op.journal, plan, CRAWL)
    wait_for(lambda: op.journal.job(job.id).state.over or all(written(op.journal.job(job.id)).values() or [0]))
    seen = op.journal.job(job.id)
    assert seen.failure is None, seen.failure
    writing = [step for step in seen.steps if step.title.startswith("write ")]
    assert [step.state for step in writing] == [StepState.RUN, StepState.RUN], "both disks, at once"
    return plan, seen


def at_full_speed(op: Operator, job: Job) -> Job:
    op.journal.turn_knobs(job.id, lambda knobs: replace(knobs, paused=False, bandwidth=None, streams=8))
    return op.finish(job)


def entry_of(op: Operator, plan: RestorePlan) -> Entry:
    return RestoreJournal(op.settings.state).find(plan.request.id)


def state_shown(op: Operator, plan: RestorePlan) -> dict[str, str]:
    command = newhope(op.lab.settings_file, "restores", "--json")
    shown = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["restores"]
    return next(each for each in shown if each["id"] == plan.request.id)


def undo(op: Operator, plan: RestorePlan) -> None:
    entry = entry_of(op, plan)
    job = op.finish(launch_settlement(op.settings, op.journal, entry, Settlement(entry.id, AtEnd.UNDO)))
    assert job.failure is None, job.failure
    assert entry_of(op, plan).phase is Phase.UNDONE


def remove(op: Operator, plan: RestorePlan) -> None:
    for disk in plan.request.disks:
        volumes.delete(op.lanes["coruscant"], disk.pool, disk.volume)


def goes_on(op: Operator, plan: RestorePlan) -> None:
    """The restore is interrupted, says so, and goes on to the last byte when it is told to."""
    assert state_shown(op, plan)["state"] == "interrupted"
    entry = entry_of(op, plan)
    job = op.finish(launch_resume(op.settings, op.journal, entry))
    assert job.failure is None, job.failure
    is_whole(op, plan)
    remove(op, plan)


def test_a_restore_is_paused_goes_on_faster_and_its_report_says_so(op: Operator, point: Point, nothing_left: None):
    plan, job = crawling(op, point)

    op.journal.turn_knobs(job.id, lambda knobs: replace(knobs, paused=True))
    wait_for(lambda: any("paused" in line.text for line in op.journal.log(job.id)))
    time.sleep(1)
    stood_at = op.journal.job(job.id)
    time.sleep(2)
    later = op.journal.job(job.id)
    assert written(later) == written(stood_at)
    assert later.heartbeat != stood_at.heartbeat
    job = at_full_speed(op, job)

    assert job.failure is None, job.failure
    is_whole(op, plan)
    with open_repository(op.settings.repositories[0]) as repository:
        (name,) = [name for name in repository.records("restores") if plan.request.id in name and name.endswith("md")]
        report = repository.record("restores", name).decode()
    assert "as it began | at most 4MiB/s, priority normal, 1 stream" in report
    assert "| paused, at most 4MiB/s, priority normal, 1 stream |" in report
    assert "| no limit, priority normal, 8 streams |" in report
    remove(op, plan)


def test_a_paused_restore_is_cancelled_and_takes_back_what_it_made(op: Operator, point: Point, nothing_left: None):
    plan, job = crawling(op, point)
    op.journal.turn_knobs(job.id, lambda knobs: replace(knobs, paused=True))
    wait_for(lambda: any("paused" in line.text for line in op.journal.log(job.id)))

    op.journal.ask_cancel(job.id)
    job = op.finish(job)

    assert job.state is JobState.CANCELLED
    assert entry_of(op, plan).phase is Phase.UNDONE


def test_a_repository_that_goes_away_interrupts_a_restore_that_then_goes_on(
    op: Operator, point: Point, nothing_left: None
):
    kept = op.settings.repositories[0]
    assert kept.path is not None
    plan, job = crawling(op, point)
    away = kept.path.with_name("away")

    kept.path.rename(away)
    try:
        job = at_full_speed(op, job)
    finally:
        away.rename(kept.path)

    assert job.failure is not None
    assert job.failure.exit_code == ExitCode.REPOSITORY
    assert f"The repository {kept.name} was lost in the middle of the restore" in job.failure.what
    assert f"newhope restores resume {plan.request.id}" in job.failure.next_step
    goes_on(op, plan)
    assert sum(disk.recognised_bytes for disk in entry_of(op, plan).disks) > 0


def test_a_bucket_that_answers_no_more_interrupts_a_restore_that_then_goes_on(
    op: Operator, point: Point, nothing_left: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    # Three minutes, as the operator has them, are tried in the tests of the storage.
    monkeypatch.setitem(S3Storage.__init__.__kwdefaults__, "patience", NO_PATIENCE)
    with s3_server() as server, misbehaving(server) as proxy:
        server.make_bucket("points")
        bucket_of_far = ObjectStorage("s3://points/vault", proxy.endpoint)
        far = RepositorySettings("far", Path(bucket_of_far.url), object_storage=bucket_of_far)
        with open_repository(op.settings.repositories[0]) as vault, create_repository(far, None) as bucket:
            sync = vault.sync_to(bucket, SyncRequest(), "a test")
            sync.run(sync.plan())
            (copy,) = bucket.points()
        settings = replace(op.settings, repositories=(far,))
        request = restore.Request("far", copy.manifest.vm.uuid, copy.id, "coruscant", mode=Mode.DISKS, name="crawling")
        plan = restore.plan(settings, gather(settings, op.lanes), request)

        def attempt(knobs: Knobs) -> threading.Thread:
            insert = {"kind": "restore", "subject": "db", "host": "coruscant", "spec": b"", "lock": None}
            job_id = op.journal.insert(**insert, again="", untouched="", knobs=knobs)
            work = lambda _, context: restore.run(settings, plan.request, context).sentence  # noqa: E731
            thread = threading.Thread(target=run, args=(op.journal, job_id, work))
            thread.start()
            return thread

        crawl = attempt(CRAWL)
        wait_for(lambda: op.journal.jobs(limit=1)[0].done_bytes > 0)
        proxy.rules.append(Rule("*", times=1_000_000, refuse=(503, "SlowDown")))
        op.journal.turn_knobs(op.journal.jobs(limit=1)[0].id, lambda knobs: replace(knobs, bandwidth=None))
        crawl.join()
        failed = op.journal.jobs(limit=1)[0]
        proxy.rules.clear()
        interrupted = state_shown(op, plan)["state"]
        attempt(Knobs(streams=6)).join()

    assert failed.failure is not None
    assert "The repository far was lost in the middle of the restore" in failed.failure.what
    assert interrupted == "interrupted"
    assert op.journal.jobs(limit=1)[0].failure is None
    is_whole(op, plan, point)
    remove(op, plan)


def test_a_target_that_dies_interrupts_a_restore_that_then_goes_on(
    op: Operator, point: Point, lab: Lab, nothing_left: None
):
    plan, job = crawling(op, point)

    lab.break_host("coruscant")
    try:
        job = at_full_speed(op, job)
    finally:
        lab.heal_host("coruscant")

    assert job.failure is not None
    assert job.failure.exit_code == ExitCode.HOST_UNREACHABLE
    assert "Host coruscant does not answer" in job.failure.what
    assert "the original's disks are as they were" in job.failure.untouched
    goes_on(op, plan)


def test_a_daemon_that_is_restarted_is_not_even_noticed_and_a_guest_that_dies_is_told_from_a_silent_one(
    op: Operator, point: Point, lab: Lab, nothing_left: None
):
    plan, job = crawling(op, point, mode=Mode.BESIDE)

    restart_daemon(lab, "coruscant")
    op.journal.turn_knobs(job.id, lambda knobs: replace(knobs, bandwidth=None))
    wait_for(lambda: op.journal.job(job.id).state.over or step_of(op, job, "ask its guest agent") is StepState.RUN)
    restored = find_vm(take_snapshot(op.lanes["coruscant"]), plan.request.new_uuid)
    kill_qemu(lab, op.lanes["coruscant"], restored)
    job = op.finish(job)

    assert job.state is JobState.WARN, job.failure
    assert f"{plan.request.name} went off while its agent was asked" in job.result
    op.remove("coruscant", plan.request.name)


def test_an_original_whose_host_dies_before_its_turn_is_as_it_was_after_an_undo(
    op: Operator, point: Point, lab: Lab, nothing_left: None
):
    plan, job = crawling(op, point, mode=Mode.REPLACE)

    lab.break_host("alderaan")
    try:
        job = at_full_speed(op, job)
        entry = entry_of(op, plan)
        early = op.finish(launch_settlement(op.settings, op.journal, entry, Settlement(entry.id, AtEnd.UNDO)))
    finally:
        lab.heal_host("alderaan")

    assert job.failure is not None
    assert "Host alderaan does not answer" in job.failure.what
    assert early.failure is None or "newhope restores undo" in early.failure.next_step
    if early.failure is not None:
        undo(op, plan)
    assert entry_of(op, plan).phase is Phase.UNDONE


def test_a_backup_is_slowed_down_and_paused_and_outlives_a_restart_of_its_daemon(op: Operator, point: Point, lab: Lab):
    db = op.vm("db")
    before = ask_journal(op.lanes[db.host], db.uuid)
    request = backup.Request(db.uuid, db.name, db.host, op.settings.repositories[0].name, Method.HOT, full=True)
    job = launch_backup(op.settings, op.journal, request)
    op.journal.turn_knobs(job.id, lambda knobs: replace(knobs, bandwidth=4 << 20))
    wait_for(lambda: any(step.title == "read vda" and step.done_bytes for step in op.journal.job(job.id).steps))

    op.journal.turn_knobs(job.id, lambda knobs: replace(knobs, paused=True))
    wait_for(lambda: any("paused" in line.text for line in op.journal.log(job.id)))
    restart_daemon(lab, db.host)
    op.journal.turn_knobs(job.id, lambda knobs: Knobs())
    job = op.finish(job)

    assert job.failure is None, job.failure
    assert op.back_up("db").manifest.consistency is Consistency.FILESYSTEM
    after = ask_journal(op.lanes[db.host], db.uuid)
    assert after.boot_id == before.boot_id
    assert after.acked > before.acked
    assert what_is_there(op)["sockets alderaan"] == []


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Path]:
    """A block device, larger than a disk, that is full of something else."""
    if os.geteuid() != 0:
        pytest.skip("only root makes loop devices")
    file = tmp_path / "device"
    noise = os.urandom(1 << 20)
    with file.open("wb") as out:
        for _ in range(300):
            out.write(noise)
    made = subprocess.run(["losetup", "--find", "--show", file], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"no loop device here: {made.stderr.strip()}")
    try:
        yield Path(made.stdout.strip())
    finally:
        subprocess.run(["losetup", "--detach", made.stdout.strip()], check=True)


def test_a_disk_is_written_over_a_block_device_and_goes_on_there_after_a_kill(
    op: Operator, point: Point, device: Path, nothing_left: None
):
    size_bytes = next(disk.size_bytes for disk in point.manifest.disks if disk.target == "vdb")
    behind = device.open("rb").read()[size_bytes:]
    disks = (DiskTarget("vdb", device=str(device)),)
    plan, job = crawling(op, point, Mode.BESIDE, disks=disks, start=False, accepted=("device",))

    assert job.pid is not None
    os.kill(job.pid, signal.SIGKILL)
    assert op.finish(job).state is JobState.LOST
    resumed = at_full_speed(op, launch_resume(op.settings, op.journal, entry_of(op, plan)))

    assert resumed.failure is None, resumed.failure
    is_whole(op, plan)
    assert device.open("rb").read()[size_bytes:] == behind
    assert {disk.target: disk.recognised_bytes > 0 for disk in entry_of(op, plan).disks} == {"vda": True, "vdb": True}
    restored = find_vm(take_snapshot(op.lanes["coruscant"]), plan.request.new_uuid)
    assert {disk.target: (disk.source, disk.source_kind) for disk in restored.disks}["vdb"] == (str(device), "block")
    op.remove("coruscant", plan.request.name)


def step_of(op: Operator, job: Job, title: str) -> StepState:
    return next(step.state for step in op.journal.job(job.id).steps if step.title == title)
