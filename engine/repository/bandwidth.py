"""How fast bytes may move: a limit that is asked for anew all the time, so that a change of it counts at once.

What moves is owed for: `take` waits until nothing is owed and then owes for its own bytes, which are paid off by time
at whatever the limit is then. So the mean keeps to the limit, no credit is saved up while nothing moves, and a change
counts within a second, also for whoever waits already.

Locks: `_turn` is held while waiting, so that waiters come one after another; `_lock` guards the numbers, and nobody
waits under it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime
from typing import Protocol

LOOK_EVERY_S = 1.0
"""How long to wait at most before the limit is asked for again."""


class Clock(Protocol):
    """Time, as a limiter needs it."""

    def now(self) -> datetime:
        """Local time: limits go by the hours of the day."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that only go forward."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """This machine's."""

    def now(self) -> datetime:
        """Local time."""
        return datetime.now().astimezone()

    def monotonic_s(self) -> float:
        """Seconds that only go forward."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)


SYSTEM_CLOCK = SystemClock()


def go_on() -> None:
    """Nobody wants to stop."""


class Limiter:
    """Lets so many bytes a second through. Safe for any number of threads, which share the limit."""

    def __init__(
        self,
        bytes_a_second: Callable[[datetime], float | None],
        *,
        stop: Callable[[], None] = go_on,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`bytes_a_second` says what the limit is at a local time, None for none; `stop` may raise while one waits."""
        self._bytes_a_second = bytes_a_second
        self._stop = stop
        self._clock = clock
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._owed_bytes = 0.0
        self._paid_until_s = clock.monotonic_s()

    def take(self, count: int) -> None:
        """Let so many bytes through, as soon as what went before is paid for."""
        with self._turn:
            while pause_s := self._pause_s():
                self._stop()
                self._clock.sleep(min(pause_s, LOOK_EVERY_S))
            self.charge(count)

    def charge(self, count: int) -> None:
        """So many bytes went through without waiting; others wait for them."""
        with self._lock:
            self._owed_bytes += count

    def _pause_s(self) -> float:
        limit = self._bytes_a_second(self._clock.now())
        with self._lock:
            now_s = self._clock.monotonic_s()
            passed_s, self._paid_until_s = now_s - self._paid_until_s, now_s
            self._owed_bytes = 0.0 if limit is None else max(self._owed_bytes - passed_s * limit, 0.0)
            # Less than a byte is a rounding error, and no reason to sleep once more.
            return 0.0 if limit is None or self._owed_bytes < 1 else self._owed_bytes / limit
