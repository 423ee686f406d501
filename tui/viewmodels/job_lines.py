"""Jobs: what runs, how far it is, what came of it, and what to do about those that did not end well."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from engine.jobs import RateMeter
from engine.jobs.model import Job, JobState, LogLine, Step, StepState
from tui.viewmodels.figures import age, clock, moment, percent, size, span
from tui.viewmodels.knob_steps import with_keys
from tui.viewmodels.picture import Picture
from tui.viewmodels.text import (
    BLANK,
    Block,
    Column,
    Line,
    Row,
    Span,
    Table,
    Tone,
    bare,
    fitting,
    labelled,
    line,
    quiet,
    strong,
    wrapped,
)

STATE_WORDS = {
    JobState.QUEUED: Span("- QUEUED", Tone.QUIET),
    JobState.RUN: Span("> RUN", Tone.NOTE),
    JobState.DONE: Span("+ DONE", Tone.GOOD),
    JobState.WARN: Span("! WARN", Tone.WARN),
    JobState.FAIL: Span("x FAIL", Tone.BAD),
    JobState.CANCELLED: Span("- CANCEL", Tone.WARN),
    JobState.LOST: Span("x LOST", Tone.BAD),
}
PAUSED = Span("! PAUSED", Tone.WARN)
_STEP_WORDS = {
    StepState.WAIT: Span("wait", Tone.QUIET),
    StepState.RUN: Span("run ", Tone.NOTE),
    StepState.DONE: Span("ok  ", Tone.GOOD),
    StepState.FAIL: Span("FAIL", Tone.BAD),
    StepState.SKIP: Span("skip", Tone.QUIET),
}
_SILENT_S = 20.0
Meters = Mapping[int, RateMeter]


def counts_line(picture: Picture) -> Line:
    """How many jobs are in each state; of those over, the ones of the last day."""
    counted: dict[JobState, int] = {}
    for job in picture.jobs:
        over = job.finished or job.created
        if not job.state.over or (picture.now - over).total_seconds() < 86400:
            counted[job.state] = counted.get(job.state, 0) + 1
    parts: list[Span] = [quiet("RUN "), Span(f"{counted.get(JobState.RUN, 0) + counted.get(JobState.QUEUED, 0)}")]
    parts.append(quiet("   in 24 h:  "))
    for state in (JobState.DONE, JobState.WARN, JobState.FAIL, JobState.CANCELLED, JobState.LOST):
        number = counted.get(state, 0)
        if number or state is JobState.DONE:
            word = STATE_WORDS[state]
            parts += [quiet(f"{bare(word)} "), Span(f"{number}  ", word.tone)]
    return tuple(parts)


def job_table(picture: Picture, meters: Meters, width: int, *, wanted: str = "", faults_only: bool = False) -> Table:
    """The newest jobs first."""
    columns = fitting(
        (
            Column("job", "JOB", 4, right=True),
            Column("state", "STATE", 8),
            Column("what", "WHAT", 7),
            Column("vm", "VM", 12, grows=True),
            Column("host", "HOST", 9),
            Column("by", "BY", 9),
            Column("done", "DONE", 4, right=True),
            Column("rate", "RATE", 10, right=True),
            Column("left", "LEFT", 6, right=True),
            Column("started", "STARTED", 11),
        ),
        width,
        give_up=("by", "left", "rate", "host", "started"),
    )
    left = [
        job
        for job in picture.jobs
        if all(
            word in f"{job.id} {job.kind} {job.subject} {job.host} {job.state}".lower()
            for word in wanted.lower().split()
        )
        and (not faults_only or job.state in (JobState.FAIL, JobState.LOST, JobState.WARN))
    ]
    rows = tuple(
        Row(str(job.id), tuple(_job_cell(column.key, job, meters.get(job.id), picture) for column in columns))
        for job in left
    )
    return Table(columns, rows, _why_none(picture, wanted, faults_only))


def _why_none(picture: Picture, wanted: str, faults_only: bool) -> Block:
    if wanted:
        return (line("No job matches ", strong(wanted), "."), line(quiet("Esc clears the filter.")))
    if faults_only and picture.jobs:
        return (line(Span("No job needs you.", Tone.GOOD)), line(quiet("f shows all of them.")))
    return (
        line(strong("No job has run yet.")),
        line(quiet("In the fleet (1): B backs a VM up, R brings one back.")),
    )


def _job_cell(key: str, job: Job, meter: RateMeter | None, picture: Picture) -> Span:
    if key == "state":
        return PAUSED if job.paused else STATE_WORDS[job.state]
    running = job.state is JobState.RUN and not job.paused
    rate = meter.bytes_per_s if running and meter else None
    left = meter.seconds_left(job.total_bytes) if running and meter else None
    texts = {
        "job": str(job.id),
        "what": job.kind,
        "vm": job.subject,
        "host": job.host,
        "by": job.operator,
        "done": _progress(job),
        "rate": f"{size(rate)}/s" if rate else "",
        "left": span(left) if left is not None and rate else "",
        "started": moment(job.started or job.created, picture.now),
    }
    return Span(texts[key])


def _progress(job: Job) -> str:
    """How much of its data; where there is none (left), at which of its steps."""
    if job.state.over:
        return ""
    if job.done_bytes < job.total_bytes:
        return percent(job.done_bytes, job.total_bytes)
    reached = sum(step.state is not StepState.WAIT for step in job.steps)
    return f"{reached}/{len(job.steps)}" if job.steps else "-"


def headline(job: Job, meter: RateMeter | None, picture: Picture) -> Line:
    """Where the job stands, in one line."""
    word = PAUSED if job.paused else STATE_WORDS[job.state]
    parts: list[str | Span] = [Span(bare(word), word.tone)]
    if job.state is JobState.RUN:
        if job.done_bytes < job.total_bytes:
            parts += [f"  {_progress(job)}", quiet("  of "), size(job.total_bytes)]
        elif job.steps:
            parts += [quiet("  step "), _progress(job)]
        copying = meter if job.done_bytes < job.total_bytes and not job.paused else None
        rate = copying.bytes_per_s if copying else None
        left = copying.seconds_left(job.total_bytes) if copying else None
        if rate:
            parts += [f"  {size(rate)}/s"]
        if rate and left is not None:
            parts += [quiet("  left "), f"about {span(left)}"]
        if job.cancel_asked:
            parts.append(Span("  cancelling: it ends at a safe place", Tone.WARN))
    elif job.started and job.finished:
        parts += [quiet("  took "), span((job.finished - job.started).total_seconds())]
        if job.done_bytes:
            parts += [quiet("  moved "), size(job.done_bytes)]
    parts += [quiet("  started "), moment(job.started or job.created, picture.now), quiet("  by "), job.operator]
    return line(*parts)


def step_lines(job: Job, picture: Picture, width: int) -> Block:
    """The steps, each with its state, its bytes and its time."""
    return tuple(row for step in job.steps for row in _step(step, picture, width))


def line_of_active(job: Job, picture: Picture, width: int) -> int:
    """The line of the step that is at work; of a job that is over, the last one."""
    before = itertools.takewhile(lambda step: step.state not in (StepState.RUN, StepState.WAIT), job.steps)
    return sum(len(_step(step, picture, width)) for step in before)


def _step(step: Step, picture: Picture, width: int) -> Block:
    took = ""
    if step.started is not None and step.state is not StepState.SKIP:
        took = span(((step.finished or picture.now) - step.started).total_seconds())
    moved = ""
    if step.total_bytes:
        moved = f"{size(step.done_bytes)} of {size(step.total_bytes)}"
        if step.state is StepState.DONE:
            moved = size(step.done_bytes)
    active = step.state is StepState.RUN
    right = f"{_bar(step)} {moved:>18}" if active and step.total_bytes else moved
    room = max(10, width - 9 - len(right) - 10)
    title = step.title if len(step.title) <= room else step.title[: room - 1] + "…"
    tone = Tone.STRONG if active else Tone.QUIET if step.state is StepState.WAIT else Tone.PLAIN
    first = line(
        " ",
        _STEP_WORDS[step.state],
        quiet(f" {step.number:>2} "),
        Span(f"{title:<{room}}", tone),
        Span(f" {right}", Tone.PLAIN if active else Tone.QUIET),
        f"{took:>8}",
    )
    return (first, *wrapped(step.note, width, first=" " * 9, tone=Tone.QUIET)) if step.note else (first,)


def _bar(step: Step) -> str:
    filled = int(10 * step.done_bytes / step.total_bytes) if step.total_bytes else 0
    return "#" * min(10, filled) + "-" * (10 - min(10, filled))


def outcome_lines(job: Job, picture: Picture, width: int) -> Block:
    """What came of it, or how it lives; for one that did not end well, the way on."""
    again = labelled("AGAIN", job.again, width, tone=Tone.NOTE, label_width=11) if job.again else ()
    if job.state is JobState.LOST:
        last = job.heartbeat or job.started or job.created
        return (
            *labelled(
                "LOST",
                f"Its process is gone without a last word; last sign {clock(last)}.",
                width,
                tone=Tone.BAD,
                label_width=11,
            ),
            *labelled("UNTOUCHED", job.untouched or "Every earlier recovery point is whole.", width, label_width=11),
            *again,
        )
    if job.failure is not None:
        return (
            *labelled("WHAT", job.failure.what, width, tone=Tone.BAD, label_width=11),
            *labelled("UNTOUCHED", job.failure.untouched, width, label_width=11),
            *labelled("NEXT", job.failure.next_step, width, tone=Tone.STRONG, label_width=11),
            *again,
        )
    if job.state.over:
        tone = Tone.GOOD if job.state is JobState.DONE else Tone.WARN
        return (
            *labelled("RESULT", job.result or f"It is {job.state.value}.", width, tone=tone, label_width=11),
            *_report(job, picture, width),
        )
    where = f"pid {job.pid}" if job.pid else "about to start"
    silent = ""
    if job.heartbeat is not None and (picture.now - job.heartbeat).total_seconds() > _SILENT_S:
        silent = f" No sign of life for {age((picture.now - job.heartbeat).total_seconds())}."
    text = f"It runs by itself ({where}); closing the console, or losing this line, does not stop it.{silent}"
    knobs = labelled("SET TO", with_keys(job.knobs), width, label_width=11) if job.knobs is not None else ()
    return (*knobs, *wrapped(text, width, tone=Tone.QUIET))


def _report(job: Job, picture: Picture, width: int) -> Block:
    if not job.finished:
        return ()
    asked = f"{moment(job.created, picture.now)} by {job.operator}"
    return (
        *labelled("asked", asked, width, label_width=11),
        *(labelled("again", job.again, width, tone=Tone.NOTE, label_width=11) if job.again else ()),
    )


def log_lines(lines: tuple[LogLine, ...], width: int, *, over: bool = False) -> Block:
    """The log with the time of each line."""
    tones = {"warn": Tone.WARN, "error": Tone.BAD}
    body: list[Line] = []
    for entry in lines:
        word = {"warn": "WARN ", "error": "FAIL "}.get(entry.level, "")
        first = f"{clock(entry.time)} "
        body += wrapped(word + entry.text, width, first=first, tone=tones.get(entry.level, Tone.PLAIN))
    return tuple(body) or (line(quiet("Nothing was logged." if over else "Nothing logged yet.")),)


def job_page(job: Job, lines: tuple[LogLine, ...], picture: Picture, width: int) -> Block:
    """Steps, outcome and the end of the log: the pane beside or below the table."""
    return (
        *step_lines(job, picture, width),
        BLANK,
        *outcome_lines(job, picture, width),
        BLANK,
        *log_lines(lines[-5:], width, over=job.state.over),
    )


def cancel_lines(job: Job) -> Block:
    """What cancelling a job means, before it is asked to."""
    stays = {
        "backup": "No recovery point is made of it. Every earlier one stays; the guest is thawed and left running.",
        "restore": "What it has created on the target host is taken away again. The original is not touched.",
    }
    return (
        line(strong(f"Job {job.id}: {job.kind} of {job.subject}{job.place}")),
        BLANK,
        line("It is asked to stop at the next safe place, and cleans up behind itself."),
        line(job.untouched or stays.get(job.kind, "It leaves nothing half done.")),
    )
