"""Sizes as people write them: `256MiB`, `1.5GiB`, `2TB`."""

from __future__ import annotations

import re
from typing import ClassVar

from engine.errors import ExitCode, NewhopeError

_UNITS = {
    "b": 1.0, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30, "tib": 2.0**40,
    "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
}  # fmt: skip
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)", re.ASCII)
_HOW = 'Write it with its unit, for example "512MiB" or "2GiB".'


class InvalidSize(NewhopeError):
    """A text that should be a size is none."""

    exit_code: ClassVar[ExitCode] = ExitCode.USAGE


def parse_size(text: str) -> int:
    """Return the bytes that a text such as `512MiB` or `2 GB` means; raises `InvalidSize`."""
    stripped = text.strip()
    match = _SIZE.fullmatch(stripped.lower())
    if match is None or match[2] not in _UNITS:
        raise InvalidSize(f'"{stripped}" is not a size.', next_step=_HOW)
    return int(float(match[1]) * _UNITS[match[2]])


def format_size(size_bytes: int) -> str:
    """Return a size as `parse_size` reads it, exactly: `2GiB`, `1500B`."""
    for unit, unit_bytes in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size_bytes and size_bytes % unit_bytes == 0:
            return f"{size_bytes // unit_bytes}{unit}"
    return f"{size_bytes}B"
