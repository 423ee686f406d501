"""From the journal's rows to the values that leave this package."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from engine.jobs.knobs import Knobs
from engine.jobs.model import Failure, Job, JobState, LogLine, Step, StepState
from engine.jobs.store import Row


def job_from_row(row: Row, steps: tuple[Step, ...]) -> Job:
    """A job with its steps."""
    failure = None
    if row["failure_what"] is not None:
        failure = Failure(
            row["failure_what"], row["failure_untouched"], row["failure_next_step"], row["failure_exit_code"]
        )
    return Job(
        id=row["id"],
        kind=row["kind"],
        subject=row["subject"],
        host=row["host"],
        state=JobState(row["state"]),
        created=moment(row["created"]),
        operator=row["operator"],
        spec=row["spec"],
        started=optional_moment(row["started"]),
        finished=optional_moment(row["finished"]),
        pid=row["pid"],
        heartbeat=optional_moment(row["heartbeat"]),
        cancel_asked=bool(row["cancel_asked"]),
        steps=steps,
        failure=failure,
        result=row["result"],
        again=row["again"],
        untouched=row["untouched"],
        knobs=knobs_from_row(row),
        knobs_by=row["knobs_by"],
    )


def knobs_from_row(row: Row) -> Knobs | None:
    """How a job is to run; None for one that cannot be set."""
    return None if row["knobs"] is None else msgspec.json.decode(row["knobs"], type=Knobs)


def step_from_row(row: Row) -> Step:
    """One step."""
    return Step(
        number=row["number"],
        title=row["title"],
        state=StepState(row["state"]),
        started=optional_moment(row["started"]),
        finished=optional_moment(row["finished"]),
        done_bytes=row["done_bytes"],
        total_bytes=row["total_bytes"],
        note=row["note"],
    )


def log_line_from_row(row: Row) -> LogLine:
    """One line of a log."""
    return LogLine(row["number"], moment(row["time"]), row["level"], row["text"])


def moment(time_s: float) -> datetime:
    """A time of the journal as a value."""
    return datetime.fromtimestamp(time_s, UTC)


def optional_moment(time_s: float | None) -> datetime | None:
    """A time that may not have come yet."""
    return None if time_s is None else moment(time_s)
