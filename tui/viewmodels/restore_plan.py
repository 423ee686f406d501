"""The plan of a restore, as its last three steps show it: what stands in the way, what will be done, the question."""

from __future__ import annotations

from collections.abc import Collection

from engine.fleet import CheckState, FitnessCheck
from engine.restore import Mode, PlannedStep, RestorePlan, open_warnings
from tui.viewmodels.figures import ago, size, span
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
    labelled,
    line,
    quiet,
    strong,
    wrapped,
)

MARKS = {
    CheckState.PASS: Span("+ PASS", Tone.GOOD),
    CheckState.WARN: Span("! WARN", Tone.WARN),
    CheckState.FAIL: Span("x FAIL", Tone.BAD),
    CheckState.SKIP: Span("- SKIP", Tone.QUIET),
}
"""The sign and word of each check's state."""


_OPEN = Span("! OPEN", Tone.WARN)
"""A warning that wants to be accepted by name, and is not yet."""
_ACCEPTED = Span("! TAKEN", Tone.WARN)


def _mark(check: FitnessCheck, accepted: Collection[str]) -> Span:
    if check.state is CheckState.WARN and check.by_name:
        return _ACCEPTED if check.key in accepted else _OPEN
    return MARKS[check.state]


def check_table(plan: RestorePlan, accepted: Collection[str], width: int) -> Table:
    """Every check of the plan, failures first."""
    columns = (
        Column("state", "STATE", 7),
        Column("name", "CHECK", 15),
        Column("evidence", "WHAT WAS FOUND", width - 27, grows=True),
    )
    rows = tuple(
        Row(f"{number} {check.name}", (_mark(check, accepted), Span(check.name), Span(check.evidence)))
        for number, check in enumerate(plan.checks)
    )
    return Table(columns, rows)


def check_lines(check: FitnessCheck | None, plan: RestorePlan, accepted: Collection[str], width: int) -> Block:
    """The check under the cursor, and whether the way on is free."""
    if check is None:
        return ()
    mark = _mark(check, accepted)
    body = [*labelled(bare(mark), f"{check.name}: {check.evidence}", width, tone=mark.tone)]
    if check.remedy:
        body += labelled("NEXT", check.remedy, width, tone=Tone.STRONG)
    if check.meaning:
        body += labelled("OR ELSE", check.meaning, width)
    if mark is _OPEN:
        body += labelled("SPACE", f"accepts it by its name, {check.key}", width, tone=Tone.STRONG)
    elif mark is _ACCEPTED:
        body += labelled("SPACE", f"takes it back: {check.key} is accepted", width)
    left = open_warnings(plan.checks, accepted)
    body.append(BLANK)
    if plan.blocked:
        body += wrapped("A FAIL blocks the restore. Mend it and press ctrl+r, or go back with h.", width, tone=Tone.BAD)
    elif left:
        names = ", ".join(each.name for each in left)
        body += wrapped(f"Nothing fails. To be accepted one by one, with Space: {names}.", width, tone=Tone.WARN)
    else:
        body += wrapped("Nothing blocks the restore. Enter goes on to the plan.", width, tone=Tone.QUIET)
    return tuple(body)


def _if_it_fails(plan: RestorePlan) -> str:
    if plan.request.instant:
        return "If a step fails before its start, all before it are undone; after it, the VM runs on."
    return "If a step fails, all before it are undone."


def plan_block(plan: RestorePlan, width: int) -> Block:
    """What it comes to, then the exact steps in order with bytes, time and undo, then the same from the shell."""
    took = f"about {span(plan.expected_s)}" if plan.expected_s is not None else "unknown, nothing was measured there"
    rows: list[Line] = [
        *labelled("total", f"{size(plan.size_bytes)} to write; expected time: {took}", width),
        *labelled("stays", plan.untouched, width),
        *labelled("undo", f"{plan.undo_window}. {_if_it_fails(plan)}", width),
        BLANK,
        line(quiet(f"  # {'ACTION':<{_ACTION}}{'DETAIL':<{width - _ACTION - 19}}{'DATA':>8}{'ABOUT':>7}")),
    ]
    for number, step in enumerate(plan.steps, 1):
        rows += _step_lines(number, step, width)
    rows += [BLANK, *labelled("CLI", plan.command, width, tone=Tone.NOTE)]
    return tuple(rows)


_ACTION = 25
"""Columns of a step's title."""


def _step_lines(number: int, step: PlannedStep, width: int) -> list[Line]:
    data = size(step.size_bytes) if step.size_bytes else "-"
    took = span(step.expected_s) if step.expected_s is not None and step.expected_s >= 1 else "-"
    room, indent = width - _ACTION - 20, " " * (_ACTION + 4)
    first, *more = _columns(step.detail, room)
    title = f"{step.title[: _ACTION - 1]:<{_ACTION}}"
    rows: list[Line] = [line(quiet(f" {number:>2} "), title, f"{first:<{room + 1}}", f"{data:>8}{took:>7}")]
    rows += [line(indent, rest) for rest in more]
    rows += [line(indent, quiet(rest)) for rest in _columns(f"undo: {step.undo}", room)]
    if step.no_return:
        lost = "POINT OF NO RETURN: what this overwrites cannot be brought back"
        rows += [line(indent, Span(rest, Tone.BAD)) for rest in _columns(lost, room)]
    return rows


def _columns(text: str, width: int) -> list[str]:
    return ["".join(span.text for span in row) for row in wrapped(text, max(16, width))]


def _what_it_is(plan: RestorePlan) -> Line:
    request = plan.request
    if request.mode is Mode.DISKS:
        return line("Write the disks of ", strong(plan.vm), f" to {request.to_host}, named after {request.name}.")
    if request.mode is Mode.TEST:
        return line("Try ", strong(plan.vm), f" on {request.to_host} as ", strong(request.name), ", isolated.")
    if request.aside is not None:
        return line("Bring ", strong(plan.vm), f" back on {request.to_host}, in the place of the one that is there.")
    return line("Bring ", strong(plan.vm), f" back on {request.to_host} as ", strong(request.name), ".")


def _started(plan: RestorePlan) -> str:
    request = plan.request
    if not request.defines:
        return "No VM is defined."
    if request.instant:
        return "It starts at once, over the point; then its guest agent is asked, and its disks are moved."
    return "It is started and its guest agent is asked." if request.start else "It is not started."


def confirm_lines(plan: RestorePlan, picture: Picture, width: int) -> Block:
    """What is about to start, in sentences."""
    request = plan.request
    made = ago((picture.now - plan.moment).total_seconds())
    warned = [check for check in plan.checks if check.state is CheckState.WARN]
    body: list[Line] = [
        _what_it_is(plan),
        BLANK,
        *wrapped(f"As it was {made}; {size(plan.size_bytes)} are written. {_started(plan)}", width, first="  - "),
        *wrapped(f"Untouched: {plan.untouched}", width, first="  - "),
    ]
    why = " ".join(part for part in (request.reason, f"({request.ticket})" if request.ticket else "") if part)
    body += wrapped(f"Why: {why}", width, first="  - ") if why else ()
    if request.aside is not None:
        text = f"{request.aside.name} is switched off when all is written, and kept as {request.aside.kept_name}."
        body += wrapped(text, width, first="  ! ", tone=Tone.WARN)
    for check in warned:
        accepted = " (accepted)" if check.by_name else ""
        body += wrapped(f"{check.name}: {check.evidence}{accepted}", width, first="  ! ", tone=Tone.WARN)
    body += [BLANK, *wrapped("The job runs by itself; you may disconnect.", width, tone=Tone.QUIET)]
    return tuple(body)
