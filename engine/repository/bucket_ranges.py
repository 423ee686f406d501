"""Pieces of an object in a bucket, where a request costs more than the bytes it brings.

1. What is asked for is fetched in pages, of which a bounded number is kept, the last used ones, for all objects of a
   storage together. A large piece is fetched as it is asked for.
2. Each request counts as so many bytes that could have come in its time. When what the pages of an object have cost
   reaches what the whole object costs, it is fetched into a file without a name and read from there: whoever looks up
   a few names pays for a few pages, whoever looks up millions for the object once, and nobody more than twice what
   would have been best.
3. Of several threads that need a page, or the whole object, the first fetches it. The others wait for a page; they do
   not wait for the whole.
4. Where there is no room for the file, pages go on being enough.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future

from engine.errors import NewhopeError, NoSpace
from engine.repository.ranges import Ranges, whole

PAGE_BYTES = 64 << 10
"""About 1,500 records of an index: a look-up needs one page, seldom two."""
PAGES = 256
"""16 MiB at most."""
REQUEST_COSTS_BYTES = 2 << 20
"""What comes through in the time that a request takes: 20 ms at 100 MB/s."""
LARGE_BYTES = 4 * PAGE_BYTES

Fetch = Callable[[int, int], bytes]
"""A range of the object, in one request."""
FetchAll = Callable[[], Ranges]
"""The whole object, in a file of this machine."""


class Pages:
    """The pages used last, of any number of objects. Safe for any number of threads; fetches under no lock."""

    def __init__(self, pages: int = PAGES) -> None:
        self._pages = pages
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, int], Future[bytes]] = OrderedDict()

    def get(self, key: str, page: int, fetch: Callable[[], bytes]) -> bytes:
        """A page of an object, fetched if nobody has it."""
        mine: Future[bytes] = Future()
        with self._lock:
            kept = self._kept.setdefault((key, page), mine)
            self._kept.move_to_end((key, page))
            if len(self._kept) > self._pages:
                self._kept.popitem(last=False)
        if kept is mine:
            try:
                mine.set_result(fetch())
            except BaseException as error:
                with self._lock:
                    self._kept.pop((key, page), None)
                mine.set_exception(error)
        return kept.result()


class BucketRanges:
    """Pieces of one object of a bucket."""

    def __init__(self, key: str, size_bytes: int, pages: Pages, fetch: Fetch, fetch_all: FetchAll) -> None:
        self._key = key
        self._size = size_bytes
        self._pages = pages
        self._fetch = fetch
        self._fetch_all = fetch_all
        self._cost_bytes = 0
        self._all: Ranges | None = None
        self._no_room = False
        self._fetching = threading.Lock()
        """Held by who fetches the whole object."""
        if size_bytes <= REQUEST_COSTS_BYTES:
            # One request for all of it costs less than two for parts.
            self._cost_bytes = size_bytes

    @property
    def size_bytes(self) -> int:
        """Of the object."""
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        """That piece, from wherever it is had cheapest."""
        if self._all is None and self._cost_bytes >= self._size:
            self._gather(wait=False)
        if self._all is not None:
            return self._all.read(offset, length)
        if length >= LARGE_BYTES:
            return whole(self._request(offset, length), offset, length)
        first, last = offset // PAGE_BYTES, (offset + max(length, 1) - 1) // PAGE_BYTES
        found = b"".join(self._page(number) for number in range(first, last + 1))
        start = offset - first * PAGE_BYTES
        return whole(found[start : start + length], offset, length)

    def expect_all(self) -> None:
        """Fetch it all now."""
        self._gather(wait=True)

    def _page(self, number: int) -> bytes:
        begin = number * PAGE_BYTES
        length = min(PAGE_BYTES, self._size - begin)
        return self._pages.get(self._key, number, lambda: self._request(begin, length)) if length > 0 else b""

    def _request(self, offset: int, length: int) -> bytes:
        self._cost_bytes += length + REQUEST_COSTS_BYTES
        return self._fetch(offset, length)

    def _gather(self, *, wait: bool) -> None:
        if self._no_room or self._all is not None or not self._fetching.acquire(blocking=wait):
            return
        try:
            if self._all is None:
                self._all = self._fetch_all()
        except NoSpace:
            self._no_room = True
        except NewhopeError:
            # The object is gone, or the storage does not answer: whoever reads a page is told the same.
            self._cost_bytes = 0
        finally:
            self._fetching.release()
