"""Commands for a guest's shell whose output stays small: one reply of the agent must, whatever a command writes."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

KEPT_OUTPUT_BYTES = 16384


class Kept(StrEnum):
    """Which part of an output is handed on; the rest is read and dropped."""

    START = f"{{ head -c {KEPT_OUTPUT_BYTES}; cat >/dev/null; }}"
    END = f"tail -c {KEPT_OUTPUT_BYTES}"


def bounded(words: Sequence[str], kept: Kept) -> list[str]:
    """A command line that runs a program and hands on its status and one part of its output. For Unix guests."""
    # The status goes another way than the output, and both file descriptors are closed to the program itself.
    script = (
        'exec 3>&1; code=$({ { "$@" 2>&1 3>&- 4>&- </dev/null; echo $? >&4; } '
        f"| {kept} >&3 4>&-; }} 4>&1); exit $code"
    )
    return ["/bin/sh", "-c", script, "newhope", *words]
