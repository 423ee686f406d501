"""The restore journal: how far every restore is, durable before and after each step.

One file a restore, in the state folder of the machine that runs it; and beside the new volumes on the host, a copy of
what is needed to take the restore back (`host_note.py`), for whoever finds it from there.

1. Before a step its mark is written, *begun*; before a volume is made, its name. Both are durable when `save` returns.
2. After the step, the mark is *done*. A step that is begun and not done may have done anything from nothing to all:
   carrying it out again, or undoing it, must work from each of these.
3. A restore ends as COMMITTED (nothing can or need be undone), KEPT (whole, and can be undone until somebody commits)
   or UNDONE (nothing of it is left). Any other phase without a living job is an interrupted restore, which can be
   resumed or undone.

Who may write: the job that holds the restore's lock (`plan.lock_of`). Everyone reads; files are replaced as a whole.
"""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from engine.errors import Conflict, ExitCode, NewhopeError, NoSpace, NotFound
from engine.fleet import FitnessCheck
from engine.hosts.aside import KeptOriginal
from engine.jobs import KnobChange
from engine.repository import GuestCheckResult, SignsOfLife
from engine.restore.model import LostRange, Request, RestoredDisk

KEPT_ENTRIES = 200
_VERSION = 1


class RestoreJournalUnusable(NewhopeError):
    """The folder of the restore journal cannot be read or written."""

    exit_code = ExitCode.FAILED


class Phase(StrEnum):
    """Where a restore stands."""

    UNDER_WAY = "under way"
    KEPT = "kept"
    """It is whole, and can be undone until somebody commits."""
    COMMITTED = "committed"
    UNDOING = "being undone"
    UNDONE = "undone"
    COMMITTING = "being committed"

    @property
    def over(self) -> bool:
        """Whether nothing more will or can be done with it."""
        return self in (Phase.COMMITTED, Phase.UNDONE)


class Mark(Struct, frozen=True):
    """One step that was begun."""

    key: str
    title: str
    begun: datetime
    done: datetime | None = None
    note: str = ""


class MadeVolume(Struct, frozen=True):
    """A volume of the host that this restore makes or has made."""

    step: str
    """Key of the step that makes it."""
    pool: str
    name: str


class Serving(Struct, frozen=True):
    """Where the recovery point of an instant restore is served to its VM (`point_server.py`)."""

    socket: str
    """On the host; the same for as long as the VM needs it, whichever process listens there."""
    owner: tuple[int, int] | None = None
    """User and group that QEMU connects as, if they are not those of the server."""


class Entry(Struct, frozen=True):
    """One restore as its journal knows it."""

    id: str
    vm: str
    """Name that the VM had."""
    moment: datetime
    """Of the recovery point."""
    request: Request
    phase: Phase
    created: datetime
    changed: datetime
    marks: tuple[Mark, ...] = ()
    made: tuple[MadeVolume, ...] = ()
    disks: tuple[RestoredDisk, ...] = ()
    """Those that are written."""
    original: KeptOriginal | None = None
    """The original as it was, from before it was put aside."""
    original_off: datetime | None = None
    """When the original was found off, or had been shut down."""
    up: datetime | None = None
    """When the new VM answered, or was started without an agent to ask."""
    checks: tuple[FitnessCheck, ...] = ()
    warnings: tuple[str, ...] = ()
    lost: tuple[LostRange, ...] = ()
    agent_answered_s: float | None = None
    guest_checks: tuple[GuestCheckResult, ...] = ()
    seen: SignsOfLife | None = None
    resumed: int = 0
    finished: datetime | None = None
    keep_until: datetime | None = None
    job_id: int = 0
    """The job that worked on it last."""
    knobs: tuple[KnobChange, ...] = ()
    """What was set on its jobs while they ran."""
    serving: Serving | None = None
    moved_while_off: bool = False
    """Its guest was off when its disks were to be moved: the VM was started for that alone, its guest paused."""
    version: int = _VERSION

    def mark(self, key: str) -> Mark | None:
        """The mark of a step; None if it was never begun."""
        return next((mark for mark in self.marks if mark.key == key), None)

    def begun(self, key: str) -> bool:
        """Whether a step may have done something."""
        return self.mark(key) is not None

    def is_done(self, key: str) -> bool:
        """Whether a step has done everything."""
        mark = self.mark(key)
        return mark is not None and mark.done is not None

    def with_disk(self, disk: RestoredDisk) -> Entry:
        """With a disk as it is now, in the place of what was known of it."""
        known = {each.target: each for each in self.disks} | {disk.target: disk}
        return structs.replace(self, disks=tuple(known.values()))

    def overdue(self, now: datetime) -> bool:
        """Whether its time is over, and something is to be done with it by itself."""
        return (
            self.phase is Phase.KEPT
            and self.request.at_end is not None
            and self.keep_until is not None
            and now >= self.keep_until
        )


