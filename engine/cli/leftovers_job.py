"""The job that puts right what dead jobs have left on one VM: what was shown, as far as it is still so."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from engine import backup
from engine.backup import Leftover
from engine.cli.command_line import with_config
from engine.cli.launching import job_command, keys_for
from engine.errors import NewhopeError
from engine.fleet import gather
from engine.hosts import HostLanes, find_vm, take_snapshot
from engine.jobs import Job, JobContext, Journal, launch
from engine.settings import Settings

REPAIR_VM = "repair-vm"


class LeftoversJob(Struct, frozen=True):
    """What a repair's process is told."""

    host: str
    vm_uuid: str
    vm: str
    leftovers: tuple[Leftover, ...]


class NotPutRight(NewhopeError):
    """Something that dead jobs left on a VM is still there."""


def launch_repair_of_vm(settings: Settings, journal: Journal, spec: LeftoversJob) -> Job:
    """Repair one VM as a job of its own; raises `Conflict` while another one works on the VM."""
    return launch(
        journal,
        REPAIR_VM,
        spec.vm,
        spec.host,
        msgspec.json.encode(spec),
        lock=backup.lock_of_vm(spec.vm_uuid),
        argv_prefix=job_command(settings),
        again=with_config(settings.file, "newhope doctor --repair"),
        untouched="Every recovery point is as it was; what is not put right yet the next run puts right.",
        handed=keys_for(settings, *(each.name for each in settings.repositories)),
    )


def repair_vm(settings: Settings, job: Job, context: JobContext) -> str:
    """Put right what was shown, one after the other; one that resists does not keep the others."""
    spec = msgspec.json.decode(job.spec, type=LeftoversJob)
    context.plan([each.what for each in spec.leftovers])
    failed: list[NewhopeError] = []
    with HostLanes(settings) as lanes:
        lane = lanes[spec.host]
        vm = find_vm(take_snapshot(lane), spec.vm_uuid)
        # While this job holds the VM's lock no backup of it begins here, so what is needless now stays so.
        found = {(each.kind, each.name) for each in backup.leftovers_of(lane, vm, settings, gather(settings, lanes))}
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
    if failed:
        raise NotPutRight(
            f"{len(failed)} of {len(spec.leftovers)} things on {spec.vm} could not be put right: {failed[0].what}",
            untouched=failed[0].untouched,
            next_step=failed[0].next_step,
        )
    return f"{spec.vm} on {spec.host} is in order: {len(spec.leftovers)} put right."
