"""What the steps of one restore share while it runs, and what its undo needs: hosts, journal, and a log.

`Ground` is all that an undo has: it works without the repository. `Work` adds the recovery point.

Locking: steps that write disks run side by side. `_lock` guards the entry; it is held while the entry is written, so
that the file always says what all of them have noted, and never while a host is asked.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

from msgspec import structs

from engine.hosts import HostLane, HostLanes
from engine.hosts.model import HostFacts
from engine.jobs import JobContext
from engine.jobs.pace import Pace
from engine.repository import Point, Reader, Repository
from engine.restore.journal import Entry, Mark, RestoreJournal
from engine.restore.model import Request
from engine.restore.steps import Step
from engine.settings import Settings


class Ground:
    """The hosts and the journal entry of one restore."""

    def __init__(
        self, settings: Settings, lanes: HostLanes, journal: RestoreJournal, entry: Entry, context: JobContext
    ) -> None:
        self.settings = settings
        self.lanes = lanes
        self.context = context
        self.journal = journal
        self._lock = threading.Lock()
        self._entry = entry
        self._earlier_knobs = entry.knobs

    @property
    def entry(self) -> Entry:
        """What was noted last."""
        return self._entry

    @property
    def request(self) -> Request:
        """The decided request."""
        return self._entry.request

    @property
    def lane(self) -> HostLane:
        """To the host that is restored to."""
        return self.lanes[self.request.to_host]

    def note(self, change: Callable[[Entry], Entry]) -> Entry:
        """Change the entry; durable when this returns. What was set on the running job is noted with it."""
        with self._lock:
            changed = change(self._entry)
            changed = structs.replace(changed, knobs=(*self._earlier_knobs, *self.context.knob_changes))
            self._entry = self.journal.save(changed)
            return self._entry

    def begin(self, step: Step) -> None:
        """A step is about to be carried out."""
        mark = Mark(step.key, step.title, datetime.now(UTC))
        self.note(lambda entry: structs.replace(entry, marks=(*_others(entry, step), mark)))

    def done(self, step: Step, note: str) -> None:
        """A step has done everything."""

        def change(entry: Entry) -> Entry:
            begun = entry.mark(step.key) or Mark(step.key, step.title, datetime.now(UTC))
            mark = structs.replace(begun, done=datetime.now(UTC), note=note)
            return structs.replace(entry, marks=(*_others(entry, step), mark))

        self.note(change)

    def warn(self, text: str) -> None:
        """Something that an operator should look at although the restore goes on."""
        self.note(lambda entry: structs.replace(entry, warnings=(*entry.warnings, text)))
        self.context.log(text, level="warn")


class Work(Ground):
    """A restore that is being carried out."""

    def __init__(
        self,
        settings: Settings,
        lanes: HostLanes,
        journal: RestoreJournal,
        entry: Entry,
        context: JobContext,
        *,
        point: Point,
        repository: Repository,
        reader: Reader,
        chain: str,
    ) -> None:
        super().__init__(settings, lanes, journal, entry, context)
        self.point = point
        self.repository = repository
        self.reader = reader
        self.chain = chain
        """What tells the repository's checkpoints from others'."""
        self.resumed = bool(entry.marks)
        self.target: HostFacts | None = None
        """As it was seen by the check, with which every run begins."""
        self._stopped = False
        self.pace = Pace(context, self.raise_if_to_stop)
        """To be asked before every piece that is moved."""

    def stop_others(self) -> None:
        """One of the steps that run side by side has failed: the others need not go on."""
        self._stopped = True

    def raise_if_to_stop(self) -> None:
        """To be called wherever a step can end without harm. Raises Cancelled, or SideBySideStopped."""
        self.context.raise_if_cancelled()
        if self._stopped:
            raise SideBySideStopped


class SideBySideStopped(Exception):
    """Internal to this package: another step has failed, whose error is the one to be told."""


def _others(entry: Entry, step: Step) -> tuple[Mark, ...]:
    return tuple(mark for mark in entry.marks if mark.key != step.key)
