"""Fix one moment of all disks of a VM and hold it open for reading.

The guest is touched only between entering and the first line inside: on entry its state is frozen, shut down or left
alone, the moment is fixed, and it runs on. The exports stay readable until the context ends, which also ends the
libvirt job and removes its socket and scratch files, whatever happened inside.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime

from msgspec import Struct
from msgspec.structs import replace

from engine import nbd
from engine.backup.plan import data_disks
from engine.backup.vm_notes import VmNotes
from engine.backup.watching import watched
from engine.errors import Conflict
from engine.hosts import HostLane, bitmap_at_rest, freeze, image, power, pull_backup, scratch
from engine.hosts.model import AgentState, Disk, Vm, VmState
from engine.hosts.vm_note import Act
from engine.jobs import JobContext
from engine.repository.model import Consistency
from engine.settings.model import Method

SHUTDOWN_TIMEOUT_S = 180.0
FREEZE_TIMEOUT_S = 10.0


class DiskSource(Struct, frozen=True):
    """Where one disk can be read as it was at the moment."""

    target: str
    format: str
    address: nbd.Address
    export: str
    bitmap: str | None = None
    """The context that tells what was written since the checkpoint that was asked for; None to read all."""
    bitmap_lost: str = ""
    """Why there is none although one was asked for."""


class Marks(Struct, frozen=True):
    """Checkpoints of a backup: the new one, and those since which its disks are to tell what was written."""

    new: str
    since: dict[str, str] = {}
    """Name of a checkpoint by target of a disk."""


class Moment(Struct, frozen=True):
    """The moment of a recovery point, open for reading."""

    time: datetime
    disks: tuple[DiskSource, ...]
    consistency: Consistency
    note: str
    """How we know, in one sentence."""
    downtime_s: float
    checkpoint: str | None


@contextmanager
def fixed_moment(
    lane: HostLane, vm: Vm, method: Method, marks: Marks, notes: VmNotes, context: JobContext
) -> Generator[Moment]:
    """Fix the moment by the method that the VM's state allows, and hold it until the context ends."""
    if vm.state in (VmState.OFF, VmState.CRASHED):
        opened = _at_rest(lane, vm, marks)
    elif method is Method.COLD and vm.state is VmState.RUNNING:
        opened = _after_shutdown(lane, vm, marks, notes, context)
    elif all(disk.transient for disk in data_disks(vm)):
        opened = nullcontext(_without_pull())
    else:
        opened = _while_running(lane, vm, marks, notes)
    with opened as moment, ExitStack() as held:
        yield replace(moment, disks=(*moment.disks, *_transient_disks(lane, vm, moment, held)))


def _without_pull() -> Moment:
    note = "all its disks are transient: they are as it starts with them"
    return Moment(datetime.now(UTC), (), Consistency.OFF, note, downtime_s=0.0, checkpoint=None)


def _transient_disks(lane: HostLane, vm: Vm, moment: Moment, held: ExitStack) -> list[DiskSource]:
    """Transient disks of a running VM: QEMU serves them to nobody, and writes to a layer over them, which goes."""
    served = {source.target for source in moment.disks}
    waiting = (disk for disk in data_disks(vm) if disk.transient and disk.target not in served)
    return [_served_at_rest(lane, vm, disk, None, held) for disk in waiting]


@contextmanager
def _while_running(lane: HostLane, vm: Vm, marks: Marks, notes: VmNotes) -> Generator[Moment]:
    with ExitStack() as held:
        if vm.state is VmState.PAUSED:
            backup = _begin(lane, vm, marks, held)
            consistency, note = Consistency.CRASH, "the VM was paused by someone else and stayed so; nothing was frozen"
        elif vm.agent is AgentState.ABSENT:
            backup = _begin(lane, vm, marks, held)
            consistency, note = Consistency.CRASH, "the VM has no channel for a guest agent that could freeze it"
        else:
            with (
                notes.noted(lane, vm, Act.FROZEN),
                freeze.frozen(lane.host, lane, vm.uuid, freeze_timeout_s=FREEZE_TIMEOUT_S) as outcome,
            ):
                backup = _begin(lane, vm, marks, held)
            consistency = Consistency.FILESYSTEM if outcome.frozen else Consistency.CRASH
            note = outcome.note
        with watched(lane, backup):
            yield _moment(vm, backup, consistency, note, downtime_s=0.0)


