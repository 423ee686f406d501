"""How many bytes a second a repository may be synced at: `bandwidth`, and other limits by the hours of the day.

    bandwidth = "20MiB"
    bandwidth_hours = [{ from = "08:00", to = "18:00", limit = "2MiB" }]

Times are local; a window that ends before it begins goes over midnight. The first window that the time is in counts,
and `bandwidth` outside all of them; without it there is no limit there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar

from engine.errors import ExitCode, NewhopeError
from engine.settings.model import Bandwidth, BandwidthHours, Repository
from engine.settings.table import Table

KEYS = ("bandwidth", "bandwidth_hours")
UNLIMITED = "unlimited"
DAY_MINUTES = 24 * 60
_UNITS = {
    "b": 1.0, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30, "kb": 1e3, "mb": 1e6, "gb": 1e9,
    "k": 2.0**10, "m": 2.0**20, "g": 2.0**30, "kbit": 1e3 / 8, "mbit": 1e6 / 8, "gbit": 1e9 / 8,
}  # fmt: skip
_RATE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)(?:/s)?", re.ASCII)
_TIME = re.compile(r"(\d\d?):(\d\d)", re.ASCII)
_HOW = 'Write it as bytes or bits a second, for example "2MiB", "500KiB" or "100Mbit".'
_HOURS_HOW = 'Write bandwidth_hours = [{ from = "08:00", to = "18:00", limit = "2MiB" }].'


class InvalidRate(NewhopeError):
    """A text that should be a number of bytes a second is none, or not a usable one."""

    exit_code: ClassVar[ExitCode] = ExitCode.USAGE


def parse_rate(text: str) -> int:
    """Return the bytes a second that a text such as `2MiB`, `500kB/s` or `100Mbit` means; raises `InvalidRate`."""
    stripped = text.strip()
    if re.fullmatch(r"\d+(\.\d+)?", stripped, re.ASCII):
        hint = f'Say which: "{stripped}MiB" is mebibytes, "{stripped}Mbit" is megabits a second.'
        raise InvalidRate(f'The limit "{stripped}" has no unit.', next_step=hint)
    match = _RATE.fullmatch(stripped.lower())
    if match is None or match[2] not in _UNITS:
        raise InvalidRate(f'"{stripped}" is not a number of bytes a second.', next_step=_HOW)
    rate = int(float(match[1]) * _UNITS[match[2]])
    if rate < 1024:
        raise InvalidRate(f'The limit "{stripped}" is less than 1 KiB a second.', next_step=_HOW)
    return rate


def format_rate(rate: int) -> str:
    """Return a rate as `parse_rate` reads it, exactly: `2MiB`, `1500B`."""
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if rate % size == 0:
            return f"{rate // size}{unit}"
    return f"{rate}B"


def limit_at(bandwidth: Bandwidth, now: datetime) -> int | None:
    """Bytes a second that may move at a local time; None for as many as can."""
    minute = now.hour * 60 + now.minute
    for hours in bandwidth.hours:
        if any(start <= minute < end for start, end in _spans(hours)):
            return hours.limit
    return bandwidth.limit


def read_bandwidth(table: Table) -> Bandwidth:
    """Read `bandwidth` and `bandwidth_hours` of a repository."""
    limit = _limit(table, "bandwidth", required=False)
    found: list[tuple[Table, BandwidthHours]] = []
    for window in table.tables("bandwidth_hours", _HOURS_HOW):
        window.only(("from", "to", "limit"))
        start, end = _minute(window, "from"), _minute(window, "to")
        rate = _limit(window, "limit", required=True)
        if start is None or end is None or rate == 0:
            continue
        if start == end % DAY_MINUTES and (start, end) != (0, DAY_MINUTES):
            window.complain("to", "It ends when it begins.", 'Write from = "00:00", to = "24:00" for the whole day.')
            continue
        found.append((window, BandwidthHours(start, end, rate)))
    _refuse_overlaps(found)
    return Bandwidth(limit or None, tuple(hours for _, hours in found))


def as_toml(repository: Repository) -> dict[str, object]:
    """The keys that `read_bandwidth` reads."""
    bandwidth = repository.bandwidth
    hours = [
        {
            "from": _clock(each.start),
            "to": _clock(each.end),
            "limit": format_rate(each.limit) if each.limit else UNLIMITED,
        }
        for each in bandwidth.hours
    ]
    return {"bandwidth": format_rate(bandwidth.limit) if bandwidth.limit else None, "bandwidth_hours": hours}


def _limit(table: Table, key: str, *, required: bool) -> int | None:
    """Bytes a second, None for no limit, 0 for one that cannot be used."""
    if key not in table.names():
        if required:
            table.complain(None, f'"{key}" is missing.', f'Add {key} = "2MiB", or {key} = "{UNLIMITED}".')
            return 0
        return None
    text = table.text(key)
    if text is None:
        return 0
    if text.strip().lower() == UNLIMITED:
        return None
    try:
        return parse_rate(text)
    except InvalidRate as error:
        table.complain(key, error.what, f'{error.next_step} Or write "{UNLIMITED}".')
        return 0


def _minute(table: Table, key: str) -> int | None:
    if key not in table.names():
        table.complain(None, f'"{key}" is missing.', _HOURS_HOW)
        return None
    text = table.text(key)
    if text is None:
        return None
    match = _TIME.fullmatch(text.strip())
    minute = int(match[1]) * 60 + int(match[2]) if match and int(match[2]) < 60 else DAY_MINUTES + 1
    if minute > DAY_MINUTES or (minute == DAY_MINUTES and key == "from"):
        table.complain(key, f'"{text}" is not a time of the day.', f'Write {key} = "08:00".')
        return None
    return minute


def _refuse_overlaps(found: Sequence[tuple[Table, BandwidthHours]]) -> None:
    for number, (window, hours) in enumerate(found):
        for _, earlier in found[:number]:
            common = (
                max(one[0], other[0]) < min(one[1], other[1]) for one in _spans(hours) for other in _spans(earlier)
            )
            if any(common):
                window.complain(
                    None,
                    f"It overlaps with {_clock(earlier.start)} to {_clock(earlier.end)}, and only one can hold.",
                    "Let one window end where the other begins.",
                )


def _spans(hours: BandwidthHours) -> tuple[tuple[int, int], ...]:
    if hours.start < hours.end:
        return ((hours.start, hours.end),)
    return ((hours.start, DAY_MINUTES), (0, hours.end))


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
