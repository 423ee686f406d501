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
from engine.backup.plan import can_be_opened, data_disks
from engine.backup.vm_guard import guarded
from engine.backup.vm_notes import VmNotes
from engine.backup.watching import watched
from engine.errors import Conflict
from engine.hosts import (
    GuestDidNotShutDown,
    HostLane,
    bitmap_at_rest,
    freeze,
    image,
    power,
    pull_backup,
    saved_state,
    scratch,
)
from engine.hosts.model import AgentState, Disk, Vm, VmState
from engine.hosts.vm_note import Act
from engine.jobs import JobContext
from engine.repository.model import Consistency
from engine.settings.duration import format_duration
from engine.settings.model import SHUTDOWN_TIMEOUT_S, Method

FREEZE_TIMEOUT_S = 10.0
STANDING_STILL_S = 180.0
"""How long a guest may be without its CPUs, or off, beside the time that was allowed for its shutdown or its memory."""
SAVED_STATE = "saved-state"


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
    memory: DiskSource | None = None
    """Where the guest's memory of the same moment can be read."""


class How(Struct, frozen=True):
    """How the moment is to be fixed."""

    method: Method
    shutdown_timeout_s: float = SHUTDOWN_TIMEOUT_S
    hot_if_ignored: bool = False
    """Whether a guest that ignores its shutdown is taken while it runs."""


@contextmanager
def fixed_moment(
    lane: HostLane, vm: Vm, how: How, marks: Marks, notes: VmNotes, context: JobContext
) -> Generator[Moment]:
    """Fix the moment by the method that the VM's state allows, and hold it until the context ends."""
    lane.reach.get_ready()
    if vm.state in (VmState.OFF, VmState.CRASHED):
        here = can_be_opened(vm, files=lane.files.reachable)
        opened = _at_rest(lane, vm, marks) if here else _started_to_be_read(lane, vm, marks, notes)
    elif how.method is Method.COLD and vm.state is VmState.RUNNING:
        opened = _after_shutdown(lane, vm, how, marks, notes, context)
    elif all(disk.transient for disk in data_disks(vm)):
        opened = nullcontext(_without_pull())
    elif how.method in (Method.PAUSED, Method.MEMORY) and vm.state in (VmState.RUNNING, VmState.PAUSED):
        opened = _standing_still(lane, vm, how.method, marks, notes, context)
    else:
        opened = _while_running(lane, vm, marks, notes)
    with opened as moment, ExitStack() as held:
        transient = _transient_disks(lane, vm, moment, held)
        order = [disk.target for disk in vm.disks]
        disks = sorted((*moment.disks, *transient), key=lambda source: order.index(source.target))
        yield replace(moment, disks=tuple(disks))


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
            backup = _begin(lane, vm, marks, notes, held)
            consistency, note = Consistency.CRASH, "the VM was paused by someone else and stayed so; nothing was frozen"
        elif vm.agent is AgentState.ABSENT:
            backup = _begin(lane, vm, marks, notes, held)
            consistency, note = Consistency.CRASH, "the VM has no channel for a guest agent that could freeze it"
        else:
            with (
                notes.noted(lane, vm, Act.FROZEN),
                freeze.frozen(lane.host, lane, vm.uuid, freeze_timeout_s=FREEZE_TIMEOUT_S) as outcome,
            ):
                backup = _begin(lane, vm, marks, notes, held)
            consistency = Consistency.FILESYSTEM if outcome.frozen else Consistency.CRASH
            note = outcome.note
        with watched(lane, backup):
            yield _moment(vm, backup, consistency, note, downtime_s=0.0)


@contextmanager
def _standing_still(
    lane: HostLane, vm: Vm, method: Method, marks: Marks, notes: VmNotes, context: JobContext
) -> Generator[Moment]:
    """Suspend, keep the memory if it is wanted, begin, resume; a VM that somebody else has paused stays so."""
    ours = vm.state is VmState.RUNNING
    with ExitStack() as held:
        memory = None
        if method is Method.MEMORY:
            saved_state.refuse_unsavable(vm, files=lane.files.reachable)
            memory = saved_state.new_file(lane, vm)
        with _paused(lane, vm, notes) if ours else nullcontext():
            stopped = time.monotonic()
            if memory is not None:
                held.callback(lane.files.remove, (memory,))
                saved_state.save(lane, vm, memory)
                if marks.since:
                    _let_bitmaps_be_loaded(lane, vm)
            backup = _begin(lane, vm, marks, notes, held)
        downtime_s = time.monotonic() - stopped if ours else 0.0
        if ours:
            context.log(f"{vm.name} runs again after {downtime_s:.2f} s; its disks are read beside it")
        stood = "was paused for the moment" if ours else "was paused by someone else and stayed so"
        kept = "; its memory is kept with its disks" if memory is not None else ""
        consistency = Consistency.MEMORY if memory is not None else Consistency.CRASH
        with watched(lane, backup):
            moment = _moment(vm, backup, consistency, f"the VM {stood}{kept}", downtime_s=downtime_s)
            if memory is None:
                yield moment
                return
            with image.serve(memory, "raw", scratch.own_socket(lane, vm.uuid), reach=lane.reach) as address:
                yield replace(moment, memory=DiskSource(SAVED_STATE, "raw", address, ""))


