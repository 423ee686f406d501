"""An instant restore: the VM runs on layers over the recovery point at once, and its disks move to their place then.

1. The recovery point is served by a process of its own (`point_server`), where QEMU on the host can connect.
2. For each disk two volumes are made: the empty one that it will lie in, and a layer over what is served, with which
   the VM is defined and started. Whatever the guest writes goes into the layer.
3. While the guest works, each disk is copied to its volume, and the VM goes on with that alone (`disk_move`). Dirty
   bitmaps that were begun in the layer come along (libvirt copies them when it pivots).
4. When the last disk is in its place, layers and server are taken away.

From its start on the VM holds what its guests' users wrote, so nothing undoes it by itself any more: a move that
fails, is cancelled or killed leaves the VM as it is, to be resumed or undone by an operator. A server that dies is
started again by the move; without one, the guest pauses at the first block that it lacks.
"""

from __future__ import annotations

import time
from pathlib import Path

from msgspec import structs

from engine.errors import ExitCode, NewhopeError
from engine.hosts import disk_move, image, power, served_disks, volumes
from engine.hosts.model import VmState
from engine.jobs import Cancelled, StepHandle
from engine.nbd import UnixAddress
from engine.restore import point_server
from engine.restore.journal import Serving
from engine.restore.made_names import overlay_volume
from engine.restore.model import RestoredDisk
from engine.restore.step_disks import record_of, restored_disk
from engine.restore.step_vm import definition_of_point
from engine.restore.steps import Step, StepKind
from engine.restore.work import Ground, Work

_POLL_S = 0.5
_STANDSTILL = 1
"""Bytes a second of a move that is paused: libvirt knows no slower one."""
_MOST_BEGINNINGS = 6
"""Of one disk: a server that comes back costs two, a block that is damaged all."""
_OFF = (VmState.OFF, VmState.CRASHED)


class DiskNotMoved(NewhopeError):
    """The disk of a VM that runs could not be moved to its place; the VM has it where it was."""

    exit_code = ExitCode.FAILED


class GuestStopped(NewhopeError):
    """The guest of an instant restore is paused, because a disk cannot be read."""

    exit_code = ExitCode.GUEST


def serve(work: Work, step: Step, handle: StepHandle) -> str:
    """Let the recovery point be served, and a guest that was stopped without it run again."""
    if work.entry.is_done(Step(StepKind.LET_GO).key) or (work.entry.disks and not _on_layers(work)):
        return "it is not needed any more"
    # Each time: its folder does not outlive a restart of this machine.
    socket = served_disks.socket_for(work.lane, work.entry.id)
    if work.entry.serving is None:
        serving = Serving(str(socket), served_disks.owner_of_socket(work.lane))
        work.note(lambda entry: structs.replace(entry, serving=serving))
    started = point_server.ensure(work.settings, work.journal, work.entry)
    if work.entry.begun(Step(StepKind.START).key):
        _resume(work)
    return f"at {_serving(work).socket}" if started else "it was served already"


def overlay(work: Work, step: Step, handle: StepHandle) -> str:
    """Make the volume of one disk, and the layer through which the VM has it until it is there."""
    record, disk = record_of(work, step), work.request.disk(step.of)
    name = overlay_volume(work.request, step.of)
    for left in (disk.volume, name):
        volumes.delete(work.lane, disk.pool, left)
    made = volumes.make_sure(work.lane, disk.pool, disk.volume, disk.format, record.size_bytes)
    layer = volumes.create(work.lane, disk.pool, name, "qcow2", record.size_bytes)
    image.put_over(layer, UnixAddress(_serving(work).socket).uri(step.of), files=work.lane.files)
    restored = structs.replace(restored_disk(record, disk, made), overlay=layer)
    work.note(lambda entry: entry.with_disk(restored))
    return ""


def move(work: Work, step: Step, handle: StepHandle) -> str:
    """Move one disk to its place while the guest works. Raises DiskNotMoved, GuestStopped, Cancelled."""
    disk = next(each for each in work.entry.disks if each.target == step.of)
    try:
        _moved(work, disk, handle)
    except Cancelled:
        disk_move.give_up(work.lane, work.request.new_uuid, step.of)
        raise
    in_its_place = structs.replace(disk, overlay="")
    work.note(lambda entry: entry.with_disk(in_its_place))
    work.context.log(f"{step.of} is in its place, {disk.path} ({disk.format})")
    return ""


