"""The end of a restore that was kept or interrupted: it is committed, or taken back.

Commit: the original that was kept aside is removed with its disks, if that is asked for; from then on nothing can be
undone. Undo: all that the restore made is removed, and the original is back as it was (`undoing.py`).

Both can be cut off anywhere and begun again, by whoever has the journal's entry: the machine that ran the restore, or
any other one that has found the note on the host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from msgspec import Struct, structs

from engine.errors import Conflict
from engine.hosts import HostLane, HostLanes, definition, power, take_snapshot, volumes
from engine.hosts.model import Definition, VmState
from engine.jobs import JobContext
from engine.restore.host_note import find_notes, take_note_away
from engine.restore.journal import Entry, Mark, Phase, RestoreJournal
from engine.restore.model import Aside, AtEnd
from engine.restore.steps import Step, StepKind
from engine.restore.undoing import undo
from engine.restore.work import Ground
from engine.settings import Settings, find_host

_OFF = (VmState.OFF, VmState.CRASHED)
_CAN_BE_UNDONE = (Phase.UNDER_WAY, Phase.KEPT, Phase.UNDOING)
_CAN_BE_COMMITTED = (Phase.KEPT, Phase.COMMITTING)


class Settlement(Struct, frozen=True):
    """What is to become of a restore: the specification of a job."""

    id: str
    end: AtEnd
    delete_original: bool = False
    """At a commit: remove the original that was kept aside, with its disks."""


def settle(settings: Settings, wanted: Settlement, context: JobContext) -> str:
    """Commit or undo one restore; answers what came of it in a sentence. Raises a `NewhopeError`."""
    journal = RestoreJournal(settings.state)
    entry = journal.find(wanted.id)
    refuse(entry, wanted.end)
    entry = structs.replace(entry, job_id=context.job_id)
    with HostLanes(settings) as lanes:
        ground = Ground(settings, lanes, journal, entry, context)
        if wanted.end is AtEnd.UNDO:
            with context.step("take the restore back"):
                undo(ground)
            back = f"; {entry.request.aside.name} is back as it was" if entry.request.aside is not None else ""
            return f"The restore of {entry.vm} as {entry.request.name} on {entry.request.to_host} is undone{back}."
        return _commit(ground, delete_original=wanted.delete_original)


def refuse(entry: Entry, end: AtEnd) -> None:
    """Raise Conflict for a restore that cannot come to this end."""
    if end is AtEnd.COMMIT and any(disk.overlay for disk in entry.disks):
        raise Conflict(
            f"Restore {entry.id} of {entry.vm} cannot be committed: its disks are not in their place.",
            next_step=f"move them with `newhope restores resume {entry.id}`, or undo it.",
        )
    if entry.phase in (_CAN_BE_UNDONE if end is AtEnd.UNDO else _CAN_BE_COMMITTED):
        return
    if entry.phase is Phase.UNDER_WAY:
        raise Conflict(
            f"Restore {entry.id} of {entry.vm} is not whole, so it cannot be committed.",
            next_step=f"let it go on with `newhope restores resume {entry.id}`.",
        )
    raise Conflict(
        f"Restore {entry.id} of {entry.vm} is {entry.phase.value}.",
        next_step=f"see what it was with `newhope restores show {entry.id}`.",
    )


def overdue(entries: Iterable[Entry], now: datetime) -> tuple[Settlement, ...]:
    """What is to be done by itself, because the time to decide is over. The original's disks are never deleted so."""
    return tuple(
        Settlement(entry.id, entry.request.at_end)
        for entry in entries
        if entry.overdue(now) and entry.request.at_end is not None
    )


def abandoned(entries: Iterable[Entry], lives: Callable[[int], bool]) -> tuple[Settlement, ...]:
    """Proofs that were cut off, of which something may be left; `lives` tells of a job whether it still runs.

    Nobody waits for them: what is undone here is proven anew.
    """
    return tuple(
        Settlement(entry.id, AtEnd.UNDO)
        for entry in entries
        if entry.request.proves and not entry.phase.over and not lives(entry.job_id)
    )