def _let_bitmaps_be_loaded(lane: HostLane, vm: Vm) -> None:
    """Have QEMU open the images again that it let go, with their bitmaps, when it had written the memory.

    It does so when the guest runs on, which would be too late, and for whatever it exports (QEMU `blk_exp_add`): here a
    backup that is begun and ended.
    """
    with pull_backup.pulling(lane, vm, checkpoint=None):
        pass


@contextmanager
def _paused(lane: HostLane, vm: Vm, notes: VmNotes) -> Generator[None]:
    with guarded(lane, vm, Act.PAUSED, notes, longest_s=STANDING_STILL_S + saved_state.SAVE_TIMEOUT_S):
        try:
            power.suspend(lane, vm.uuid)
            yield
        finally:
            power.resume(lane, vm.uuid)


@contextmanager
def _after_shutdown(
    lane: HostLane, vm: Vm, how: How, marks: Marks, notes: VmNotes, context: JobContext
) -> Generator[Moment]:
    asked = time.monotonic()
    context.log(f"shutting {vm.name} down")
    with ExitStack() as held:
        try:
            with guarded(lane, vm, Act.SHUT_DOWN, notes, longest_s=STANDING_STILL_S + how.shutdown_timeout_s):
                power.shut_down(lane, vm.uuid, timeout_s=how.shutdown_timeout_s)
                try:
                    power.start(lane, vm.uuid, paused=True)
                    backup = _begin(lane, vm, marks, notes, held)
                finally:
                    # Whatever the start or the backup said, the guest's users get it back.
                    _let_run(lane, vm)
        except GuestDidNotShutDown as ignored:
            if not how.hot_if_ignored:
                again = f"newhope backup {vm.name} --method"
                raise GuestDidNotShutDown(
                    ignored.what,
                    untouched=ignored.untouched,
                    next_step="look at its console, or shut it down from inside. To ask again and wait longer: "
                    f"{again} cold --shutdown-timeout {format_duration(2 * how.shutdown_timeout_s)}; to take it while"
                    f" it runs: {again} hot",
                ) from None
            context.log(f"{ignored.what} It is taken while it runs instead.", level="warn")
            opened = _while_running(lane, vm, marks, notes)
        else:
            downtime_s = time.monotonic() - asked
            context.log(f"{vm.name} runs again after {downtime_s:.1f} s; its disks are read beside it")
            opened = _copied_beside(lane, vm, backup, downtime_s)
        with opened as moment:
            yield moment


@contextmanager
def _copied_beside(lane: HostLane, vm: Vm, backup: pull_backup.PullBackup, downtime_s: float) -> Generator[Moment]:
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
        yield Moment(
            time=datetime.now(UTC),
            disks=tuple(sources),
            consistency=_consistency_of_off(vm),
            note=_how_it_was_off(vm),
            downtime_s=0.0,
            checkpoint=None,
        )


def _how_it_was_off(vm: Vm) -> str:
    if vm.managed_save:
        return "the VM was off with its memory saved on the host (managed save), which is not in the recovery point"
    return "the VM was off" if vm.state is VmState.OFF else "the VM had crashed and was off"


def _consistency_of_off(vm: Vm) -> Consistency:
    clean = vm.state is VmState.OFF and not vm.managed_save
    return Consistency.OFF if clean else Consistency.CRASH


@contextmanager
def _started_to_be_read(lane: HostLane, vm: Vm, marks: Marks, notes: VmNotes) -> Generator[Moment]:
    """Let QEMU open what cannot be opened from here: without its CPUs, and off again at the end, whatever happens.

    libvirt itself cuts its power when our connection ends; the note is for whoever comes after a daemon that died too.
    """
    if vm.managed_save:
        raise Conflict(
            f"{vm.name} on {vm.host} is off with its memory saved, and some of its disks only QEMU can open: to start"
            " it for that would use the saved memory up.",
            untouched="The VM, its disks and its saved memory are as they were.",
            next_step=f"start it (virsh start {vm.name}), then back it up while it runs.",
        )
    with ExitStack() as held:
        held.enter_context(notes.noted(lane, vm, Act.STARTED))
        held.callback(power.power_off, lane, vm.uuid)
        power.start(lane, vm.uuid, paused=True, until_we_are_gone=True)
        backup = _begin(lane, vm, marks, notes, held)
        note = f"{_how_it_was_off(vm)}; QEMU opened its disks, its CPUs did not run"
        with watched(lane, backup):
            yield _moment(vm, backup, _consistency_of_off(vm), note, downtime_s=0.0)


def _served_at_rest(lane: HostLane, vm: Vm, disk: Disk, since: str | None, held: ExitStack) -> DiskSource:
    source = disk.source or ""
    lost = bitmap_at_rest.why_lost(source, disk.format, since, files=lane.files) if since is not None else ""
    bitmap = since if since is not None and not lost else None
    socket = scratch.own_socket(lane, vm.uuid)
    address = held.enter_context(image.serve(source, disk.format, socket, bitmap=bitmap, reach=lane.reach))
    context = nbd.dirty_bitmap_context(bitmap) if bitmap is not None else None
    return DiskSource(disk.target, disk.format, address, "", context, lost)


def _begin(lane: HostLane, vm: Vm, marks: Marks, notes: VmNotes, held: ExitStack) -> pull_backup.PullBackup:
    notes.begin_mark(vm.host, vm.uuid, marks.new)
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
