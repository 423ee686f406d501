"""What dead jobs of newhope have left on a VM, and how it is put right.

1. `find` asks the VM's host: a backup job whose process is dead, its files, and the note of an act that has to be
   undone (`vm_notes`). What belongs to a living process, to another machine or to another program is no leftover, or
   one that is left alone and says why.
2. `put_right` undoes one of them. It asks again right before: what has been put right in the meantime is left.

Every backup does this for its own VM before it begins; `newhope doctor --repair` does it for all (`stray_marks` has
what only that, or the end of a backup, looks for: checkpoints and bitmaps that no recovery point needs).

A guest that newhope has shut down counts as our doing for `BELIEVED_FOR`: after that its owner may have come to want it
off, and only an operator decides.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from msgspec import Struct

from engine.backup.vm_notes import VmNotes
from engine.errors import ExitCode, NewhopeError
from engine.hosts import HostLane, HostRefused, agent, backup_job, guest_channel, power, scratch, thaw
from engine.hosts.backup_job import WorkOnVm
from engine.hosts.model import Vm, VmState
from engine.hosts.owner import is_dead
from engine.hosts.vm_note import Act, VmNote

BELIEVED_FOR = timedelta(days=1)
SHUTDOWN_WITHIN = timedelta(minutes=5)
"""A guest that was asked to shut down and still runs after this time has not obeyed."""
AGENT_ENDS_WITHIN = timedelta(seconds=20)
THAW_TIMEOUT_S = 90.0
_LOOK_S = 0.5


class LeftoverKind(StrEnum):
    """What was left."""

    JOB = "backup job"
    FILES = "scratch files"
    FROZEN = "frozen guest"
    PAUSED = "paused guest"
    SHUT_DOWN = "guest left off"
    STARTED = "guest started"
    NOTE = "note"
    CHECKPOINT = "checkpoint"
    BITMAP = "dirty bitmap"
    CHANNEL = "channel"


class Leftover(Struct, frozen=True):
    """One thing that was left on one VM, or on a host for a VM that is no longer there."""

    kind: LeftoverKind
    host: str
    vm_uuid: str
    """Empty, as `vm` is, where the host has no such VM any more."""
    vm: str
    what: str
    """A sentence."""
    remedy: str
    """What will be done about it, or why nothing is, as a sentence."""
    name: str = ""
    """Which one, where a VM may have several: the checkpoint or bitmap."""
    left_alone: bool = False
    """It may be at work still: newhope does nothing about it."""
    only_if_asked: bool = False
    """An operator has to agree, for it may be as its owner wants it."""

    @property
    def where(self) -> str:
        """The VM on its host, or the host."""
        return f"{self.vm} on {self.host}" if self.vm else self.host


def left_on(
    vm: Vm,
    kind: LeftoverKind,
    *,
    what: str,
    remedy: str,
    name: str = "",
    left_alone: bool = False,
    only_if_asked: bool = False,
) -> Leftover:
    """What was left on this VM."""
    return Leftover(
        kind,
        vm.host,
        vm.uuid,
        vm.name,
        what=what,
        remedy=remedy,
        name=name,
        left_alone=left_alone,
        only_if_asked=only_if_asked,
    )


class StillLeft(NewhopeError):
    """A leftover could not be put right."""

    exit_code = ExitCode.GUEST


def find(lane: HostLane, vm: Vm, notes: VmNotes) -> tuple[Leftover, ...]:
    """What was left on a VM. Raises HostUnreachable, HostRefused, MissingOnHost."""
    work = backup_job.look(lane, vm.uuid)
    return tuple(
        each for each in (_job(lane, vm, work), _files(lane, vm, work), _act(lane, vm, work, notes)) if each is not None
    )


def find_channels(lane: HostLane, vm: Vm) -> tuple[Leftover, ...]:
    """Channels that dead processes left plugged into a VM; no backup of its disks minds them.

    Raises HostUnreachable, HostRefused, MissingOnHost.
    """
    return tuple(
        left_on(
            vm,
            LeftoverKind.CHANNEL,
            what=f"A channel of {owner} is plugged into it.",
            remedy="Unplug it.",
            name=name,
        )
        for name, owner in guest_channel.left_behind(lane, vm)
    )


def leftovers_on_host(lane: HostLane, vms: Iterable[Vm]) -> tuple[Leftover, ...]:
    """Files of dead jobs on a host that are for none of these VMs, which are all there are. Raises HostUnreachable."""
    files = scratch.abandoned_of_no_vm(lane, (vm.uuid for vm in vms))
    if not files:
        return ()
    kind, host = LeftoverKind.FILES, lane.host.name
    return (
        Leftover(kind, host, "", "", what=_lie_in(files, "of VMs that are no longer there "), remedy=_removal(files)),
    )


def put_right_on_host(lane: HostLane, vms: Iterable[Vm]) -> str:
    """Remove what `leftovers_on_host` finds now; what was done, as a sentence. Raises HostUnreachable."""
    files = scratch.abandoned_of_no_vm(lane, (vm.uuid for vm in vms))
    lane.files.remove(files)
    return f"Removed {', '.join(path.name for path in files)}." if files else "It was gone already."


def put_right(lane: HostLane, vm: Vm, leftover: Leftover, notes: VmNotes) -> str:
    """Undo what was left; what was done, as a sentence.

    Raises HostUnreachable, HostRefused, and StillLeft or Conflict with what an operator can do.
    """
    if leftover.kind in (LeftoverKind.JOB, LeftoverKind.FILES):
        return " ".join(backup_job.clear_leftovers(lane, vm)) or "It was gone already."
    if leftover.kind is LeftoverKind.CHANNEL:
        return " ".join(guest_channel.clear_leftovers(lane, vm)) or "It was gone already."
    work = backup_job.look(lane, vm.uuid)
    note = work.note or notes.only_here(lane.host.name, vm.uuid)
    if note is None or not is_dead(note.owner, lane):
        return "It was put right already."
    kind = what_is_left(note, work, datetime.now(UTC))
    done = _UNDOINGS[kind](lane, vm, note) if kind in _UNDOINGS else f"Took away a note that {note.owner} had left."
    notes.erase(lane, vm.uuid)
    return done


def what_is_left(note: VmNote, work: WorkOnVm, now: datetime) -> LeftoverKind:
    """What a dead process's note still asks for, the VM being as it is; NOTE if nothing but the note is left. Pure."""
    off = work.state in (VmState.OFF, VmState.CRASHED)
    paused = work.state is VmState.PAUSED
    same_run = work.domain_id == note.domain_id
    if note.act is Act.SHUT_DOWN:
        # A run of another number that is paused is the one that was to have its moment fixed.
        may_still_obey = same_run and not paused and now < note.began + SHUTDOWN_WITHIN
        return LeftoverKind.SHUT_DOWN if off or (paused and not same_run) or may_still_obey else LeftoverKind.NOTE
    if note.act is Act.FROZEN:
        return LeftoverKind.FROZEN if same_run and not off else LeftoverKind.NOTE
    kind = LeftoverKind.PAUSED if note.act is Act.PAUSED else LeftoverKind.STARTED
    # One that its owner has let run since is as its owner wants it.
    return kind if same_run and paused else LeftoverKind.NOTE


