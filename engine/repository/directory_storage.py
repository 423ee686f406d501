"""Objects as files of a directory: created whole, synced, never overwritten.

1. An object is written to a temporary file `.new-<random>` in the repository's top folder, locked with `flock`.
2. The file is synced, then linked to its final name (`link` refuses a name that is taken; `rename` would not).
3. The temporary name is removed and the final name's folder is synced: from now on a power cut cannot take it away.

A temporary file whose lock is free has lost its writer, and whoever comes next removes it. Locks die with their
process, so no clock and no process number has to be believed.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import secrets
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from engine.errors import NewhopeError, NoSpace
from engine.repository.errors import ObjectExists, ObjectMissing, StorageFailed
from engine.repository.ranges import FileRanges
from engine.repository.storage import Bytes, ObjectEntry

TEMPORARY_PREFIX = ".new-"
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
PIECES_A_WRITE = 512
"""`writev` takes 1024 at most."""


class DirectoryStorage:
    """Keeps objects below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def location(self) -> str:
        """The folder."""
        return str(self.folder)

    @property
    def settles_s(self) -> float:
        """Nothing is done after its process has died: the kernel ends a call before it ends the process."""
        return 0.0

    def create(self, key: str, content: Bytes) -> None:
        """Create a small object."""
        new = self.open_new()
        try:
            new.write(content)
            new.finish(key)
        finally:
            new.abandon()

    def open_new(self) -> NewFile:
        """Begin an object that is written piece by piece."""
        with self.explained("create a file in"):
            return NewFile(self)

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        """Read a range; shorter than asked only where the object ends."""
        with self.explained("read", key), self._opened(key) as file:
            wanted = os.fstat(file).st_size - offset if length is None else length
            first = os.pread(file, max(wanted, 0), offset)
            if len(first) >= wanted or not first:
                return first
            return first + _read_rest(file, offset + len(first), wanted - len(first))

    def map(self, key: str) -> mmap.mmap | bytes:
        """The file, mapped into memory."""
        with self.explained("read", key), self._opened(key) as file:
            if os.fstat(file).st_size == 0:
                return b""
            return mmap.mmap(file, 0, access=mmap.ACCESS_READ)

    def ranges(self, key: str, size_bytes: int | None = None) -> FileRanges:
        """The file, opened; its size is that of now."""
        with self.explained("read", key):
            file = os.open(self.folder / key, os.O_RDONLY | os.O_CLOEXEC)
            return FileRanges(file, lambda error: self._explain(error, "read", key))

    def size(self, key: str) -> int:
        """Size in bytes."""
        with self.explained("read", key):
            return (self.folder / key).stat().st_size

    def created_at(self, key: str) -> datetime:
        """When an object was created, by the clock of whoever keeps the file system."""
        with self.explained("read", key):
            return datetime.fromtimestamp((self.folder / key).stat().st_mtime, UTC)

    def list(self, prefix: str) -> Iterator[ObjectEntry]:
        """Finished objects below a folder, in the order of their keys."""
        with self.explained("list", prefix):
            try:
                entries = sorted(os.scandir(self.folder / prefix), key=lambda entry: entry.name)
            except FileNotFoundError:
                return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            with suppress(ObjectMissing):
                yield from self._listed(entry, prefix + entry.name)

    def delete(self, key: str) -> None:
        """Delete an object; one that is gone already is no error."""
        path = self.folder / key
        with self.explained("delete", key):
            try:
                path.unlink()
            except FileNotFoundError:
                return
            sync_folder(path.parent)

    def clear_leftovers(self) -> int:
        """Remove temporary files whose writers are gone; how many there were."""
        removed = 0
        with self.explained("list"):
            leftovers = list(self.folder.glob(f"{TEMPORARY_PREFIX}*"))
        for leftover in leftovers:
            with suppress(OSError):
                removed += _remove_if_unlocked(leftover)
        return removed

    def free_bytes(self) -> int:
        """Free space of the file system for this user."""
        with self.explained("read"):
            state = os.statvfs(self.folder)
            return state.f_bavail * state.f_frsize

    def _listed(self, entry: os.DirEntry[str], key: str) -> Iterator[ObjectEntry]:
        with self.explained("read", key):
            folder = entry.is_dir(follow_symlinks=False)
            size = 0 if folder else entry.stat().st_size
        if folder:
            yield from self.list(f"{key}/")
        else:
            yield ObjectEntry(key, size)

    @contextmanager
    def explained(self, doing: str, key: str = "") -> Generator[None]:
        """Turn the system's errors into sentences."""
        try:
            yield
        except OSError as error:
            raise self._explain(error, doing, key) from error

    def _explain(self, error: OSError, doing: str, key: str) -> NewhopeError:
        path = self.folder / key
        if error.errno in FULL:
            return NoSpace(
                f"There is no space left for the repository {self.folder} ({error.strerror}).",
                untouched="Every recovery point that was complete stays so; the unfinished one is not listed.",
                next_step=f"Free space there (df -h {self.folder}) and run it again: what was stored is used again.",
            )
        if isinstance(error, FileExistsError):
            return ObjectExists(key, self.location)
        if isinstance(error, FileNotFoundError) and key:
            return ObjectMissing(key, self.location)
        return StorageFailed(
            f"Could not {doing} {path}: {error.strerror or error}.",
            untouched="Every recovery point that was complete stays so.",
            next_step=_next_step(error, self.folder),
        )

    @contextmanager
    def _opened(self, key: str) -> Generator[int]:
        file = os.open(self.folder / key, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield file
        finally:
            os.close(file)


class NewFile:
    """A temporary file that becomes an object. See the numbered steps above."""

    def __init__(self, storage: DirectoryStorage) -> None:
        self._storage = storage
        self._path, self._file = _create_locked(storage.folder)
        self._open = True

    def write(self, *pieces: Bytes) -> None:
        """Append the pieces."""
        with self._storage.explained("write", self._path.name):
            for start in range(0, len(pieces), PIECES_A_WRITE):
                _write_all(self._file, pieces[start : start + PIECES_A_WRITE])

    def finish(self, key: str) -> None:
        """Make it durable and let it appear under its name."""
        target = self._storage.folder / key
        try:
            with self._storage.explained("write", key):
                os.fsync(self._file)
                _make_durable_folder(target.parent)
                try:
                    os.link(self._path, target)
                except PermissionError as error:
                    raise _no_hard_links(error, target) from error
                self._settle(target)
        finally:
            self.abandon()

    def _settle(self, target: Path) -> None:
        try:
            self._path.unlink()
            sync_folder(target.parent)
        except OSError:
            # What could not be made durable was not created: nobody may come to rely on it.
            with suppress(OSError):
                target.unlink()
            raise

    def abandon(self) -> None:
        """Remove the temporary file."""
        if not self._open:
            return
        self._open = False
        with suppress(OSError):
            self._path.unlink()
        with suppress(OSError):
            os.close(self._file)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _make_durable_folder(folder: Path) -> None:
    """Create a folder and its parents such that a power cut cannot take them away."""
    if folder.is_dir():
        return
    _make_durable_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    sync_folder(folder.parent)


def _create_locked(folder: Path) -> tuple[Path, int]:
    while True:
        path = folder / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # Somebody clearing leftovers looked at it before it was locked, and removes it now.
            os.close(file)
            continue
        except OSError:
            # A file system without locks: nobody will dare to clear leftovers here either.
            return path, file
        if os.fstat(file).st_nlink:
            return path, file
        os.close(file)


def _remove_if_unlocked(path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        path.unlink()
    finally:
        os.close(file)
    return 1


def _write_all(file: int, pieces: tuple[Bytes, ...]) -> None:
    written = os.writev(file, pieces)
    if written == sum(len(piece) for piece in pieces):
        return
    for piece in pieces:
        rest = memoryview(piece)[written:]
        written = max(written - len(piece), 0)
        while rest:
            rest = rest[os.write(file, rest) :]


def _read_rest(file: int, offset: int, length: int) -> bytes:
    pieces: list[bytes] = []
    while length and (piece := os.pread(file, length, offset)):
        pieces.append(piece)
        offset += len(piece)
        length -= len(piece)
    return b"".join(pieces)


def _no_hard_links(error: OSError, target: Path) -> StorageFailed:
    return StorageFailed(
        f"Could not create {target}: {error.strerror}; the file system may have no hard links.",
        untouched="Every recovery point that was complete stays so.",
        next_step="Check the folder's permissions; keep repositories on ext4, XFS, Btrfs, ZFS or NFS.",
    )


def _next_step(error: OSError, folder: Path) -> str:
    match error.errno:
        case errno.EROFS:
            return f"The file system of {folder} is read-only: see dmesg for why, and mount it writable again."
        case errno.EACCES | errno.EPERM:
            return f"Let this user read and write {folder} (ls -ld {folder}), or run newhope as its owner."
        case errno.EIO:
            return f"The disk below {folder} reports errors: see dmesg and smartctl; use another repository meanwhile."
        case _:
            return f"Look at {folder} and its file system (ls -ld {folder}; df -h {folder}; dmesg)."
