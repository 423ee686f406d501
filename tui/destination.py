"""What the console is asked to open first."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

_TAKES_A_NAME = {
    "fleet": False,
    "vm": True,
    "restore": True,
    "restores": False,
    "jobs": False,
    "job": True,
    "checks": False,
}


class Destination(Struct, frozen=True):
    """A screen, and the VM, recovery point or job it is about."""

    screen: str = "fleet"
    argument: str = ""


def destination_of(words: Sequence[str]) -> Destination | None:
    """The words after `newhope tui` as a destination; None if they make no sense."""
    if not words:
        return Destination()
    takes_a_name = _TAKES_A_NAME.get(words[0])
    if takes_a_name is None or len(words) != (2 if takes_a_name else 1):
        return None
    return Destination(words[0], words[1] if takes_a_name else "")
