"""Text with a meaning, before it has a colour: spans, lines and tables.

A tone is never the only carrier of a state: the words say it as well, so that nothing is lost without colour.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct


class Tone(StrEnum):
    """What a piece of text is, which the widgets turn into a style."""

    PLAIN = "plain"
    QUIET = "quiet"
    STRONG = "strong"
    GOOD = "good"
    WARN = "warn"
    BAD = "bad"
    NOTE = "note"
    HERE = "here"
    """Where the operator is: shown in reverse."""


class Span(Struct, frozen=True):
    """A piece of text of one tone."""

    text: str
    tone: Tone = Tone.PLAIN


Line: TypeAlias = tuple[Span, ...]
Block: TypeAlias = tuple[Line, ...]
BLANK: Line = ()


class Column(Struct, frozen=True):
    """A column of a table. Widths are in cells; a column with `grows` shares what is left over."""

    key: str
    title: str
    width: int
    right: bool = False
    grows: bool = False


class Row(Struct, frozen=True):
    """A row, known by its key for as long as the thing it shows exists."""

    key: str
    cells: tuple[Span, ...]


class Table(Struct, frozen=True):
    """Columns and rows, and what to say when there are none."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    empty: Block = ()


def fitting(columns: Sequence[Column], width: int, *, give_up: Sequence[str]) -> tuple[Column, ...]:
    """The columns that fit into `width`; those in `give_up` go first, in that order."""
    kept = list(columns)
    for key in give_up:
        if sum(column.width + 1 for column in kept) <= width:
            break
        kept = [column for column in kept if column.key != key]
    return tuple(kept)


def line(*parts: str | Span) -> Line:
    """A line from strings and spans."""
    return tuple(Span(part) if isinstance(part, str) else part for part in parts if part != "")


def quiet(text: str) -> Span:
    """Text that steps back: labels, units, what is only there to be complete."""
    return Span(text, Tone.QUIET)


def strong(text: str) -> Span:
    """Text that the eye should find first."""
    return Span(text, Tone.STRONG)


def bare(word: Span) -> str:
    """A state's word without the sign before it (`x FAIL` is FAIL): for sentences, where the sign reads oddly."""
    return word.text.lstrip(" +x!?->").rstrip()


def width_of(of: Line) -> int:
    """How many cells a line takes."""
    return sum(len(span.text) for span in of)


def plain_text(of: Line) -> str:
    """The line without its tones."""
    return "".join(span.text for span in of)


def rule(title: str, width: int, note: str = "") -> Line:
    """A line across the pane that names what is below it."""
    head = f"── {title} " if title else ""
    tail = f" {note} ──" if note else ""
    return (
        Span(head[:3], Tone.QUIET),
        Span(head[3:], Tone.STRONG),
        Span("─" * max(0, width - len(head) - len(tail)), Tone.QUIET),
        Span(tail, Tone.QUIET),
    )


def wrapped(text: str, width: int, *, first: str = "", indent: str | None = None, tone: Tone = Tone.PLAIN) -> Block:
    """A sentence broken to `width`, with `first` before its first line and `indent` (as wide) before the others."""
    rest = " " * len(first) if indent is None else indent
    pieces = textwrap.wrap(text, max(8, width - len(first)), break_on_hyphens=False) or [""]
    return tuple(line(quiet(first if number == 0 else rest), Span(piece, tone)) for number, piece in enumerate(pieces))


def labelled(label: str, text: str, width: int, *, tone: Tone = Tone.PLAIN, label_width: int = 9) -> Block:
    """`LABEL   text`, the text wrapped under itself."""
    return wrapped(text, width, first=f"{label:<{label_width}}", tone=tone)


def between(left: Line, right: Line, width: int) -> Line:
    """`left` and `right` at the two ends of a line; the left end gives way when both do not fit."""
    room = width - width_of(right)
    kept = clipped(left, max(0, room - 1))
    return (*kept, Span(" " * max(0, room - width_of(kept))), *right)


def clipped(of: Line, width: int) -> Line:
    """The line cut to `width`, with a mark where something is missing."""
    if width_of(of) <= width:
        return of
    kept: list[Span] = []
    left = width - 1
    for span in of:
        if left <= 0:
            break
        kept.append(Span(span.text[:left], span.tone))
        left -= len(kept[-1].text)
    return (*kept, Span("…", Tone.QUIET)) if width > 0 else ()
