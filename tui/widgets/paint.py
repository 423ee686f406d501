"""From tones to the terminal's own sixteen colours, and from one line to the next with as few bytes as possible.

Colours are named, never given in numbers: they are the operator's palette, and `NO_COLOR` can take them away without
losing bold and reverse.
"""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style
from textual.message import Message

from tui.viewmodels.text import Line, Span, Tone, width_of

STYLES = {
    Tone.PLAIN: Style(),
    Tone.QUIET: Style(dim=True),
    Tone.STRONG: Style(bold=True),
    Tone.GOOD: Style(color="green"),
    Tone.WARN: Style(color="yellow", bold=True),
    Tone.BAD: Style(color="red", bold=True),
    Tone.NOTE: Style(color="cyan"),
    Tone.HERE: Style(bold=True, reverse=True),
}
CURSOR = Style(reverse=True)
CURSOR_ELSEWHERE = Style(bold=True)

_NEAR = 6
"""Two changes closer than this are written as one: moving the cursor between them would cost as much."""


class Relaid(Message):
    """A widget has another size now; whoever fills it may want to break lines anew."""

    def can_replace(self, message: Message) -> bool:
        """One is as good as many."""
        return isinstance(message, Relaid)


def segments(of: Line, base: Style, over: Style | None = None) -> list[Segment]:
    """The line for the terminal; `over` paints the whole of it as the row under the cursor."""
    if over is not None and over.reverse:
        # The colours of the cells would make a reversed row a patchwork.
        return [Segment(span.text, base + over) for span in of]
    if over is not None:
        base += over
    return [Segment(span.text, base + STYLES[span.tone]) for span in of]


def fitted(text: str, width: int, *, right: bool = False) -> str:
    """The text in exactly `width` cells, with a mark where something is cut off."""
    length = cell_len(text)
    if length > width:
        return set_cell_size(text, max(0, width - 1)) + ("…" if width > 0 else "")
    return " " * (width - length) + text if right else text + " " * (width - length)


def changed_runs(old: Line, new: Line) -> list[tuple[int, int]]:
    """Where two lines differ, as (first cell, cell after the last); near changes come as one."""
    before, after = _cells(old), _cells(new)
    if len(before) != cell_len("".join(span.text for span in old)) or len(after) != cell_len(
        "".join(span.text for span in new)
    ):
        return [(0, 2 * max(width_of(old), width_of(new)))]
    length = max(len(before), len(after))
    blank = (" ", Tone.PLAIN)
    before += [blank] * (length - len(before))
    after += [blank] * (length - len(after))
    runs: list[tuple[int, int]] = []
    for place in range(length):
        if before[place] == after[place]:
            continue
        if runs and place - runs[-1][1] < _NEAR:
            runs[-1] = (runs[-1][0], place + 1)
        else:
            runs.append((place, place + 1))
    return runs


def _cells(of: Line) -> list[tuple[str, Tone]]:
    return [
        (letter, Tone.PLAIN if letter == " " and span.tone is not Tone.HERE else span.tone)
        for span in of
        for letter in span.text
    ]


def padded(parts: list[Span], width: int) -> Line:
    """The spans filled up with blanks to `width` cells."""
    used = sum(cell_len(span.text) for span in parts)
    return (*parts, Span(" " * max(0, width - used)))
