"""The instants at which a process is killed, in parts that run side by side; the half of them each time."""

from __future__ import annotations

import pytest


def parts(count: int) -> list[object]:
    """Numbers for `parametrize`: part `n` has every `count`-th instant from the `n`-th on.

    Every second part is left to `NEWHOPE_LONG_TESTS=1`, so that every run meets every second instant.
    """
    return [pytest.param(part, marks=pytest.mark.long) if part % 2 else part for part in range(count)]
