"""How many faults the tests injected, counted where they are injected and printed as one table when a run ends.

Whoever injects a fault says so, once it is known that nothing was harmed:

    from tests.faults.figures import Fault, count

    count(Fault.KILL, "sync")               # one process killed in a sync; every point was whole afterwards
    count(Fault.FLIP, "packs", harmless=1)  # a bit that no restore and no verification depends on

`where` is an operation (`backup`, `collection`, `sync`, ...) or a kind of object (`packs`, `points`, ...), in the words
of other tests, so that they share a line. Tests of any folder may count, in the process that pytest runs (a child
process has counts of its own, which nobody sees). `tests/conftest.py` brings the hooks at the end to pytest; what is
counted in processes of xdist is added up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from typing import Protocol

import pytest


class Fault(StrEnum):
    """What was done to a repository; in the order of the table."""

    KILL = "process killed"
    CRASH = "simulated crash"
    SLEEP = "slept past its lease"
    CLOCK = "wrong clock"
    POWER = "power cut"
    FULL = "disk full"
    READ_ONLY = "disk read-only"
    REFUSED = "deletion refused"
    BROKEN = "disk error"
    REQUEST = "S3 request spoilt"
    FLIP = "bit flipped"
    CUT = "object cut"
    MISSING = "object missing"
    TWICE = "object twice"
    EXCHANGED = "object exchanged"


class HasOutput(Protocol):
    """A process of xdist, once it has ended."""

    workeroutput: dict[str, object]


OUTPUT = "newhope_faults"
_injected: Counter[tuple[str, str]] = Counter()
_harmless: Counter[tuple[str, str]] = Counter()


def count(fault: Fault, where: str, injected: int = 1, *, harmless: int = 0) -> None:
    """Faults that were injected and recovered from, or found; `harmless` of them had no effect that could be found."""
    _injected[fault.value, where] += injected
    _harmless[fault.value, where] += harmless


def table() -> list[str]:
    """The lines of the table; none if nothing was counted."""
    if not _injected:
        return []
    order = [fault.value for fault in Fault]
    rows = [("fault", "in", "injected", "held", "no effect")]
    for (fault, where), number in sorted(_injected.items(), key=lambda row: (order.index(row[0][0]), row[0][1])):
        none = _harmless[fault, where]
        rows.append((fault, where, f"{number:,}", f"{number - none:,}", f"{none:,}" if none else ""))
    total, none = _injected.total(), _harmless.total()
    rows.append(("all", "", f"{total:,}", f"{total - none:,}", f"{none:,}" if none else ""))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    alignment = "<<>>>"
    return [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, alignment, widths, strict=True)).rstrip()
        for row in rows
    ]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a process of xdist: hand over what was counted here."""
    if hasattr(session.config, "workeroutput"):
        found = [[*key, number, _harmless[key]] for key, number in _injected.items()]
        session.config.workeroutput[OUTPUT] = found  # pyright: ignore[reportAttributeAccessIssue]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: HasOutput) -> None:
    """In the process that collects results: add up."""
    found = getattr(node, "workeroutput", {}).get(OUTPUT, [])
    assert isinstance(found, Iterable)
    for fault, where, number, harmless in found:
        count(Fault(fault), where, number, harmless=harmless)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    if lines := table():
        terminalreporter.section("faults injected; every point that was complete stayed whole, no damage was served")
        for line in lines:
            terminalreporter.line(line)