def adopt(settings: Settings, host: str, journal: RestoreJournal) -> tuple[Entry, ...]:
    """Take restores into this machine's journal that notes on a host tell of and that it does not know."""
    known = {entry.id for entry in journal.entries()}
    with HostLanes(settings) as lanes:
        notes = [note for note in find_notes(lanes[find_host(settings, host).name]) if note.id not in known]
        return tuple(
            journal.save(structs.replace(note, marks=_marks_of_note(note, lanes), phase=Phase.UNDER_WAY))
            for note in notes
        )


def _marks_of_note(note: Entry, lanes: HostLanes) -> tuple[Mark, ...]:
    """The marks of a restore of which only the note is left: all that it may have begun since.

    The VM counts as defined only when the original, if there is one, is aside: before, its name is the original's.
    """
    aside = note.request.aside
    is_aside = aside is not None and power.name_of(lanes[aside.host], aside.kept_uuid) == aside.kept_name
    kind = StepKind.OVERLAY if note.request.instant else StepKind.WRITE
    steps = [
        Step(StepKind.CHECK),
        Step(StepKind.NOTE),
        *(Step(kind, disk.target) for disk in note.request.disks),
    ]
    if note.request.defines:
        steps.append(Step(StepKind.BOOT_FILES))
        steps += [Step(StepKind.STOP)] if aside is not None else []
        steps += [Step(StepKind.ASIDE)] if note.original is not None else []
        steps += [Step(StepKind.DEFINE), Step(StepKind.START)] if aside is None or is_aside else []
    return tuple(Mark(step.key, step.title, note.created) for step in steps)


def disks_of_original(lane: HostLane, aside: Aside) -> tuple[str, ...]:
    """Paths of the disks of an original that is kept aside, without those that another VM uses as well."""
    if power.name_of(lane, aside.kept_uuid) != aside.kept_name:
        return ()
    snapshot = take_snapshot(lane)
    others = {
        path
        for vm in snapshot.vms
        if vm.uuid != aside.kept_uuid
        for disk in vm.disks
        for path in (disk.source, *disk.backing)
        if path
    }
    described = definition.describe(Definition(live=None, inactive=definition.read(lane, aside.kept_uuid).inactive))
    return tuple(
        disk.source
        for disk in described.disks
        if disk.device == "disk" and disk.source and not disk.read_only and disk.source not in others
    )


def _commit(ground: Ground, *, delete_original: bool) -> str:
    entry, aside = ground.entry, ground.request.aside
    ground.note(lambda entry: structs.replace(entry, phase=Phase.COMMITTING))
    kept = ""
    if aside is not None and delete_original:
        with ground.context.step("remove the original"):
            left = _remove_original(ground, aside)
        kept = f" {aside.name}'s original was removed."
        kept += f" Its disks {', '.join(left)} are in no pool and were left." if left else ""
    elif aside is not None:
        kept = f" The original stays on {aside.host} as {aside.kept_name}, off."
    with ground.context.step("take the note away"):
        take_note_away(ground.lane, entry)
    ground.note(lambda entry: structs.replace(entry, phase=Phase.COMMITTED, original=None))
    return f"The restore of {entry.vm} as {entry.request.name} on {entry.request.to_host} is committed.{kept}"


def _remove_original(ground: Ground, aside: Aside) -> Sequence[str]:
    """Remove the VM that is kept aside and its disks; answers the disks that no pool knows."""
    lane = ground.lanes[aside.host]
    paths = disks_of_original(lane, aside)
    if power.name_of(lane, aside.kept_uuid) == aside.kept_name:
        if power.vm_state(lane, aside.kept_uuid) not in _OFF:
            raise Conflict(
                f"{aside.kept_name} on {aside.host} runs.",
                untouched="It was left as it is, and its disks too.",
                next_step="shut it down, or commit without --delete-original.",
            )
        power.undefine(lane, aside.kept_uuid)
    left: list[str] = []
    for path in paths:
        if volumes.delete_path(lane, path):
            ground.context.log(f"deleted {path}")
        else:
            left.append(path)
            ground.context.log(f"{path} is in no pool and was left", level="warn")
    return left