def _job(lane: HostLane, vm: Vm, work: WorkOnVm) -> Leftover | None:
    owner = work.job_owner
    dead = owner is not None and is_dead(owner, lane)
    if owner is None or (owner.here and not dead):
        return None
    return left_on(
        vm,
        LeftoverKind.JOB,
        what=f"A backup job of {owner} runs on it.",
        remedy="End the job, and remove its socket and scratch files."
        if dead
        else f"Whether that is dead cannot be told from here. If it is gone for good: virsh domjobabort {vm.name}",
        left_alone=not dead,
    )


def _files(lane: HostLane, vm: Vm, work: WorkOnVm) -> Leftover | None:
    of_the_job = (work.job.socket, *work.job.scratch) if work.job is not None else ()
    files = [path for path in backup_job.abandoned_files(lane, vm, work.domain_id) if path not in of_the_job]
    if not files:
        return None
    return left_on(vm, LeftoverKind.FILES, what=_lie_in(files), remedy=_removal(files))


def _lie_in(files: Sequence[Path], of_what: str = "") -> str:
    named, lie = (f"{len(files)} files", "lie") if len(files) > 1 else ("1 file", "lies")
    folders = " and ".join(str(folder) for folder in sorted({path.parent for path in files}))
    return f"{named} of dead backup jobs {of_what}{lie} in {folders}."


def _removal(files: Sequence[Path]) -> str:
    return f"Remove {', '.join(path.name for path in files)}."


