"""What was promised, beside what was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.measure import Row


@dataclass(frozen=True)
class Promise:
    """One figure that newhope set itself."""

    text: str
    measured: str
    kept: bool | None
    """None where one of the two was not measured."""


def at_most(text: str, ours: Row, theirs: Row, figure: str, share: float) -> Promise:
    """One of our figures is at most this share of theirs."""
    ratio = ours.median(figure) / theirs.median(figure)
    if math.isnan(ratio):
        return Promise(text, "not measured", None)
    shown = f"{1 / ratio:.2f} times" if share < 1 and figure == "wall_s" else f"{ratio:.2f}"
    return Promise(text, shown, ratio <= share)


def below(text: str, rows: Sequence[Row], figure: str, limit: float, unit: str) -> Promise:
    """A figure of all these rows stays below a limit."""
    worst = max((row.median(figure) for row in rows if row.costs), default=math.nan)
    if math.isnan(worst):
        return Promise(text, "not measured", None)
    return Promise(text, f"{worst:.0f} {unit}", worst < limit)


def table(promises: Sequence[Promise]) -> str:
    """As Markdown."""
    words = {True: "yes", False: "**no**", None: ""}
    lines = ["| promised | measured | kept |", "|---|---|---|"]
    lines += [f"| {promise.text} | {promise.measured} | {words[promise.kept]} |" for promise in promises]
    return "\n".join(lines) + "\n"
