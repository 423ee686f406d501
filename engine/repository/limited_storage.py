"""A storage whose packs are read and written no faster than a limiter lets them.

Only packs count, which are all but everything. What is small passes at once: a lease that waited behind a pack could
run out meanwhile.

In a folder a pack grows as its blocks come, so it grows at the limit. Into a bucket it is one request, sent as fast as
the line allows once its bytes have been waited for: the mean keeps to the limit, in bursts of a pack.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from mmap import mmap

from engine.repository.bandwidth import Limiter
from engine.repository.ranges import Ranges
from engine.repository.storage import Bytes, NewObject, ObjectEntry, Storage

PACKS = "packs/"


class LimitedStorage:
    """Another storage, slowed down."""

    def __init__(self, inner: Storage, limiter: Limiter) -> None:
        self._inner = inner
        self._limiter = limiter

    @property
    def location(self) -> str:
        """Where it is."""
        return self._inner.location

    @property
    def settles_s(self) -> float:
        """For how long after a process died something that it asked for may still be done."""
        return self._inner.settles_s

    def create(self, key: str, content: Bytes) -> None:
        """Create a small object."""
        self._inner.create(key, content)

    def open_new(self) -> NewObject:
        """Begin an object that is written piece by piece."""
        return _LimitedObject(self._inner.open_new(), self._limiter)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Read a range."""
        if not key.startswith(PACKS):
            return self._inner.read(key, offset, length)
        if length is not None:
            self._limiter.take(length)
            return self._inner.read(key, offset, length)
        self._limiter.take(0)
        content = self._inner.read(key, offset, length)
        self._limiter.charge(len(content))
        return content

    def map(self, key: str) -> mmap | bytes:
        """The whole object as a buffer."""
        return self._inner.map(key)

    def ranges(self, key: str, size_bytes: int | None = None) -> Ranges:
        """The object, opened to read many pieces of it."""
        return self._inner.ranges(key, size_bytes)

    def size(self, key: str) -> int:
        """Size in bytes."""
        return self._inner.size(key)

    def created_at(self, key: str) -> datetime:
        """When an object was created."""
        return self._inner.created_at(key)

    def list(self, prefix: str) -> Iterator[ObjectEntry]:
        """Finished objects below a prefix."""
        return self._inner.list(prefix)

    def delete(self, key: str) -> None:
        """Delete an object."""
        self._inner.delete(key)

    def clear_leftovers(self) -> int:
        """Remove the remains of objects that were never finished."""
        return self._inner.clear_leftovers()

    def free_bytes(self) -> int | None:
        """How much more can be stored."""
        return self._inner.free_bytes()


class _LimitedObject:
    """An object being written, as fast as it may grow."""

    def __init__(self, inner: NewObject, limiter: Limiter) -> None:
        self._inner = inner
        self._limiter = limiter

    def write(self, *pieces: Bytes) -> None:
        self._limiter.take(sum(len(piece) for piece in pieces))
        self._inner.write(*pieces)

    def finish(self, key: str) -> None:
        self._inner.finish(key)

    def abandon(self) -> None:
        self._inner.abandon()