@contextmanager
def _after_shutdown(lane: HostLane, vm: Vm, marks: Marks, notes: VmNotes, context: JobContext) -> Generator[Moment]:
    with ExitStack() as held:
        asked = time.monotonic()
        context.log(f"shutting {vm.name} down")
        with notes.noted(lane, vm, Act.SHUT_DOWN):
            power.shut_down(lane, vm.uuid, timeout_s=SHUTDOWN_TIMEOUT_S)
            backup = None
            try:
                power.start(lane, vm.uuid, paused=True)
                backup = _begin(lane, vm, marks, held)
            finally:
                # Whatever the start or the backup said, the guest's users get it back.
                _let_run(lane, vm)
        downtime_s = time.monotonic() - asked
        context.log(f"{vm.name} runs again after {downtime_s:.1f} s; its disks are read beside it")
        with watched(lane, backup):
            yield _moment(vm, backup, Consistency.OFF, "the guest had shut down cleanly", downtime_s=downtime_s)


def _let_run(lane: HostLane, vm: Vm) -> None:
    state = power.vm_state(lane, vm.uuid)
    if state is VmState.PAUSED:
        power.resume(lane, vm.uuid)
    elif state in (VmState.OFF, VmState.CRASHED):
        power.start(lane, vm.uuid)


@contextmanager
def _at_rest(lane: HostLane, vm: Vm, marks: Marks) -> Generator[Moment]:
    with ExitStack() as held:
        sources: list[DiskSource] = []
        for disk in data_disks(vm):
            sources.append(_served_at_rest(lane, vm, disk, marks.since.get(disk.target), held))
        if power.vm_state(lane, vm.uuid) not in (VmState.OFF, VmState.CRASHED):
            raise Conflict(
                f"{vm.name} was started while its disks were being opened.",
                untouched="It keeps running; no recovery point was made.",
                next_step=f"back it up again: newhope backup {vm.name}",
            )
        clean = vm.state is VmState.OFF and not vm.managed_save
        yield Moment(
            time=datetime.now(UTC),
            disks=tuple(sources),
            consistency=Consistency.OFF if clean else Consistency.CRASH,
            note=_how_it_was_off(vm),
            downtime_s=0.0,
            checkpoint=None,
        )


def _how_it_was_off(vm: Vm) -> str:
    if vm.managed_save:
        return "the VM was off with its memory saved on the host (managed save), which is not in the recovery point"
    return "the VM was off" if vm.state is VmState.OFF else "the VM had crashed and was off"


def _served_at_rest(lane: HostLane, vm: Vm, disk: Disk, since: str | None, held: ExitStack) -> DiskSource:
    source = disk.source or ""
    lost = bitmap_at_rest.why_lost(source, disk.format, since, files=lane.files) if since is not None else ""
    bitmap = since if since is not None and not lost else None
    socket = scratch.own_socket(lane, vm.uuid)
    address = held.enter_context(image.serve(source, disk.format, socket, bitmap=bitmap, reach=lane.reach))
    context = nbd.dirty_bitmap_context(bitmap) if bitmap is not None else None
    return DiskSource(disk.target, disk.format, address, "", context, lost)


def _begin(lane: HostLane, vm: Vm, marks: Marks, held: ExitStack) -> pull_backup.PullBackup:
    backup = pull_backup.begin(lane, vm, checkpoint=marks.new, since=marks.since)
    held.callback(pull_backup.finish, lane, backup)
    return backup


def _moment(
    vm: Vm, backup: pull_backup.PullBackup, consistency: Consistency, note: str, *, downtime_s: float
) -> Moment:
    formats = {disk.target: disk.format for disk in vm.disks}
    return Moment(
        time=backup.moment,
        disks=tuple(
            DiskSource(
                export.target,
                formats[export.target],
                export.address,
                export.export,
                export.bitmap,
                export.bitmap_lost,
            )
            for export in backup.exports
        ),
        consistency=consistency,
        note=note,
        downtime_s=downtime_s,
        checkpoint=backup.checkpoint,
    )