def _act(lane: HostLane, vm: Vm, work: WorkOnVm, notes: VmNotes) -> Leftover | None:
    note = work.note or notes.only_here(vm.host, vm.uuid)
    dead = note is not None and is_dead(note.owner, lane)
    if note is None or (note.owner.here and not dead):
        return None
    now = datetime.now(UTC)
    kind = what_is_left(note, work, now)
    what, remedy, by_hand = _SENTENCES[kind]
    cannot_thaw = kind is LeftoverKind.FROZEN and work.state is VmState.PAUSED
    if not dead:
        remedy = f"Whether that is dead cannot be told from here. If it is gone for good: {by_hand} {vm.name}"
    elif cannot_thaw:
        remedy = f"Thaw them when it runs again: somebody has paused it since. To let it run: virsh resume {vm.name}"
    return left_on(
        vm,
        kind,
        what=what.format(owner=note.owner, at=f"{note.began.astimezone():%Y-%m-%d %H:%M}"),
        remedy=remedy,
        left_alone=cannot_thaw or not dead,
        only_if_asked=kind is LeftoverKind.SHUT_DOWN and now > note.began + BELIEVED_FOR,
    )


_SENTENCES = {
    LeftoverKind.FROZEN: ("Its file systems were frozen by {owner} at {at}.", "Thaw them.", "virsh domfsthaw"),
    LeftoverKind.PAUSED: ("It was paused by {owner} at {at}.", "Let it run.", "virsh resume"),
    LeftoverKind.SHUT_DOWN: (
        "It was shut down by {owner} at {at}, to be started again at once.",
        "Wait until it is off, if it is not yet; start it.",
        "virsh start",
    ),
    LeftoverKind.STARTED: (
        "It was off, and was started without its CPUs by {owner} at {at}.",
        "Cut its power: it is off again.",
        "virsh destroy",
    ),
    LeftoverKind.NOTE: (
        "A note of {owner} of {at} says that it was at work; nothing of that is left.",
        "Take the note away.",
        "virsh metadata --remove urn:newhope:work --config",
    ),
}
"""What was left, what will be done about it, and the command to do it by hand."""


def _thaw(lane: HostLane, vm: Vm, note: VmNote) -> str:
    result = thaw.until_thawed(lane, vm.uuid, timeout_s=THAW_TIMEOUT_S)
    if not result.thawed:
        raise StillLeft(
            f"{vm.name} on {lane.host.name} was left frozen by {note.owner} and could not be thawed: {result.reason}",
            untouched="No data is lost; the guest's programs wait at their next write.",
            next_step=f"thaw it by hand: virsh -c '{lane.host.uri}' domfsthaw {vm.name}",
        )
    return f"Thawed {vm.name}, whose file systems {note.owner} had left frozen."


def _resume(lane: HostLane, vm: Vm, note: VmNote) -> str:
    power.resume(lane, vm.uuid)
    return f"Let {vm.name} run, which {note.owner} had left paused."


def _cut_power(lane: HostLane, vm: Vm, note: VmNote) -> str:
    power.power_off(lane, vm.uuid)
    return f"Switched {vm.name} off, which {note.owner} had started only to read its disks."


def _bring_back(lane: HostLane, vm: Vm, note: VmNote) -> str:
    """Wait for the shutdown, if it is still under way, and let the VM run again."""
    while True:
        work = backup_job.look(lane, vm.uuid)
        # Agents are among the first that a guest ends; where one answers still, nothing is being shut down.
        at_work = work.state is VmState.RUNNING and datetime.now(UTC) > note.began + AGENT_ENDS_WITHIN
        if what_is_left(note, work, datetime.now(UTC)) is LeftoverKind.NOTE or (at_work and agent.ping(lane, vm.uuid)):
            return f"{vm.name} runs, which {note.owner} had shut down, or was about to."
        if work.state is VmState.PAUSED:
            power.resume(lane, vm.uuid)
            return f"Let {vm.name} run, which {note.owner} had shut down and started paused."
        if work.state in (VmState.OFF, VmState.CRASHED):
            try:
                power.start(lane, vm.uuid)
            except HostRefused:
                # Somebody else was faster: its owner, or the process that guards every shutdown.
                if power.vm_state(lane, vm.uuid) is not VmState.RUNNING:
                    raise
            return f"Started {vm.name}, which {note.owner} had shut down."
        time.sleep(_LOOK_S)


_UNDOINGS = {
    LeftoverKind.FROZEN: _thaw,
    LeftoverKind.PAUSED: _resume,
    LeftoverKind.SHUT_DOWN: _bring_back,
    LeftoverKind.STARTED: _cut_power,
}

ACTS = frozenset(_UNDOINGS)
"""What a guest that stands still is waiting for."""
