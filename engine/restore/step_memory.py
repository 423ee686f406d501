"""The guest's memory: put beside the disks for the start that uses it, and taken away after."""

from __future__ import annotations

from functools import partial

from engine.hosts import power, saved_state, volumes
from engine.hosts.model import Definition, VmState
from engine.jobs import StepHandle
from engine.repository import as_disk
from engine.restore.made_names import memory_volume
from engine.restore.step_disks import sink_of, write_disk
from engine.restore.step_vm import adapted
from engine.restore.steps import MEMORY, Step
from engine.restore.work import Work


def put(work: Work, step: Step, handle: StepHandle) -> str:
    """Write it to a volume; one that is there from a run that was cut off is written anew."""
    file = next(file for file in work.point.manifest.files if file.role == MEMORY)
    pool, name = work.request.pool, memory_volume(work.request)
    handle.expect(file.size_bytes)
    volumes.delete(work.lane, pool, name)
    path = volumes.create(work.lane, pool, name, "raw", file.size_bytes)
    with sink_of(work, path, "raw") as sink:
        write_disk(
            work.reader,
            as_disk(file),
            sink,
            handle.advance,
            work.raise_if_to_stop,
            turn=partial(work.pace.stream, MEMORY),
        )
    return ""


def wake(work: Work, step: Step, handle: StepHandle) -> str:
    """Let the VM go on from its memory; one that runs is fine. The volume of its memory is not needed after that."""
    uuid, pool, name = work.request.new_uuid, work.request.pool, memory_volume(work.request)
    if power.vm_state(work.lane, uuid) in (VmState.OFF, VmState.CRASHED):
        path = volumes.path_of(work.lane, pool, name)
        made_with = Definition(live=None, inactive=saved_state.definition_in(work.lane, path))
        saved_state.bring_back(work.lane, path, adapted(work, made_with).inactive, uuid)
    power.resume(work.lane, uuid)
    volumes.delete(work.lane, pool, name)
    return "it goes on where it stood"