class RestoreJournal:
    """The journal in a state folder."""

    def __init__(self, state: Path) -> None:
        self._folder = state / "restores"

    def entries(self) -> tuple[Entry, ...]:
        """All restores that are known, the newest first. A file that is none of ours is passed over."""
        try:
            files = sorted(self._folder.glob("*.json"))
        except OSError as error:
            raise self._unusable(error) from error
        found = [entry for file in files if (entry := _read(file)) is not None]
        return tuple(sorted(found, key=lambda entry: entry.created, reverse=True))

    def version(self) -> int:
        """Another number after each change by anybody: for who looks often, and reads only what is new."""
        try:
            return self._folder.stat().st_mtime_ns
        except OSError:
            return 0

    def get(self, entry_id: str) -> Entry | None:
        """The restore of exactly this id."""
        return _read(self._file(entry_id))

    def find(self, prefix: str) -> Entry:
        """The restore whose id begins like this; raises `NotFound`, or `Conflict` if there are several."""
        wanted = prefix.lower()
        found = [entry for entry in self.entries() if wanted and entry.id.startswith(wanted)]
        if len(found) == 1:
            return found[0]
        if found:
            raise Conflict(
                f"{len(found)} restores have ids that begin with {prefix}.",
                next_step=f"write more of it: {', '.join(entry.id for entry in found[:5])}.",
            )
        raise NotFound(f"There is no restore {prefix}.", next_step="`newhope restores` lists them.")

    def save(self, entry: Entry) -> Entry:
        """Write an entry down; it is durable when this returns. Raises NoSpace, RestoreJournalUnusable."""
        changed = structs.replace(entry, changed=datetime.now(UTC))
        file = self._file(entry.id)
        part = file.with_suffix(".part")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # A definition may hold passwords: nobody else may read it.
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as out:
                out.write(msgspec.json.encode(changed))
                out.flush()
                os.fsync(out.fileno())
            part.replace(file)
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise self._unusable(error) from error
        return changed

    def beside(self, entry_id: str, ending: str) -> Path:
        """A file of that restore's own, beside its entry: of its server, and of what that had to say."""
        return self._folder / f"{entry_id}.{ending}"

    def forget_oldest(self) -> None:
        """Drop what has been over for longest, beyond a number that nobody needs."""
        over = [entry for entry in self.entries() if entry.phase.over]
        for entry in over[KEPT_ENTRIES:]:
            self._file(entry.id).unlink(missing_ok=True)

    def _file(self, entry_id: str) -> Path:
        return self._folder / f"{entry_id}.json"

    def _unusable(self, error: OSError) -> NewhopeError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return NoSpace(
                f"The restore journal in {self._folder} cannot be written: its file system is full.",
                untouched="The step that was to come was not begun.",
                next_step=f"free some space there (`df -h {self._folder}`), then resume: newhope restores.",
            )
        return RestoreJournalUnusable(
            f"The restore journal in {self._folder} cannot be used: {error.strerror or error}.",
            untouched="The step that was to come was not begun.",
            next_step="make it readable and writable for you, or name another `state` folder in the settings.",
        )


def _read(file: Path) -> Entry | None:
    try:
        entry = msgspec.json.decode(file.read_bytes(), type=Entry)
    except (OSError, msgspec.DecodeError):
        return None
    return entry if entry.version <= _VERSION else None
