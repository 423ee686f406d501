"""What a repository asks of the place that keeps its objects.

An object has a key (`packs/3f/3fa9...`), is created whole or not at all, never changes, and may be deleted. Every
backend must hold to these, and `tests/repository/storage_conformance.py` checks them:

1. `create` and `NewObject.finish` make the object appear at once, complete, and durable when they return: a power
   cut afterwards does not take it away.
2. They fail with `ObjectExists`, and change nothing, when the key is taken. After any other failure the object is not
   there, as far as the storage lets it be taken back.
3. What was created is seen by the next `read`, `size` and `list` of anyone.
4. An object that was begun and never finished is never listed, and its remains are cleared away some time.
5. Whatever goes wrong is an `engine.errors.NewhopeError`: `ObjectMissing`, `ObjectExists`, `NoSpace`, `StorageFailed`.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from mmap import mmap
from typing import Protocol

from msgspec import Struct

from engine.repository.ranges import Ranges

Bytes = bytes | bytearray | memoryview


class ObjectEntry(Struct, frozen=True):
    """An object as a listing shows it."""

    key: str
    size_bytes: int


class NewObject(Protocol):
    """An object being written, whose key is not known before its last byte. For one thread at a time."""

    def write(self, *pieces: Bytes) -> None:
        """Append the pieces; they may be reused when this returns."""
        ...

    def finish(self, key: str) -> None:
        """Make everything written durable and let it appear as `key`."""
        ...

    def abandon(self) -> None:
        """Forget what was written. Does nothing after `finish`; never raises."""
        ...


class Storage(Protocol):
    """A place that keeps objects. All its methods may be called by any thread at any time."""

    @property
    def location(self) -> str:
        """Where it is, for people."""
        ...

    @property
    def settles_s(self) -> float:
        """For how long after a process died something that it asked for may still be done, by who keeps the objects."""
        ...

    def create(self, key: str, content: Bytes) -> None:
        """Create a small object."""
        ...

    def open_new(self) -> NewObject:
        """Begin an object that is written piece by piece."""
        ...

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Read a range; shorter than asked only where the object ends."""
        ...

    def map(self, key: str) -> mmap | bytes:
        """The whole object as a buffer of which only what is looked at needs to be read."""
        ...

    def ranges(self, key: str, size_bytes: int | None = None) -> Ranges:
        """The object, opened to read many pieces of it. Its size need not be asked for again where it is known."""
        ...

    def size(self, key: str) -> int:
        """Size in bytes."""
        ...

    def created_at(self, key: str) -> datetime:
        """When an object was created, by the clock of the storage: the one clock that all who use it share."""
        ...

    def list(self, prefix: str) -> Iterator[ObjectEntry]:
        """Finished objects whose keys begin with `prefix` (which ends with a slash), in the order of their keys."""
        ...

    def delete(self, key: str) -> None:
        """Delete an object; one that is gone already is no error."""
        ...

    def clear_leftovers(self) -> int:
        """Remove the remains of objects that were never finished and whose writer is gone; how many there were."""
        ...

    def free_bytes(self) -> int | None:
        """How much more can be stored; None where that is not known, or not limited."""
        ...
