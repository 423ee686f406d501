"""How ages, sizes, rates and times are written: short, steady in width, local."""

from __future__ import annotations

from datetime import datetime, tzinfo

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def age(seconds: float | None) -> str:
    """`now`, `52m`, `3h10`, `2d 4h`, `41d`: what a person would say, six characters at most."""
    if seconds is None:
        return "-"
    whole = max(0, int(seconds))
    if whole < _MINUTE:
        return "now"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m"
    if whole < _DAY:
        return f"{whole // _HOUR}h{whole % _HOUR // _MINUTE:02d}"
    days, rest = divmod(whole, _DAY)
    return f"{days}d {rest // _HOUR}h" if days < 10 and rest >= _HOUR else f"{days}d"


def ago(seconds: float) -> str:
    """`just now`, `52m ago`."""
    return "just now" if seconds < _MINUTE else f"{age(seconds)} ago"


def lost(seconds: float) -> str:
    """How much would be lost, for a sentence: `less than a minute`, `52m`."""
    return "less than a minute" if seconds < _MINUTE else age(seconds)


def span(seconds: float) -> str:
    """A duration that is being measured: `0:07`, `12:40`, `1:02:09`."""
    whole = max(0, int(seconds))
    hours, minutes = divmod(whole // _MINUTE, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def limit(seconds: int) -> str:
    """A requirement as it is set: `15m`, `4h`, `1d`, `90s`."""
    for unit, letter in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if seconds >= unit and seconds % unit == 0:
            return f"{seconds // unit}{letter}"
    return f"{seconds}s" if seconds < _HOUR else age(seconds)


def size(count: float) -> str:
    """Bytes with three figures that matter: `0 B`, `36 MiB`, `1.2 TiB`."""
    value, unit = float(count), 0
    while value >= 1023.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 or value >= 9.95 else f"{value:.1f} {_UNITS[unit]}"


def percent(done: float, total: float) -> str:
    """How much is done; never 100 % before it is all."""
    if total <= 0:
        return "-"
    return f"{min(99, int(100 * done / total))}%" if done < total else "100%"


def local(moment: datetime, zone: tzinfo | None = None) -> datetime:
    """The moment on the operator's clock."""
    return moment.astimezone(zone)


def moment(at: datetime | None, now: datetime, zone: tzinfo | None = None) -> str:
    """`16:12` today, `11-21 02:00` this year, `2025-11-21` before that."""
    if at is None:
        return "-"
    when, today = local(at, zone), local(now, zone)
    if when.date() == today.date():
        return f"{when:%H:%M}"
    return f"{when:%m-%d %H:%M}" if when.year == today.year else f"{when:%Y-%m-%d}"


def stamp(at: datetime, zone: tzinfo | None = None) -> str:
    """A moment in full, to the second, as recovery points are named."""
    return f"{local(at, zone):%Y-%m-%d %H:%M:%S}"


def clock(at: datetime, zone: tzinfo | None = None) -> str:
    """The time of day to the second."""
    return f"{local(at, zone):%H:%M:%S}"
