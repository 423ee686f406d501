"""What the terminal in front of us can do, found out before a screen is drawn on it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TextIO

from msgspec import Struct

LEAST_COLUMNS, LEAST_LINES = 60, 20


class Terminal(Struct, frozen=True):
    """A terminal as the environment describes it."""

    interactive: bool
    """Whether input, output and messages all are a terminal."""
    kind: str
    """`TERM`."""
    columns: int
    lines: int
    remote: bool
    """Reached over SSH: every byte counts, and the mouse belongs to the operator's own terminal."""
    colour: bool
    """False where `NO_COLOR` is set to anything but the empty string (no-color.org)."""


def terminal_here(
    environ: Mapping[str, str] = os.environ, streams: Sequence[TextIO] = (sys.stdin, sys.stdout, sys.stderr)
) -> Terminal:
    """The terminal of this process. All three streams must lead there: screens are drawn on the last of them."""
    interactive = all(stream.isatty() for stream in streams)
    columns, lines = 80, 24
    if interactive:
        try:
            columns, lines = os.get_terminal_size(streams[-1].fileno())
        except OSError:
            interactive = False
    return Terminal(
        interactive=interactive,
        kind=environ.get("TERM", ""),
        # A terminal that does not tell its size says 0; serial lines do, and are 80 columns wide.
        columns=columns or 80,
        lines=lines or 24,
        remote=bool(environ.get("SSH_CONNECTION") or environ.get("SSH_TTY")),
        colour=not environ.get("NO_COLOR"),
    )


def why_unsuitable(terminal: Terminal) -> str | None:
    """Why the console cannot open here; None if it can."""
    if not terminal.interactive:
        return "The console needs a terminal, and its input, output or error output is not one."
    if terminal.kind in ("", "dumb"):
        return f"The console needs a terminal that can move its cursor; TERM is {terminal.kind or 'not set'}."
    if terminal.columns < LEAST_COLUMNS or terminal.lines < LEAST_LINES:
        return (
            f"The console needs {LEAST_COLUMNS}x{LEAST_LINES} and is made for 80x24 and more;"
            f" this terminal has {terminal.columns}x{terminal.lines}."
        )
    return None
