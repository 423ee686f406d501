"""One line that says how far something is, redrawn on stderr where a terminal can, and nowhere else."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType
from typing import Self

from engine.cli.invocation import Invocation

_EVERY_S = 0.2


class ProgressLine:
    """The line; gone at the end."""

    def __init__(self, invocation: Invocation) -> None:
        self._shown = invocation.moves_cursor and sys.stderr.isatty()
        self._last = 0.0

    def __enter__(self) -> Self:
        return self

    def show(self, text: str) -> None:
        """Show a text instead of the one before, a few times a second."""
        now = time.monotonic()
        if self._shown and now - self._last >= _EVERY_S:
            self._last = now
            cut = text[: shutil.get_terminal_size().columns - 1]
            print(f"\r\x1b[K{cut}", end="", file=sys.stderr, flush=True)  # noqa: T201

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)  # noqa: T201
