"""How long the steps of a restore took on each host, and what follows for the next one.

Kept in the state folder, for this machine measures its own path to each host. Every new measurement counts for a third:
one slow night is soon forgotten. Nothing but the expected times of plans depends on it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec import Struct

from engine.restore.steps import StepKind

_NEWEST_SHARE = 1 / 3
_LEAST_BYTES = 4 << 20
"""Less tells more of the start of a copy than of its speed."""


_MOVES_BYTES = {StepKind.WRITE: "", StepKind.VERIFY: "read", StepKind.MOVE: "move"}
"""Steps that move bytes, and what their rate is known by; those without a word by the format of the image."""


class HostRates(Struct, frozen=True):
    """What was measured on one host."""

    bytes_per_s: dict[str, float] = {}
    """By format of the image that was written, `read` for reading it again, `move` for moving it under a guest."""
    seconds: dict[str, float] = {}
    """By kind of step, for those that move no bytes."""


class Rates(Struct, frozen=True):
    """What was measured on every host."""

    hosts: dict[str, HostRates] = {}

    def expected_s(self, host: str, kind: StepKind, size_bytes: int, image_format: str) -> float | None:
        """Seconds that a step should take; None if nothing like it was measured there."""
        known = self.hosts.get(host, HostRates())
        if kind in _MOVES_BYTES:
            rate = known.bytes_per_s.get(_MOVES_BYTES[kind] or image_format)
            return size_bytes / rate if rate else (0.0 if not size_bytes else None)
        return known.seconds.get(kind.value)

    def measured(self, host: str, kind: StepKind, size_bytes: int, image_format: str, seconds: float) -> Rates:
        """The rates after one more step was done."""
        known = self.hosts.get(host, HostRates())
        rates, times = dict(known.bytes_per_s), dict(known.seconds)
        if kind in _MOVES_BYTES:
            if size_bytes >= _LEAST_BYTES and seconds > 0:
                key = _MOVES_BYTES[kind] or image_format
                rates[key] = _mixed(rates.get(key), size_bytes / seconds)
        else:
            times[kind.value] = _mixed(times.get(kind.value), seconds)
        return Rates(self.hosts | {host: HostRates(rates, times)})


def load_rates(state: Path) -> Rates:
    """What was measured so far; nothing if that cannot be read."""
    try:
        return msgspec.json.decode(_file(state).read_bytes(), type=Rates)
    except (OSError, msgspec.DecodeError):
        return Rates()


def save_rates(state: Path, rates: Rates) -> None:
    """Keep them for the next plan. Raises OSError."""
    part = _file(state).with_suffix(".part")
    part.write_bytes(msgspec.json.encode(rates))
    part.replace(_file(state))


def _mixed(before: float | None, now: float) -> float:
    return now if before is None else before + (now - before) * _NEWEST_SHARE


def _file(state: Path) -> Path:
    return state / "restore-rates.json"
