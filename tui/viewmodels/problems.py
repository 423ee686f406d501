"""What is wrong now and not yet dismissed: each with what happened, what is untouched and what to do next."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from msgspec import Struct

from engine.errors import NewhopeError
from engine.jobs.model import Job, JobState
from tui.viewmodels.figures import moment
from tui.viewmodels.text import BLANK, Block, Column, Line, Row, Span, Table, Tone, labelled, line, quiet


class Problem(Struct, frozen=True):
    """Something that needs a person. Its key stays the same while it is the same problem."""

    key: str
    at: datetime
    what: str
    untouched: str
    next_step: str


def from_error(error: BaseException, key: str, at: datetime) -> Problem:
    """An error that was raised while the console asked the engine for something."""
    if isinstance(error, NewhopeError):
        return Problem(key, at, error.what, error.untouched, error.next_step)
    return Problem(
        key,
        at,
        f"newhope has a defect: {type(error).__name__}: {error}.",
        "Running jobs are not affected.",
        "Please report it with the steps that led here; the other screens still work.",
    )


def from_jobs(jobs: Iterable[Job], now: datetime, *, within_s: float = 86400) -> tuple[Problem, ...]:
    """Jobs of the last day that failed, or whose process is gone."""
    found: list[Problem] = []
    for job in jobs:
        over = job.finished or job.heartbeat or job.created
        if job.state not in (JobState.FAIL, JobState.LOST) or (now - over).total_seconds() > within_s:
            continue
        name = f"Job {job.id} ({job.kind} {job.subject})"
        if job.failure:
            what, untouched, next_step = job.failure.what, job.failure.untouched, job.failure.next_step
        else:
            what = "Its process ended without a last word."
            untouched = "What it had finished is kept; its log says how far it came."
            next_step = f"Open it with 2, or: newhope jobs {job.id}"
        found.append(Problem(f"job-{job.id}", over, f"{name}: {what}", untouched, next_step))
    return tuple(found)


def problem_line(problems: tuple[Problem, ...], now: datetime) -> Line:
    """The newest problem, and how many there are."""
    if not problems:
        return BLANK
    newest = max(problems, key=lambda problem: problem.at)
    more = f"   [!] {len(problems)} problems" if len(problems) > 1 else "   [!] more"
    return line(Span("! ", Tone.BAD), quiet(f"{moment(newest.at, now)} "), newest.what, quiet(more))


def problem_table(problems: tuple[Problem, ...], now: datetime) -> Table:
    """All problems, newest first."""
    columns = (Column("at", "WHEN", 11), Column("what", "WHAT HAPPENED", 62, grows=True))
    rows = (
        Row(problem.key, (Span(moment(problem.at, now)), Span(problem.what)))
        for problem in sorted(problems, key=lambda problem: problem.at, reverse=True)
    )
    return Table(columns, tuple(rows), empty=(line("Nothing is wrong that you have not dismissed."),))


def problem_lines(problem: Problem, width: int) -> Block:
    """One problem in full."""
    return (
        *labelled("WHAT", problem.what, width, tone=Tone.BAD, label_width=11),
        *labelled("UNTOUCHED", problem.untouched, width, label_width=11),
        *labelled("NEXT", problem.next_step, width, tone=Tone.STRONG, label_width=11),
    )
