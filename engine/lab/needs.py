"""Whether this machine can hold a lab at all; asked before anything is made."""

from __future__ import annotations

import platform

from engine.doctor import Purpose, examine
from engine.errors import MissingPackage, NewhopeError

_ARCHITECTURE = "x86_64"


class LabNotPossible(NewhopeError):
    """This machine is not of a kind that the practice guests run on."""


def require() -> None:
    """Raise `LabNotPossible` or `MissingPackage`, which names everything that is missing at once."""
    machine = platform.machine()
    if machine != _ARCHITECTURE:
        raise LabNotPossible(
            f"The practice guests are made for {_ARCHITECTURE}; this machine is {machine}.",
            next_step="Use newhope with your own hosts (`newhope init`), or run the lab on another machine.",
        )
    checks = [check for check in examine() if check.needed_for in (Purpose.RUN, Purpose.LAB) and not check.found]
    if checks:
        missing = ", ".join(f"{check.name} ({check.purpose})" for check in checks)
        raise MissingPackage(
            f"The lab needs what is not installed: {missing}.",
            next_step=" ; ".join(dict.fromkeys(check.mend for check in checks)),
        )
