"""How fast the work of one job may go: asked before every piece, so that a turned knob counts within a second.

1. Paused, nothing begins: whoever asks waits, and can still be told to stop.
2. While a job of higher priority moves bytes, each thread rests after a piece for as many times as long as that took as
   the weights say: a normal job beside a high one works a quarter of the time, a low one beside it a sixteenth. It is
   never brought to a standstill, for a backup that stands still keeps its guest's old blocks in scratch space.
3. Bytes are let through by the repository's `Limiter`, which all threads of the job share.
4. So many pieces are on their way at once as there are streams, and all disks of the job take turns.

Who calls: the threads that move bytes, never the one that hears (the pulse), so that no wish is missed by waiting.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager

from engine.jobs.context import JobContext
from engine.repository import Limiter

LOOK_EVERY_S = 0.25
REST_AT_MOST_S = 5.0
"""A rest is no longer than this, however long the piece before took: the other job may be over long since."""


class _Ticket:
    """A thread that waits for a stream, to move a piece of this disk."""

    def __init__(self, disk: str) -> None:
        self.disk = disk
        self.called = threading.Event()
        """Each thread is woken by itself: woken all together, they would be in the way of the few that work."""


class Pace:
    """The pace of one job's work. Safe for any number of threads."""

    def __init__(self, context: JobContext, stop: Callable[[], None] | None = None) -> None:
        """`stop` may raise, to end whoever waits; by default it does when the job is cancelled."""
        self._context = context
        self._stop = stop or context.raise_if_cancelled
        self._limiter = Limiter(lambda _: context.knobs.bandwidth, stop=self.wait)
        self._mine = threading.local()
        self._lock = threading.Lock()
        """Guards the three below."""
        self._on_their_way = 0
        self._waiting: deque[_Ticket] = deque()
        self._last_disk = ""

    def wait(self) -> None:
        """Go on at once, or when the job is no longer paused."""
        self._stop()
        while self._context.knobs.paused:
            time.sleep(LOOK_EVERY_S)
            self._stop()

    def give_way(self) -> None:
        """Go on as soon as pause and priority allow it: for what a limit of its own slows down."""
        self.wait()
        self._rest()
        self._mine.began_s, self._mine.ended_s = time.monotonic(), None

    def take(self, count: int) -> None:
        """Let a piece of so many bytes through, as soon as pause, priority and bandwidth allow it."""
        self.wait()
        self._rest()
        if self._context.knobs.bandwidth is not None:
            self._limiter.take(count)
        self._mine.began_s, self._mine.ended_s = time.monotonic(), None

    @contextmanager
    def stream(self, disk: str, count: int) -> Generator[None]:
        """Move so many bytes of a disk within, as one of the pieces that may be on their way at once."""
        self._enter(_Ticket(disk))
        try:
            self.take(count)
            yield
        finally:
            self._mine.ended_s = time.monotonic()
            with self._lock:
                self._on_their_way -= 1
                self._call_next()

    def _enter(self, ticket: _Ticket) -> None:
        with self._lock:
            self._waiting.append(ticket)
            self._call_next()
        try:
            while not ticket.called.wait(LOOK_EVERY_S):
                self._stop()
                with self._lock:
                    # There may be more streams than a moment ago.
                    self._call_next()
        except BaseException:
            with self._lock:
                if ticket.called.is_set():
                    self._on_their_way -= 1
                    self._call_next()
                else:
                    self._waiting.remove(ticket)
            raise

    def _call_next(self) -> None:
        """Let threads go on as long as there is a stream for one more; the lock is held."""
        while self._waiting and self._on_their_way < (self._context.knobs.streams or 1):
            ticket = self._next()
            self._waiting.remove(ticket)
            self._on_their_way += 1
            self._last_disk = ticket.disk
            ticket.called.set()

    def _next(self) -> _Ticket:
        # Another disk than the last one, if any waits: its threads came together, and would be served one after the
        # other while the other disks stand still.
        return next((each for each in self._waiting if each.disk != self._last_disk), self._waiting[0])

    def _rest(self) -> None:
        times = self._context.rests
        began_s: float | None = getattr(self._mine, "began_s", None)
        if began_s is None or times <= 0:
            return
        now_s = time.monotonic()
        ends_s = now_s + min(((self._mine.ended_s or now_s) - began_s) * times, REST_AT_MOST_S)
        while (left_s := ends_s - time.monotonic()) > 0 and self._context.rests > 0:
            self._stop()
            time.sleep(min(left_s, LOOK_EVERY_S))
