"""A job as the journal knows it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from engine.jobs.knobs import Knobs


class JobState(StrEnum):
    """Where a job stands. LOST means that its process is gone without a last word."""

    QUEUED = "queued"
    RUN = "run"
    DONE = "done"
    WARN = "warn"
    """Done, and there is something to read in its result."""
    FAIL = "fail"
    CANCELLED = "cancelled"
    LOST = "lost"

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self not in (JobState.QUEUED, JobState.RUN)


class StepState(StrEnum):
    """Where a step of a job stands."""

    WAIT = "wait"
    RUN = "run"
    DONE = "done"
    FAIL = "fail"
    SKIP = "skip"


class Step(Struct, frozen=True):
    """One step of a job."""

    number: int
    title: str
    state: StepState
    started: datetime | None = None
    finished: datetime | None = None
    done_bytes: int = 0
    total_bytes: int = 0
    note: str = ""


class LogLine(Struct, frozen=True):
    """One line of a job's log."""

    number: int
    time: datetime
    level: str
    """`info`, `warn` or `error`."""
    text: str


class Failure(Struct, frozen=True):
    """Why a job did not succeed, in the three sentences of every error."""

    what: str
    untouched: str
    next_step: str
    exit_code: int


class Job(Struct, frozen=True):
    """A job and how far it is."""

    id: int
    kind: str
    """`backup`, `restore`, `verify`, ..."""
    subject: str
    """Name of the VM or the repository it is for."""
    host: str
    """Empty for work on a repository, which is on none."""
    state: JobState
    created: datetime
    operator: str
    spec: bytes
    """The request as JSON; its type belongs to the package that runs it."""
    started: datetime | None = None
    finished: datetime | None = None
    pid: int | None = None
    heartbeat: datetime | None = None
    cancel_asked: bool = False
    steps: tuple[Step, ...] = ()
    failure: Failure | None = None
    result: str = ""
    """One sentence on what came of it; empty until it is over."""
    again: str = ""
    """The command that starts the same thing again."""
    untouched: str = ""
    """What stays as it was even when the job is killed half way."""
    knobs: Knobs | None = None
    """How it is to run, as was said last; None for a job that has none."""
    knobs_by: str = ""
    """Who said so; empty for what it began with."""

    @property
    def paused(self) -> bool:
        """Whether it was told to stand still, and is not over."""
        return self.knobs is not None and self.knobs.paused and not self.state.over

    @property
    def place(self) -> str:
        """` on HOST`, or nothing: what follows the subject in a sentence."""
        return f" on {self.host}" if self.host else ""

    @property
    def done_bytes(self) -> int:
        """Bytes moved so far."""
        return sum(step.done_bytes for step in self.steps)

    @property
    def total_bytes(self) -> int:
        """Bytes to move, as far as is known."""
        return sum(step.total_bytes for step in self.steps)
