"""The demo's two stories, told in lines with figures while they happen for real.

The main job: hosts are found, every VM is backed up, the busy ones hot while they write, one is restored to another
host, boots, answers, and its journal is held against the original's. Nothing is told that was not seen.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from engine import backup, restore
from engine.cli.command_line import in_folder
from engine.cli.launching import launch_backup, launch_restore
from engine.cli.wording import count, size
from engine.errors import NewhopeError
from engine.fleet import Fleet, gather, newest_point
from engine.hosts import HostLane, HostLanes, find_vm, power_off, take_snapshot, undefine, volumes
from engine.hosts.model import AgentState, HostStatus, Vm, VmState
from engine.jobs import Job, JobState, Journal, follow
from engine.lab import Lab
from engine.lab.journal import JournalStatus, ask_journal, prove
from engine.repository import Point
from engine.settings import Settings
from engine.settings.model import Method

HERO = "web"
TO_HOST = "coruscant"
POINTS_OF_HISTORY = 2


class DemoFailed(NewhopeError):
    """The demo did not see what it must see."""


class _Story:
    """A story under way: its clock, and what it works on."""

    def __init__(self, folder: Path | None) -> None:
        self._begun = time.monotonic()
        self._open = ExitStack()
        self.lab = Lab.up(folder, tell=self.tell)
        self.settings: Settings = self.lab.settings
        self.lanes = self._open.enter_context(HostLanes(self.settings))
        self.journal = self._open.enter_context(Journal(self.settings.state))

    def __enter__(self) -> _Story:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def tell(self, text: str) -> None:
        """One line with the time since the story began."""
        print(f"{time.monotonic() - self._begun:6.1f} s  {text}", flush=True)  # noqa: T201

    def fleet(self) -> Fleet:
        """Hosts, VMs and recovery points as they are now."""
        return gather(self.settings, self.lanes)

    def back_up(self, vm: Vm, method: Method = Method.HOT) -> Job:
        """Make a recovery point of one VM, as a job."""
        repository = self.settings.repositories[0].name
        request = backup.Request(vm.uuid, vm.name, vm.host, repository, method)
        return self._finish(launch_backup(self.settings, self.journal, request))

    def restore(self, plan: restore.RestorePlan) -> Job:
        """Run a planned restore, as a job."""
        return self._finish(launch_restore(self.settings, self.journal, plan))

    def _finish(self, job: Job) -> Job:
        for seen in follow(self.journal, job.id):
            job = seen
        if job.state not in (JobState.DONE, JobState.WARN):
            failure = job.failure
            raise DemoFailed(
                failure.what if failure else f"Job {job.id} ended as {job.state.value}.",
                untouched=failure.untouched if failure else "The lab is as it was.",
                next_step=f"newhope --config {self.settings.file} jobs log {job.id}",
            )
        return job


def tell_main_job(folder: Path | None) -> None:
    """Tell the main job. Raises a `NewhopeError` unless everything that it must show has happened."""
    with _Story(folder) as story:
        fleet = story.fleet()
        vms = _tell_hosts(story, fleet)
        hero = next(vm for vm in vms if vm.name == HERO)
        before = ask_journal(story.lanes[hero.host], hero.uuid)
        story.tell(f"{HERO} writes and has acknowledged line {before.acked} of its journal. Backing up every VM:")
        after = _back_up_all(story, vms, hero)
        point = newest_point(story.fleet(), hero.uuid)
        if point is None or point.manifest.method != Method.HOT.value:
            raise DemoFailed(f"{HERO} has no hot recovery point.", next_step="newhope points shows what there is.")
        _restore_and_compare(story, hero, point, before, after)
        story.tell("Everything happened as it must.")
        look_around, remove = f"newhope --config {story.settings.file}", f"newhope lab down{in_folder(folder)}"
        story.tell(f"The lab stays up. Look around: {look_around}   Remove it: {remove}")


def prepare_history(folder: Path | None) -> Path:
    """Start the lab and make sure that every VM has some recovery points; answers the lab's settings file."""
    with _Story(folder) as story:
        vms = _tell_hosts(story, story.fleet())
        for _ in range(POINTS_OF_HISTORY):
            fleet = story.fleet()
            for vm in vms:
                if sum(point.manifest.vm.uuid == vm.uuid for point in fleet.points) < POINTS_OF_HISTORY:
                    story.tell(_first_sentence(story.back_up(vm)))
        return story.settings.file


def _tell_hosts(story: _Story, fleet: Fleet) -> tuple[Vm, ...]:
    silent = [snapshot.host for snapshot in fleet.snapshots if snapshot.status is not HostStatus.ONLINE]
    if silent:
        raise DemoFailed(
            f"{', '.join(silent)} of the lab does not answer.",
            next_step=f"newhope lab reset --dir {story.lab.folder}",
        )
    practice = {guest.name for guest in story.lab.guests}
    vms = tuple(vm for snapshot in fleet.snapshots for vm in snapshot.vms if vm.name in practice)
    running = sum(vm.state is VmState.RUNNING for vm in vms)
    story.tell(
        f"Found {count(len(fleet.snapshots), 'host')} with {count(len(vms), 'VM')}, {running} of them running,"
        f" and {count(len(fleet.points), 'recovery point')}."
    )
    return vms


def _back_up_all(story: _Story, vms: Sequence[Vm], hero: Vm) -> JournalStatus:
    after: JournalStatus | None = None
    for vm in vms:
        story.tell(_first_sentence(story.back_up(vm)))
        if vm.uuid == hero.uuid:
            after = ask_journal(story.lanes[hero.host], hero.uuid)
    if after is None:
        raise DemoFailed(f"The lab has no {HERO}.", next_step="newhope lab reset")
    return after


def _restore_and_compare(story: _Story, hero: Vm, point: Point, before: JournalStatus, after: JournalStatus) -> None:
    request = restore.Request(point.repository, hero.uuid, point.id, TO_HOST)
    plan = restore.plan(story.settings, story.fleet(), request)
    story.tell(f"Restoring {HERO}@{point.id[:8]} to {TO_HOST} as {plan.request.name}, {size(plan.size_bytes)}:")
    source, target = story.lanes[hero.host], story.lanes[TO_HOST]
    try:
        story.tell(_first_sentence(story.restore(plan)))
        restored = find_vm(take_snapshot(target), plan.request.new_uuid)
        if restored.agent is not AgentState.CONNECTED:
            raise DemoFailed(f"The agent of {restored.name} did not answer.", next_step="newhope jobs log")
        proof = prove((source, hero.uuid), (target, restored.uuid), before, after)
        story.tell(
            f"It came back with line {proof.found_last}: everything up to {proof.acked_before}, acknowledged before"
            f" the backup, and nothing after {proof.acked_after + 1}. {proof.compared_bytes} bytes of its journal equal"
            f" the original's, byte for byte; its payload has the right checksum."
        )
    finally:
        _remove(target, plan.request)


def _remove(lane: HostLane, request: restore.Request) -> None:
    """Take the restored VM away again, so that the demo can be told as often as one likes."""
    snapshot = take_snapshot(lane)
    made = next((vm for vm in snapshot.vms if vm.uuid == request.new_uuid), None)
    if made is None:
        return
    if made.state is not VmState.OFF:
        power_off(lane, made.uuid)
    undefine(lane, made.uuid)
    paths = [disk.source for disk in made.disks if disk.source] + [*made.boot_files]
    if made.nvram:
        paths.append(made.nvram)
    for path in paths:
        volumes.delete(lane, request.pool, Path(path).name)


def _first_sentence(job: Job) -> str:
    return job.result.split(". ")[0].rstrip(".") + "."
