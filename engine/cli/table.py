"""Aligned columns for 80 characters and more; state is a word and a shape, colour comes third."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import click
from msgspec import Struct

GAP = "  "
_NARROWEST = 20
"""What a column that folds has at least: on a screen without even that, the terminal folds."""


class State(Struct, frozen=True):
    """A state as it is shown: `+ OK`."""

    shape: str
    word: str
    colour: str | None = None

    @property
    def text(self) -> str:
        """Without colour."""
        return f"{self.shape} {self.word}"


def good(word: str) -> State:
    """As it should be."""
    return State("+", word, "green")


def working(word: str) -> State:
    """Under way."""
    return State(">", word, "cyan")


def doubtful(word: str) -> State:
    """To be looked at."""
    return State("!", word, "yellow")


def bad(word: str) -> State:
    """Broken, or missing what it must have."""
    return State("x", word, "red")


def unknown(word: str) -> State:
    """Nobody could tell."""
    return State("?", word, "magenta")


def idle(word: str) -> State:
    """Neither good nor bad."""
    return State("-", word)


Cell = str | State


class Column(Struct, frozen=True):
    """A column's heading; `right` aligns numbers, `gives_way` is cut first where the screen is too narrow.

    Of the last column nothing is cut if it `folds`: its text goes on in lines below.
    """

    heading: str
    right: bool = False
    gives_way: bool = False
    folds: bool = False


def lines(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], *, width: int | None, colour: bool) -> list[str]:
    """The heading and one line a row. `width` None cuts nothing: pipes and files have room."""
    texts = [[cell.text if isinstance(cell, State) else cell for cell in row] for row in rows]
    widths = [
        max(len(column.heading), *(len(row[number]) for row in texts)) if texts else len(column.heading)
        for number, column in enumerate(columns)
    ]
    if width is not None:
        _give_way(columns, widths, width)
        if columns[-1].folds:
            widths[-1] = min(widths[-1], max(width - sum(widths[:-1]) - len(GAP) * len(widths[:-1]), _NARROWEST))
    out = [GAP.join(_fit(column.heading, column, size) for column, size in zip(columns, widths, strict=True)).rstrip()]
    for row, plain in zip(rows, texts, strict=True):
        folded = _folded(plain[-1], widths[-1]) if width is not None and columns[-1].folds else []
        plain = [*plain[:-1], folded[0]] if folded else plain
        cells = [
            _coloured(cell, _fit(text, column, size), colour=colour)
            for cell, text, column, size in zip(row, plain, columns, widths, strict=True)
        ]
        out.append(GAP.join(cells).rstrip())
        indent = " " * (sum(widths[:-1]) + len(GAP) * len(widths[:-1]))
        out += [f"{indent}{piece}" for piece in folded[1:]]
    return out


def _give_way(columns: Sequence[Column], widths: list[int], width: int) -> None:
    excess = sum(widths) + len(GAP) * (len(widths) - 1) - width
    for number, column in enumerate(columns):
        if excess > 0 and column.gives_way:
            cut = min(excess, widths[number] - max(8, len(column.heading)))
            widths[number] -= max(0, cut)
            excess -= max(0, cut)


def _fit(text: str, column: Column, size: int) -> str:
    if len(text) > size and not column.folds:
        text = text[: size - 2] + ".."
    return text.rjust(size) if column.right else text.ljust(size)


def _coloured(cell: Cell, text: str, *, colour: bool) -> str:
    return click.style(text, fg=cell.colour) if colour and isinstance(cell, State) and cell.colour else text


def _folded(text: str, width: int) -> list[str]:
    # A path that is too long is left to the terminal, which does not break it for who copies it.
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
