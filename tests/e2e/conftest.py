"""An operator at work on the lab: everything through jobs, as from the command line or the console."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import backup, restore
from engine.cli.launching import launch_backup, launch_restore
from engine.fleet import Fleet, gather, open_repository
from engine.hosts import HostLane, HostLanes, find_vm, power_off, take_snapshot, undefine, volumes
from engine.hosts.model import Vm, VmState
from engine.jobs import Job, Journal, Knobs, follow
from engine.lab import Lab
from engine.repository import Point
from engine.settings import Method, Settings


class Operator:
    """What an operator does and sees, in few words."""

    def __init__(self, lab: Lab, lanes: HostLanes, journal: Journal) -> None:
        self.lab = lab
        self.lanes = lanes
        self.journal = journal
        self.settings: Settings = lab.settings
        self._restored: list[restore.Request] = []

    def fleet(self) -> Fleet:
        return gather(self.settings, self.lanes)

    def vm(self, name: str) -> Vm:
        found = [vm for host in self.settings.hosts for vm in take_snapshot(self.lanes[host.name]).vms]
        return next(vm for vm in found if vm.name == name)

    def lane(self, name: str) -> HostLane:
        return self.lanes[self.vm(name).host]

    def start_backup(self, name: str, method: Method = Method.HOT) -> Job:
        vm = self.vm(name)
        request = backup.Request(vm.uuid, vm.name, vm.host, self.settings.repositories[0].name, method)
        return launch_backup(self.settings, self.journal, request)

    def finish(self, job: Job) -> Job:
        for seen in follow(self.journal, job.id):
            job = seen
        return job

    def back_up(self, name: str, method: Method = Method.HOT) -> Point:
        known = {point.id for point in self.points(name)}
        job = self.finish(self.start_backup(name, method))
        assert job.failure is None, job.failure
        (made,) = [point for point in self.points(name) if point.id not in known]
        return made

    def points(self, name: str) -> tuple[Point, ...]:
        with open_repository(self.settings.repositories[0]) as repository:
            return tuple(point for point in repository.points() if point.manifest.vm.name == name)

    def plan_restore(self, point: Point, to_host: str, **choices: Any) -> restore.RestorePlan:
        request = restore.Request(point.repository, point.manifest.vm.uuid, point.id, to_host, **choices)
        rates = restore.load_rates(self.settings.state)
        return restore.examined_plan(self.settings, self.lanes, self.fleet(), request, rates)

    def start_restore(self, plan: restore.RestorePlan, knobs: Knobs | None = None) -> Job:
        """As somebody does who has read every warning, and accepts it."""
        plan = restore.accepting(plan, [check.key for check in restore.open_warnings(plan.checks, ())])
        self._restored.append(plan.request)
        return launch_restore(self.settings, self.journal, plan, knobs)

    def restore(self, point: Point, to_host: str, **choices: Any) -> Vm:
        plan = self.plan_restore(point, to_host, **choices)
        assert not plan.blocked, plan.checks
        job = self.finish(self.start_restore(plan))
        assert job.failure is None, job.failure
        return find_vm(take_snapshot(self.lanes[to_host]), plan.request.new_uuid)

    def remove_restored(self) -> None:
        for request in self._restored:
            lane = self.lanes[request.to_host]
            for vm in take_snapshot(lane).vms:
                if vm.uuid == request.new_uuid:
                    _remove(lane, vm, request.pool)

    def remove(self, host: str, name: str) -> None:
        lane = self.lanes[host]
        (vm,) = [each for each in take_snapshot(lane).vms if each.name == name]
        _remove(lane, vm, "default")


def _remove(lane: HostLane, vm: Vm, pool: str) -> None:
    if vm.state is not VmState.OFF:
        power_off(lane, vm.uuid)
    undefine(lane, vm.uuid)
    for path in [*(disk.source for disk in vm.disks), *vm.boot_files, vm.nvram]:
        if path:
            volumes.delete(lane, pool, Path(path).name)


@pytest.fixture
def operator(lab: Lab) -> Iterator[Operator]:
    """An operator on the shared lab; what the test restored is removed at its end."""
    with HostLanes(lab.settings) as lanes, Journal(lab.settings.state) as journal:
        at_work = Operator(lab, lanes, journal)
        yield at_work
        at_work.remove_restored()
