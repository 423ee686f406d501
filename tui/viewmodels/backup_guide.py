"""The guided backup: what each method will do to this VM, in sentences, before anything is done."""

from __future__ import annotations

import shlex

from msgspec import Struct

from engine.backup import BackupPlan
from engine.settings.model import Method
from tui.viewmodels.figures import size
from tui.viewmodels.picture import Picture, VmView
from tui.viewmodels.text import (
    BLANK,
    Block,
    Column,
    Line,
    Row,
    Span,
    Table,
    Tone,
    labelled,
    line,
    quiet,
    rule,
    strong,
    wrapped,
)

_WHAT = {
    Method.HOT: ("hot", "the guest keeps running"),
    Method.COLD: ("cold", "the guest shuts down and boots again at once"),
    Method.PAUSED: ("paused", "the guest stands still for a moment"),
    Method.MEMORY: ("memory", "the same, and its memory is kept too"),
}


class Option(Struct, frozen=True):
    """One way to make the recovery point: a method and a repository, and the plan the engine made of them."""

    method: Method
    repository: str
    plan: BackupPlan | None = None
    refusal: Block = ()
    """Why this one is not possible now."""

    @property
    def key(self) -> str:
        """What names its row."""
        return f"{self.method.value}/{self.repository}"


def candidates(picture: Picture, view: VmView) -> tuple[Option, ...]:
    """Every method with every repository, the level's method first."""
    wanted = view.level.method if view.level else Method.HOT
    methods = sorted(Method, key=lambda method: method is not wanted)
    names = [repository.name for repository in picture.settings.repositories]
    return tuple(Option(method, name) for method in methods for name in names)


def option_table(options: tuple[Option, ...], picture: Picture, view: VmView) -> Table:
    """The choices, one a row."""
    columns = (
        Column("method", "METHOD", 6),
        Column("means", "WHAT IT MEANS", 44, grows=True),
        Column("repository", "INTO", 12),
        Column("free", "FREE", 9, right=True),
    )
    wanted = view.level.method if view.level else None
    rows: list[Row] = []
    for option in options:
        method, means = _WHAT[option.method]
        if option.method is wanted and view.level is not None:
            means += f" (level {view.level.name})"
        seen = picture.repository(option.repository)
        free_bytes = seen.info.free_bytes if seen and seen.info else None
        free = size(free_bytes) if free_bytes is not None else "-"
        tone = Tone.QUIET if option.refusal else Tone.PLAIN
        cells = (method, means, option.repository, free)
        rows.append(Row(option.key, tuple(Span(text, tone) for text in cells)))
    empty = (
        line("There is nowhere to keep a recovery point."),
        line(strong("newhope repo init PATH"), " makes a repository."),
    )
    return Table(columns, tuple(rows), empty)


def plan_block(option: Option | None, view: VmView, width: int, others: tuple[Option, ...] = ()) -> Block:
    """The chosen option in full, and what the other method would have done."""
    if option is None:
        return ()
    if option.refusal:
        return option.refusal
    if option.plan is None:
        return (line(strong("PLANNING"), quiet("  asking what is known of the VM...")),)
    body: list[Line] = [rule(f"what {option.method.value} does to {view.name}", width)]
    for sentence in option.plan.effects:
        body += wrapped(_sentence(sentence), width, first="  - ")
    for sentence in option.plan.warnings:
        body += wrapped(_sentence(sentence), width, first="  ! ", tone=Tone.WARN)
    # Of four methods, the two that an operator weighs against each other; the list says what the others mean.
    counterpart = Method.COLD if option.method is Method.HOT else Method.HOT
    for other in others:
        if other.method is counterpart and other.repository == option.repository and other.plan:
            said = " ".join(_sentence(sentence) for sentence in other.plan.effects)
            body += wrapped(said, width, first=f"  {other.method.value} instead: ", indent="    ", tone=Tone.QUIET)
    body.append(rule("plan", width))
    for number, step in enumerate(option.plan.steps, 1):
        body += wrapped(step, width, first=f" {number:>2}  ")
    body += [*labelled("CLI", command(view, option), width, tone=Tone.NOTE, label_width=5)]
    return tuple(body)


def confirm_lines(option: Option, view: VmView, width: int) -> Block:
    """What is about to start, once more and short."""
    effects = option.plan.effects if option.plan else ()
    return (
        line("Back up ", strong(view.name), f" on {view.host} into {option.repository}, {option.method.value}."),
        BLANK,
        *(row for sentence in effects for row in wrapped(_sentence(sentence), width, first="  - ")),
        BLANK,
        *wrapped("Every earlier recovery point stays as it is. The job runs by itself; C cancels it.", width),
    )


def command(view: VmView, option: Option) -> str:
    """The same from the shell."""
    return shlex.join(
        ["newhope", "backup", view.name, "--method", option.method.value, "--repository", option.repository]
    )


def _sentence(text: str) -> str:
    text = text.strip()
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", "!", "?")) else ".")
