"""A guest that ignores its shutdown is never switched off: whoever watches its cold backup is asked what to do. Pure.

The terminal and the console ask the same: these are the answers, in their words.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from engine.backup.plan import Request
from engine.errors import ExitCode
from engine.repository import PointKind
from engine.settings.duration import format_duration
from engine.settings.model import Method


class WhatNow(StrEnum):
    """The answers; the last is what silence means."""

    WAIT = "wait"
    HOT = "hot"
    STOP = "stop"


class WayOn(Struct, frozen=True):
    """One answer, and what comes of it."""

    answer: WhatNow
    means: str
    request: Request | None
    """The backup that is started then; None for none."""


def shutdown_was_ignored(request: Request, exit_code: int) -> bool:
    """Whether a backup that ended with `exit_code` failed because its guest did not shut down.

    That is all that a guest can refuse to do for a cold backup; with `hot_if_ignored` it was taken hot.
    """
    cold = request.method is Method.COLD and request.kind is PointKind.VM
    return exit_code == ExitCode.GUEST and cold and not request.hot_if_ignored


def ways_on(request: Request) -> tuple[WayOn, ...]:
    """The answers, in the order in which they are shown."""
    longer = replace(request, shutdown_timeout_s=2 * request.shutdown_timeout_s)
    wait = f"ask {request.vm} again, and wait up to {format_duration(longer.shutdown_timeout_s)}"
    hot = "take it now, while it runs: no downtime; its file systems are frozen, if its agent does so"
    return (
        WayOn(WhatNow.WAIT, wait, longer),
        WayOn(WhatNow.HOT, hot, replace(request, method=Method.HOT)),
        WayOn(WhatNow.STOP, "make no recovery point", None),
    )
