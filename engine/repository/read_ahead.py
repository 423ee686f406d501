"""Reading ahead in large objects, for storage where a request costs more than the bytes it brings.

1. A read that begins about where the last one of its object ended is one of many in a row, as in a restore: the whole
   stretch around it is fetched, and the reads that follow find it here. Any other read fetches what it asks for.
2. Of several threads that need a stretch, the first fetches it and the others wait for it.
3. Few stretches are kept, the last used ones. Objects never change, so a stretch is never wrong.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

STRETCH_BYTES = 4 << 20
STRETCHES = 8
"""32 MiB at most."""
NEAR_BYTES = 1 << 20
"""How far from the end of the last read the next one may begin and still count as in a row."""
OBJECTS = 64
"""Of how many objects the last read is remembered."""


class ReadAhead:
    """The stretches read last. Safe for any number of threads; no lock is held while something is fetched."""

    def __init__(self, fetch: Callable[[str, int, int], bytes], stretch_bytes: int = STRETCH_BYTES) -> None:
        self._fetch = fetch
        self._stretch_bytes = stretch_bytes
        self._lock = threading.Lock()
        self._ends: OrderedDict[str, int] = OrderedDict()
        self._stretches: OrderedDict[tuple[str, int], Future[bytes]] = OrderedDict()

    def read(self, key: str, offset: int, length: int) -> bytes:
        """A range of an object; shorter than asked only where the object ends."""
        first, last = offset // self._stretch_bytes, (offset + length - 1) // self._stretch_bytes
        if length > self._stretch_bytes or not self._in_a_row(key, offset, length):
            return self._fetch(key, offset, length)
        found = b"".join(self._stretch(key, number) for number in range(first, last + 1))
        start = offset - first * self._stretch_bytes
        return found[start : start + length]

    def _in_a_row(self, key: str, offset: int, length: int) -> bool:
        with self._lock:
            end = self._ends.pop(key, None)
            near = end is not None and abs(offset - end) <= NEAR_BYTES
            # Threads that read side by side come out of order: what counts is how far the row has come.
            self._ends[key] = max(end, offset + length) if near and end is not None else offset + length
            if len(self._ends) > OBJECTS:
                self._ends.popitem(last=False)
            return near

    def _stretch(self, key: str, number: int) -> bytes:
        place = (key, number)
        mine: Future[bytes] = Future()
        with self._lock:
            waiting = self._stretches.setdefault(place, mine)
            self._stretches.move_to_end(place)
            if len(self._stretches) > STRETCHES:
                self._stretches.popitem(last=False)
        if waiting is not mine:
            return waiting.result()
        try:
            mine.set_result(self._fetch(key, number * self._stretch_bytes, self._stretch_bytes))
        except BaseException as error:
            with self._lock:
                self._stretches.pop(place, None)
            mine.set_exception(error)
        return mine.result()
