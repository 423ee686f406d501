"""The question after a cold backup whose guest did not shut down: in the words of the terminal, which asks the same."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from engine.backup import Request, WayOn, shutdown_was_ignored, ways_on
from engine.jobs.model import Job, JobState
from tui.viewmodels.text import Block, Column, Row, Span, Table, Tone, labelled, wrapped

_BACKUP = "backup"


def ways_of(job: Job | None) -> tuple[WayOn, ...]:
    """The answers that there are for a job; none, if it asks nothing."""
    if job is None or job.kind != _BACKUP or job.state is not JobState.FAIL or job.failure is None:
        return ()
    try:
        request = msgspec.json.decode(job.spec, type=Request)
    except msgspec.MsgspecError:
        return ()
    return ways_on(request) if shutdown_was_ignored(request, job.failure.exit_code) else ()


def why_no_question(job: Job | None, jobs: Iterable[Job]) -> str | None:
    """Why nothing is asked about a job; None if it is."""
    if job is None or not ways_of(job):
        return "It asks nothing: only a cold backup does whose guest did not shut down."
    newer = [each for each in jobs if each.id > job.id and (each.kind, each.subject) == (_BACKUP, job.subject)]
    if newer:
        return f"Job {max(each.id for each in newer)} is a newer backup of {job.subject}; look at that one."
    return None


def failure_lines(job: Job, width: int) -> Block:
    """What happened, and that nothing was switched off."""
    if job.failure is None:
        return ()
    return (
        *labelled("WHAT", job.failure.what, width, tone=Tone.WARN, label_width=11),
        *labelled("UNTOUCHED", job.failure.untouched, width, label_width=11),
    )


def way_table(ways: tuple[WayOn, ...], width: int) -> Table:
    """The answers, one a row."""
    columns = (Column("answer", "ANSWER", 6), Column("means", "WHAT IT DOES", width - 10, grows=True))
    return Table(columns, tuple(Row(way.answer.value, (Span(way.answer.value), Span(way.means))) for way in ways))


def way_lines(way: WayOn | None, width: int) -> Block:
    """The answer under the cursor in full: the table may have cut it."""
    return wrapped(way.means, width, first=f"{way.answer.value}  ") if way is not None else ()
