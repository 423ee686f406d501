"""What the server serves: any object that knows its size, its bytes and its zeroes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeGuard

from engine.nbd.extent import Extent
from engine.nbd.wire import Bytes


class Export(Protocol):
    """A disk to be read. Its methods are called from several threads at once.

    What they raise is told to the client as an error of that one request: an `OSError` with its errno, anything else
    as EIO with its sentence.
    """

    @property
    def size_bytes(self) -> int:
        """Size of the disk; must not change while it is served."""
        ...

    @property
    def read_only(self) -> bool:
        """False only for a `WritableExport`."""
        ...

    def read(self, offset: int, length: int) -> Bytes:
        """Exactly that many bytes; the range is within the disk."""
        ...

    def extents(self, offset: int, length: int) -> Iterable[Extent]:
        """The allocation of a range, in order: `STATE_HOLE | STATE_ZERO` where it is known to be zero, 0 for data.

        Extents may reach beyond the range and leave gaps: what they do not speak of is data.
        """
        ...


class WritableExport(Export, Protocol):
    """A disk that can be written too."""

    def write(self, offset: int, content: memoryview) -> None:
        """Write; the buffer must not be kept."""
        ...

    def write_zeroes(self, offset: int, length: int, may_trim: bool) -> None:
        """Make the range read as zeroes, freeing its storage if that is allowed."""
        ...

    def trim(self, offset: int, length: int) -> None:
        """The range is not needed any more; doing nothing is right too."""
        ...

    def flush(self) -> None:
        """Make everything written so far durable."""
        ...


def is_writable(export: Export) -> TypeGuard[WritableExport]:
    """Whether writes may reach it."""
    return not export.read_only
