"""How findings write ages and lists."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3_600, 86_400


def age_in_words(seconds: float) -> str:
    """Return an age in the two units that matter: `42s`, `30m`, `4h12m`, `3d4h`."""
    whole = int(max(0.0, seconds))
    if whole < _MINUTE_S:
        return f"{whole}s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S}m"
    if whole < _DAY_S:
        hours, minutes = divmod(whole // _MINUTE_S, 60)
        return f"{hours}h{minutes}m" if minutes else f"{hours}h"
    days, hours = divmod(whole // _HOUR_S, 24)
    return f"{days}d{hours}h" if hours else f"{days}d"


def command(*words: str) -> str:
    """Return a command as a shell takes it, in backquotes."""
    return f"`{shlex.join(words)}`"


def listed(names: Sequence[str], *, most: int = 4) -> str:
    """Return names as a sentence has them, the first few of many: `a, b, c and 7 more`."""
    if len(names) == 1:
        return names[0]
    if len(names) <= most:
        return f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 VM`, `3 VMs`, `2 copies`."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun[:-1]}ies" if noun.endswith("y") else f"{number} {noun}s"