def _moved(work: Work, disk: RestoredDisk, handle: StepHandle) -> None:
    lane, uuid = work.lane, work.request.new_uuid
    beginnings, told_bytes, first_pass_bytes = 0, 0, 0
    while disk_move.image_of(lane, uuid, disk.target) != disk.path:
        work.raise_if_to_stop()
        _get_ready(work)
        seen = disk_move.look(lane, uuid, disk.target)
        if seen is None:
            if beginnings == _MOST_BEGINNINGS:
                raise _not_moved(work, disk)
            beginnings, told_bytes = beginnings + 1, _begin_again(handle, told_bytes)
            disk_move.begin(
                lane, uuid, disk.target, disk.path, disk.format, block=disk.block, bytes_per_s=_allowed(work)
            )
            first_pass_bytes = 0
        else:
            first_pass_bytes = first_pass_bytes or seen.total_bytes
            allowed = _allowed(work, catches_up=seen.done_bytes >= first_pass_bytes)
            if seen.bytes_per_s != allowed:
                disk_move.set_speed(lane, uuid, disk.target, allowed)
            handle.expect(seen.total_bytes)
            handle.advance(seen.done_bytes - told_bytes)
            told_bytes = seen.done_bytes
        if seen is not None and seen.ready:
            disk_move.pivot(lane, uuid, disk.target)
        else:
            time.sleep(_POLL_S)


def _allowed(work: Work, *, catches_up: bool = False) -> int:
    """How fast QEMU may move a disk now, as the job's knobs say; 0 for as fast as it can.

    One that only catches up with its guest is not limited: a guest that writes faster than that would never be done.
    """
    knobs = work.context.knobs
    return _STANDSTILL if knobs.paused else 0 if catches_up else knobs.bandwidth or 0


def _begin_again(handle: StepHandle, told_bytes: int) -> int:
    handle.advance(-told_bytes)
    return 0


def let_go(work: Work, step: Step, handle: StepHandle) -> str:
    """Take layers and server away, now that nothing hangs on them."""
    lane, request = work.lane, work.request
    for disk in work.entry.disks:
        if disk_move.image_of(lane, request.new_uuid, disk.target) != disk.path:
            raise _not_moved(work, disk)
    disk_move.take_policies_from(lane, request.new_uuid, definition_of_point(work))
    for disk in request.disks:
        volumes.delete(lane, disk.pool, overlay_volume(request, disk.target))
    end_server(work, step)
    if work.entry.moved_while_off and power.vm_state(lane, request.new_uuid) is VmState.PAUSED:
        power.power_off(lane, request.new_uuid)
        return "its guest had been shut down, and is off again"
    return ""


def end_server(ground: Ground, step: Step) -> None:
    """End the server, if there is one, and remove the socket that a killed one has left."""
    point_server.end(ground.journal, ground.entry.id)
    if ground.entry.serving is not None:
        ground.lane.files.remove((Path(ground.entry.serving.socket),))


def _get_ready(work: Work) -> None:
    """See to it that the recovery point is served, and that the VM runs. Raises GuestStopped."""
    if point_server.ensure(work.settings, work.journal, work.entry):
        work.context.log("the server of the recovery point had ended, and was started again", level="warn")
    lane, uuid = work.lane, work.request.new_uuid
    if power.vm_state(lane, uuid) in _OFF:
        # Only a VM that runs can be moved. What its owner has shut down stays so: its guest is not let run.
        wanted = power.was_switched_off(lane, uuid)
        work.note(lambda entry: structs.replace(entry, moved_while_off=wanted))
        power.start(lane, uuid, paused=wanted)
        how = (
            "had been shut down; it is started, paused, for its disks to be moved"
            if wanted
            else "was off; it is started"
        )
        work.context.log(f"{work.request.name} {how}")
    _resume(work)


def _resume(work: Work) -> None:
    """Let a guest go on that was stopped without its server. Raises GuestStopped."""
    lane, uuid = work.lane, work.request.new_uuid
    if disk_move.stopped_by_error(lane, uuid) and not disk_move.let_run_again(lane, uuid):
        raise GuestStopped(
            f"{work.request.name} on {work.request.to_host} is paused: a disk cannot be read or written{_why(work)}.",
            **_way_on(work),
        )


def _not_moved(work: Work, disk: RestoredDisk) -> DiskNotMoved:
    return DiskNotMoved(
        f"{disk.target} of {work.request.name} could not be moved to {disk.path}{_why(work)}.", **_way_on(work)
    )


def _why(work: Work) -> str:
    said = point_server.look(work.journal, work.entry.id).said
    return f": the server of its recovery point said: {said[-1].rstrip('.')}" if said else ""


def _way_on(work: Work) -> dict[str, str]:
    identity = work.entry.id
    return {
        "untouched": f"What was written in {work.request.name} is kept; it still hangs on the recovery point.",
        "next_step": f"heal what is damaged in its repository (`newhope repo repair {work.request.repository}`, with"
        " --from a copy of it), and see whether its pool has room; then go on with `newhope restores resume"
        f" {identity}`, or take the VM away with `newhope restores undo {identity}`.",
    }


def _on_layers(work: Work) -> bool:
    return any(disk.overlay for disk in work.entry.disks)


def _serving(work: Work) -> Serving:
    assert work.entry.serving is not None  # noqa: S101 - noted by the first step
    return work.entry.serving
