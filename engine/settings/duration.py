"""Durations as people write them: `30m`, `4h`, `1d12h`."""

from __future__ import annotations

import re
from typing import ClassVar

from engine.errors import ExitCode, NewhopeError

UNIT_S = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
LONGEST_S = 100 * 365 * UNIT_S["d"]

_HOW = 'Write it as days, hours, minutes and seconds, for example "30m", "4h" or "1d12h".'
_WHOLE = re.compile(
    r"\s*(?:(\d+)\s*w)?\s*(?:(\d+)\s*d)?\s*(?:(\d+)\s*h)?\s*(?:(\d+)\s*m)?\s*(?:(\d+)\s*s)?\s*", re.ASCII
)


class InvalidDuration(NewhopeError):
    """A text that should be a duration is none, or not a usable one."""

    exit_code: ClassVar[ExitCode] = ExitCode.USAGE


def parse_duration(text: str) -> int:
    """Return the seconds that a text such as `1d12h` means: more than zero, at most a hundred years.

    Units are w, d, h, m and s, each at most once, the largest first; spaces between them do not matter. Raises
    `InvalidDuration`.
    """
    stripped = text.strip()
    if not stripped:
        raise InvalidDuration("The duration is empty.", next_step=_HOW)
    if stripped.startswith("-"):
        raise InvalidDuration(f'The duration "{stripped}" is negative.', next_step=_HOW)
    if re.fullmatch(r"\d+", stripped, re.ASCII):
        hint = f'Say which: "{stripped}h" is hours, "{stripped}m" is minutes, "{stripped}s" is seconds.'
        raise InvalidDuration(f'The duration "{stripped}" has no unit.', next_step=hint)
    match = _WHOLE.fullmatch(text.lower())
    if match is None:
        raise InvalidDuration(f'"{stripped}" is not a duration.', next_step=_HOW)
    seconds = sum(int(count) * size for count, size in zip(match.groups(default="0"), UNIT_S.values(), strict=True))
    if seconds == 0:
        raise InvalidDuration(f'The duration "{stripped}" is zero.', next_step=_HOW)
    if seconds > LONGEST_S:
        raise InvalidDuration(f'The duration "{stripped}" is longer than a hundred years.', next_step=_HOW)
    return seconds


def format_duration(seconds: float) -> str:
    """Return a duration as `parse_duration` reads it: `1d12h`, `90s` as `1m30s`, nothing as `0s`."""
    rest = round(abs(seconds))
    if rest == 0:
        return "0s"
    pieces: list[str] = ["-"] if seconds < 0 else []
    for unit in "dhms":
        count, rest = divmod(rest, UNIT_S[unit])
        if count:
            pieces.append(f"{count}{unit}")
    return "".join(pieces)
