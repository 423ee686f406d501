"""How tests wait for what somebody else brings about: by looking, with a limit that only a defect reaches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LOOK_S = 0.05


def wait_for(happens: Callable[[], T], timeout_s: float = 120.0, *, what: str = "it") -> T:
    """What the condition comes to once it holds; a test whose condition never does fails."""
    deadline = time.monotonic() + timeout_s
    while not (found := happens()):
        assert time.monotonic() < deadline, f"{what} did not happen within {timeout_s:.0f} s"
        time.sleep(LOOK_S)
    return found
