"""Sizes, times and ages as people read them."""

from __future__ import annotations

from datetime import UTC, datetime

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def size(size_bytes: float) -> str:
    """`512 B`, `1.5 GiB`: three digits are enough to decide."""
    value, unit = float(size_bytes), 0
    while value >= 1024 and unit < len(UNITS) - 1:
        value /= 1024
        unit += 1
    return f"{value:.0f} {UNITS[unit]}" if unit == 0 or value >= 100 else f"{value:.1f} {UNITS[unit]}"


def age(seconds: float) -> str:
    """`42 s`, `12 m 05 s`, `2 h 03 m`, `3 d 04 h`."""
    whole = max(0, int(seconds))
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} d {hour:02} h"
    if hours:
        return f"{hours} h {minute:02} m"
    if minutes:
        return f"{minutes} m {second:02} s"
    return f"{second} s"


def took(seconds: float) -> str:
    """How long something took: as an age, and to a tenth where it was short."""
    return f"{max(0.0, seconds):.1f} s" if seconds < 10 else age(seconds)


def consistency(word: str) -> str:
    """What a recovery point's consistency means, in a few words."""
    return {
        "crash": "as after a power cut",
        "filesystem": "file systems frozen",
        "off": "shut down cleanly",
        "memory": "with its memory",
        "files": "file by file, while it ran",
    }.get(word, word)


def since(moment: datetime, now: datetime | None = None) -> str:
    """The age of a moment."""
    return age(((now or datetime.now(UTC)) - moment).total_seconds())


def local(moment: datetime) -> str:
    """A moment in local time, with its date, to the second."""
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 VM`, `3 VMs`."""
    return f"{number} {one if number == 1 else many or one + 's'}"
