"""How each kind of step is done, and how it is undone: the one table that run and undo both follow.

Every deed and every undo works from whatever an earlier, cut off attempt has left.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from engine.hosts import scratch, take_snapshot, volumes
from engine.jobs import StepHandle
from engine.restore import (
    step_boot_files,
    step_disks,
    step_guest,
    step_instant,
    step_memory,
    step_original,
    step_target,
    step_vm,
)
from engine.restore.steps import Step, StepKind
from engine.restore.work import Ground, Work


class Way(Struct, frozen=True):
    """How one kind of step is done and undone."""

    do: Callable[[Work, Step, StepHandle], str]
    """Carry it out; answers what is worth noting."""
    undo: Callable[[Ground, Step], None]
    what: str
    """What its undo takes away, in words."""


def _nothing(ground: Ground, step: Step) -> None:
    return


def _delete_volumes(ground: Ground, step: Step) -> None:
    """Delete the volumes of a step that no VM uses; only those that were written down before they were made."""
    used = {
        path.rpartition("/")[2]
        for vm in take_snapshot(ground.lane).vms
        for path in (*(disk.source for disk in vm.disks), *vm.boot_files, vm.nvram)
        if path
    }
    scratch.clear_sockets(ground.lane, ground.request.new_uuid)
    for made in ground.entry.made:
        if made.step == step.key and made.name not in used:
            volumes.delete(ground.lane, made.pool, made.name)


WAYS = {
    StepKind.CHECK: Way(step_target.check, _nothing, "nothing"),
    StepKind.NOTE: Way(step_target.leave, _delete_volumes, "the note on the host"),
    StepKind.SERVE: Way(step_instant.serve, step_instant.end_server, "the server of the recovery point"),
    StepKind.OVERLAY: Way(step_instant.overlay, _delete_volumes, "the volumes of {of}"),
    StepKind.WRITE: Way(step_disks.write, _delete_volumes, "the volume of {of}"),
    StepKind.VERIFY: Way(step_disks.verify, _nothing, "nothing"),
    StepKind.BOOT_FILES: Way(step_boot_files.put, _delete_volumes, "its boot files"),
    StepKind.MEMORY: Way(step_memory.put, _delete_volumes, "the volume of its memory"),
    StepKind.STOP: Way(step_original.stop, step_original.start_again, "the original's rest"),
    StepKind.ASIDE: Way(step_original.set_aside, step_original.put_back, "the original's other name"),
    StepKind.DEFINE: Way(step_vm.define, step_vm.undefine, "the VM"),
    StepKind.TRACK: Way(step_vm.track, _nothing, "nothing"),
    StepKind.START: Way(step_vm.start, step_vm.switch_off, "the running VM"),
    StepKind.WAKE: Way(step_memory.wake, step_vm.switch_off, "the running VM"),
    StepKind.ASK: Way(step_guest.ask, _nothing, "nothing"),
    StepKind.GUEST_CHECK: Way(step_guest.check, _nothing, "nothing"),
    StepKind.WATCH: Way(step_guest.watch, _nothing, "nothing"),
    StepKind.MOVE: Way(step_instant.move, _nothing, "nothing"),
    StepKind.LET_GO: Way(step_instant.let_go, _nothing, "nothing"),
}
