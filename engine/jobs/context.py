"""What the work of a job is given: steps to tick off, bytes to count, a log, and whether to stop.
 Who writes what: the work's threads change steps and counters in memory under `_lock` and never wait for the
journal while bytes move; the pulse thread of `run` writes what changed, at most four times a second. Log
lines and the plan are written by whoever says them.
 A journal that fails (its disk is full) must not end the work, which may be a restore on another disk: the
trouble goes to the process's output file and the work goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Lock

from msgspec import structs

from engine.errors import ExitCode, NewhopeError
from engine.jobs.journal import Heard, Journal
from engine.jobs.knobs import KnobChange, Knobs, in_words
from engine.jobs.model import Job, Step, StepState


class Cancelled(NewhopeError):
    """Somebody asked the job to stop, and it did so cleanly."""

    exit_code = ExitCode.CANCELLED


class StepHandle:
    """A step that is being worked on. Its methods may be called from several threads."""

    def __init__(self, context: JobContext, number: int) -> None:
        self._context = context
        self._number = number

    def advance(self, done_bytes: int) -> None:
        """That many more bytes are done."""
        self._context.change(self._number, lambda step: {"done_bytes": step.done_bytes + done_bytes})

    def expect(self, total_bytes: int) -> None:
        """How many bytes there are to do, when that shows only on the way."""
        self._context.change(self._number, lambda step: {"total_bytes": total_bytes})

    def note(self, text: str) -> None:
        """What is worth knowing about this step: shown beside it."""
        self._context.change(self._number, lambda step: {"note": text})


class JobContext:
    """The journal as the work of one job sees it."""

    def __init__(self, journal: Journal, job: Job) -> None:
        self.job_id = job.id
        self._journal = journal
        self._untouched = job.untouched
        self._steps = {step.number: step for step in job.steps}
        self._changed: set[int] = set()
        self._lock = Lock()
        # A plain attribute, because a signal handler sets it: an Event's lock could be held by the very
        # thread that the signal interrupts.
        self.cancelled = False
        self.knobs = job.knobs or Knobs()
        """How the work is to go on now: see `pace`."""
        self.knob_changes: tuple[KnobChange, ...] = ()
        """What was changed about it since the job began; what it began with comes first, if that was not the usual."""
        if job.knobs is not None and job.knobs != Knobs(streams=job.knobs.streams):
            self.knob_changes = (KnobChange(datetime.now(UTC), job.knobs_by, job.knobs),)
        self.rests = 0.0
        """For how many times as long as a piece of work took to rest after it, because others come first."""

    def plan(self, titles: Sequence[str]) -> None:
        """All steps that will come, so that they can be seen while they wait."""
        for title in titles:
            self._add(title, StepState.WAIT)
        self.write_down()

    @contextmanager
    def step(self, title: str, total_bytes: int = 0) -> Generator[StepHandle]:
        """Work on the first waiting step of this title, or on a new one; an exception that passes fails it."""
        self.raise_if_cancelled()
        with self._lock:
            waiting = [
                number for number, step in self._steps.items() if step.title == title and step.state is StepState.WAIT
            ]
        number = waiting[0] if waiting else self._add(title, StepState.RUN)
        now = datetime.now(UTC)
        self.change(number, lambda _: {"state": StepState.RUN, "started": now, "total_bytes": total_bytes})
        self.write_down()
        try:
            yield StepHandle(self, number)
        except BaseException:
            self.change(number, lambda _: {"state": StepState.FAIL, "finished": datetime.now(UTC)})
            raise
        self.change(number, lambda _: {"state": StepState.DONE, "finished": datetime.now(UTC)})
        self.write_down()

    def log(self, text: str, level: str = "info") -> None:
        """One line for the operator; `level` is info, warn or error."""
        _even_without_journal(lambda: self._journal.append_log(self.job_id, level, text))

    def report(self, content: bytes) -> None:
        """Leave a document for whoever asked for the job: `Journal.report` gives it back."""
        _even_without_journal(lambda: self._journal.write_report(self.job_id, content))

    def raise_if_cancelled(self) -> None:
        """To be called wherever the work can stop without leaving anything half done."""
        if self.cancelled:
            raise Cancelled(
                f"Job {self.job_id} was cancelled.",
                untouched=self._untouched or "What it had begun was put back or is named in its log.",
                next_step=f"see how far it came with `newhope jobs show {self.job_id}`.",
            )

    # ------------------------------------------------------------------ for this package

    def change(self, number: int, what: Callable[[Step], dict[str, object]]) -> None:
        """Change a step in memory; the pulse writes it."""
        with self._lock:
            step = self._steps[number]
            self._steps[number] = structs.replace(step, **what(step))
            self._changed.add(number)

    @property
    def has_changes(self) -> bool:
        """Whether there is something for the pulse to write."""
        return bool(self._changed)

    def take_changed(self) -> list[Step]:
        """The steps that changed since they were last taken."""
        with self._lock:
            changed = [self._steps[number] for number in sorted(self._changed)]
            self._changed.clear()
            return changed

    def write_down(self) -> None:
        """Write what changed, and hear what somebody asks."""
        changed = self.take_changed()

        def write() -> None:
            self._hear(self._journal.pulse(self.job_id, changed))

        if not _even_without_journal(write):
            with self._lock:
                self._changed |= {step.number for step in changed}

    def _hear(self, heard: Heard) -> None:
        if heard.cancelled:
            self.cancelled = True
        if heard.knobs is None:
            return
        with self._lock:
            changed = heard.knobs != self.knobs
            if changed:
                change = KnobChange(datetime.now(UTC), heard.knobs_by, heard.knobs)
                self.knob_changes = (*self.knob_changes, change)
                self.knobs = heard.knobs
        self.rests = heard.highest_beside.weight / heard.knobs.priority.weight - 1
        if changed:
            self.log(f"set by {heard.knobs_by}: {in_words(heard.knobs)}")

    def _add(self, title: str, state: StepState) -> int:
        with self._lock:
            number = len(self._steps) + 1
            self._steps[number] = Step(number, title, state)
            self._changed.add(number)
            return number


def _even_without_journal(write: Callable[[], None]) -> bool:
    try:
        write()
    except NewhopeError as error:
        print(f"the journal did not take a note: {error}", file=sys.stderr, flush=True)  # noqa: T201
        return False
    return True
