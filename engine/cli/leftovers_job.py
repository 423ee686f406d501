"""The job that puts right what dead jobs have left on one VM, or host: what was shown, as far as it is still so."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from engine import backup
from engine.backup import Leftover
from engine.cli.command_line import with_config
from engine.cli.launching import job_command, keys_for
from engine.errors import NewhopeError
from engine.fleet import Fleet, gather
from engine.hosts import HostLane, HostLanes, find_vm, take_snapshot
from engine.hosts.model import HostSnapshot, Vm
from engine.jobs import Job, JobContext, Journal, launch
from engine.settings import Settings

REPAIR_VM = "repair-vm"


class LeftoversJob(Struct, frozen=True):
    """What a repair's process is told."""

    host: str
    vm_uuid: str
    """Empty, as `vm` is, for what was left on a host of VMs that it no longer has."""
    vm: str
    leftovers: tuple[Leftover, ...]

    @property
    def where(self) -> str:
        """The VM on its host, or the host: all of them are there."""
        return self.leftovers[0].where


class NotPutRight(NewhopeError):
    """Something that dead jobs left on a VM is still there."""


def launch_repair_of_vm(settings: Settings, journal: Journal, spec: LeftoversJob) -> Job:
    """Repair one VM, or host, as a job of its own; raises `Conflict` while another one works on the VM."""
    return launch(
        journal,
        REPAIR_VM,
        spec.vm or "scratch files",
        spec.host,
        msgspec.json.encode(spec),
        lock=backup.lock_of_vm(spec.vm_uuid) if spec.vm_uuid else None,
        argv_prefix=job_command(settings),
        again=with_config(settings.file, "newhope doctor --repair"),
        untouched="Every recovery point is as it was; what is not put right yet the next run puts right.",
        handed=keys_for(settings, *(each.name for each in settings.repositories)),
    )


def vms_on_hosts(snapshots: Iterable[HostSnapshot]) -> tuple[Vm, ...]:
    """The VMs of all hosts: those of two may share a folder for scratch files."""
    return tuple(vm for snapshot in snapshots for vm in snapshot.vms)


def repair_vm(settings: Settings, job: Job, context: JobContext) -> str:
    """Put right what was shown, one after the other; one that resists does not keep the others."""
    spec = msgspec.json.decode(job.spec, type=LeftoversJob)
    context.plan([each.what for each in spec.leftovers])
    with HostLanes(settings) as lanes:
        lane = lanes[spec.host]
        fleet = gather(settings, lanes)
        failed: tuple[NewhopeError, ...] = ()
        if spec.vm_uuid:
            failed = _repair(settings, spec, lane, fleet, context)
        else:
            for leftover in spec.leftovers:
                with context.step(leftover.what) as step:
                    step.note(backup.put_right_on_host(lane, vms_on_hosts(fleet.snapshots)))
    if failed:
        raise NotPutRight(
            f"{len(failed)} of {len(spec.leftovers)} things on {spec.where} could not be put right: {failed[0].what}",
            untouched=failed[0].untouched,
            next_step=failed[0].next_step,
        )
    return f"{spec.where} is in order: {len(spec.leftovers)} put right."


def _repair(
    settings: Settings, spec: LeftoversJob, lane: HostLane, fleet: Fleet, context: JobContext
) -> tuple[NewhopeError, ...]:
    """Put right what was left on the VM; why what is still there is."""
    vm = find_vm(take_snapshot(lane), spec.vm_uuid)
    # While this job holds the VM's lock no backup of it begins here, so what is needless now stays so.
    found = {(each.kind, each.name) for each in backup.leftovers_of(lane, vm, settings, fleet)}
    failed: list[NewhopeError] = []
    for leftover in spec.leftovers:
        with context.step(leftover.what) as step:
            if (leftover.kind, leftover.name) not in found:
                step.note("It was put right already.")
                continue
            try:
                step.note(backup.put_right(lane, vm, leftover, settings))
            except NewhopeError as error:
                context.log(str(error), "error")
                step.note(f"FAILED: {error.what}")
                failed.append(error)
    return tuple(failed)
