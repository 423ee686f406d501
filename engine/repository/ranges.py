"""An object opened for reading pieces of it, many times and anywhere: how index files are looked at.

Pieces are read, never mapped: of a bad sector, or a file that is cut while it is open, below a mapping, the process
would die; and what was looked at would count as its memory. The kernel caches what of a file is used often.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from engine.errors import NewhopeError
from engine.repository.errors import Unsound


class Ranges(Protocol):
    """Any piece of one object. Safe for any number of threads."""

    @property
    def size_bytes(self) -> int:
        """Of the whole object."""
        ...

    def read(self, offset: int, length: int) -> bytes:
        """Exactly that piece; `Unsound` if the object ends before it does."""
        ...

    def expect_all(self) -> None:
        """Say that most of the object is going to be read: where requests are dear, it may be fetched at once."""
        ...


class HeldRanges:
    """Pieces of what is in memory."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    @property
    def size_bytes(self) -> int:
        """Of the content."""
        return len(self._content)

    def read(self, offset: int, length: int) -> bytes:
        """That piece."""
        return whole(self._content[offset : offset + length], offset, length)

    def expect_all(self) -> None:
        """Nothing to do."""


class FileRanges:
    """Pieces of a file, which stays readable after its name was deleted."""

    def __init__(self, file: int, explain: Callable[[OSError], NewhopeError]) -> None:
        """Takes the file descriptor over; `explain` says what a failing disk means."""
        self._file = file
        self._explain = explain
        weakref.finalize(self, os.close, file)
        self._size = os.fstat(file).st_size
        self._advise(os.POSIX_FADV_RANDOM)

    @property
    def size_bytes(self) -> int:
        """When it was opened."""
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        """That piece, from the disk or from what the kernel has of it."""
        try:
            found = os.pread(self._file, length, offset)
            while len(found) < length and (more := os.pread(self._file, length - len(found), offset + len(found))):
                found += more
        except OSError as error:
            raise self._explain(error) from error
        return whole(found, offset, length)

    def expect_all(self) -> None:
        """Let the kernel read ahead, which it does not for pieces here and there."""
        self._advise(os.POSIX_FADV_NORMAL)

    def _advise(self, advice: int) -> None:
        # Some file systems take no advice, and do without.
        with suppress(OSError):
            os.posix_fadvise(self._file, 0, 0, advice)


def whole(found: bytes, offset: int, length: int) -> bytes:
    """What was found, if it is all that was asked for; else `Unsound`."""
    if len(found) != length:
        raise Unsound(f"it is cut: {length} bytes at {offset} were asked for, and {len(found)} are there")
    return found
