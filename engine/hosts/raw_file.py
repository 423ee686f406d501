"""A raw disk image in a file of this machine, written from several threads at once.

1. It is locked as QEMU locks what it writes, and emptied, unless it is to be kept: whatever is not written is a hole
   from then on.
2. Contents go to their offsets; zeroes in them stay holes too.
3. Beside that, a thread has written to the disk what came in so far: the page cache stays small, and nobody waits for
   gigabytes at the end.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from engine.errors import NewhopeError
from engine.hosts.image import ImageError, ImageFull, ImageInUse, ImageMissing

WRITE_BACK_BYTES = 64 << 20
HOLE_BYTES = 64 << 10
"""Zeroes of this length and alignment are not written. Smaller ones would cut the file to pieces."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_LOCK = struct.Struct("hhqqi4x")
"""`struct flock`."""
_QEMU_LOCKS = (os.SEEK_SET, 100, 201, 0)
"""All bytes that QEMU locks to tell others what it does with an image (block/file-posix.c, RAW_LOCK_PERM_BASE)."""
_ZEROES = bytearray(HOLE_BYTES)


class RawFile:
    """An open image; `keep` leaves in it what it holds. A context manager; `write` may be called by many threads, the
    rest by one.

    Writers count their bytes under `_wake`, and wake the thread that writes back. The kernel tells a failure to write
    back only once, so it is kept, and raised by whatever is called next.
    """

    def __init__(self, path: Path, *, keep: bool = False) -> None:
        self._path = path
        self._keep = keep
        self._wake = threading.Condition()
        self._unwritten_bytes = 0
        self._stopped = False
        self._failure: OSError | None = None

    def __enter__(self) -> Self:
        with self._explained():
            self._file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            with self._explained():
                _lock(self._file)
                if not self._keep:
                    size_bytes = os.fstat(self._file).st_size
                    os.ftruncate(self._file, 0)
                    os.ftruncate(self._file, size_bytes)
        except BaseException:
            os.close(self._file)
            raise
        self._thread = threading.Thread(target=self._write_back, name="write back", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._wake:
            self._stopped = True
            self._wake.notify()
        self._thread.join()
        os.close(self._file)

    def write(self, offset: int, content: bytes) -> None:
        """Put bytes at their offset. Raises ImageFull, ImageError."""
        view = memoryview(content)
        with self._explained():
            self._raise_failure()
            for begin, end in _data_runs(view):
                _write_all(self._file, view[begin:end], offset + begin)
        with self._wake:
            self._unwritten_bytes += len(content)
            if self._unwritten_bytes >= WRITE_BACK_BYTES:
                self._wake.notify()

    def zero(self, offset: int, length: int) -> None:
        """Let a range read as zeroes. Raises ImageFull, ImageError."""
        with self._explained():
            for start in range(offset, offset + length, HOLE_BYTES):
                piece = memoryview(_ZEROES)[: min(HOLE_BYTES, offset + length - start)]
                _write_all(self._file, piece, start)

    def flush(self) -> None:
        """Make durable what was written. Raises ImageFull, ImageError."""
        with self._explained():
            os.fsync(self._file)
            self._raise_failure()

    def _write_back(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._stopped or self._unwritten_bytes >= WRITE_BACK_BYTES)
                if self._stopped:
                    return
                self._unwritten_bytes = 0
            try:
                os.fdatasync(self._file)
            except OSError as failure:
                self._failure = failure
                return

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    @contextmanager
    def _explained(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise _refusal(self._path, error) from error


def _lock(file: int) -> None:
    """Tell every QEMU that we write this image and share it with nobody; then look whether one has it already."""
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, _LOCK.pack(fcntl.F_RDLCK, *_QEMU_LOCKS))
        found = fcntl.fcntl(file, fcntl.F_OFD_GETLK, _LOCK.pack(fcntl.F_WRLCK, *_QEMU_LOCKS))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise BlockingIOError(errno.EAGAIN, "locked") from error
        # A file system without locks: QEMU goes without them there, too.
        return
    if _LOCK.unpack(found)[0] != fcntl.F_UNLCK:
        raise BlockingIOError(errno.EAGAIN, "locked")


def _data_runs(content: memoryview) -> Iterator[tuple[int, int]]:
    """Begin and end of what is not zero."""
    begin = 0
    for start in range(0, len(content), HOLE_BYTES):
        piece = content[start : start + HOLE_BYTES]
        if _same(_ZEROES if len(piece) == HOLE_BYTES else bytearray(len(piece)), piece):
            if start > begin:
                yield begin, start
            begin = start + len(piece)
    if begin < len(content):
        yield begin, len(content)


def _same(zeroes: bytearray, content: object) -> bool:
    # A bytearray on the left compares with memcmp; a memoryview would compare item by item.
    return zeroes == content


def _write_all(file: int, content: memoryview, offset: int) -> None:
    while content:
        written = os.pwrite(file, content, offset)
        content, offset = content[written:], offset + written


def _refusal(path: Path, error: OSError) -> NewhopeError:
    if isinstance(error, BlockingIOError):
        return ImageInUse(
            f"The disk image {path} is in use by another process, most likely by its running VM.",
            next_step="Shut that VM down first, or choose another name.",
        )
    if error.errno in _FULL:
        return ImageFull(
            f"The file system of {path} is full.", next_step=f"Free space in {path.parent}, or choose another pool."
        )
    if error.errno == errno.ENOENT:
        return ImageMissing(
            f"The disk image {path} does not exist.", next_step=f"Look what is there: ls -l {path.parent}"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return ImageError(
            f"This user may not write the disk image {path}.",
            next_step=f"Look at its owner and mode (ls -l {path}); run newhope as a user that may write it.",
        )
    return ImageError(
        f"The disk image {path} cannot be written: {error.strerror or error}.",
        next_step=f"Look at the storage under it (dmesg; df -h {path.parent}), or choose another pool.",
    )
