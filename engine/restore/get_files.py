"""Files of a recovery point written to this machine.

1. What is there already is never touched unless that was said; this is looked at before anything is written.
2. Every folder is entered by itself and never through a symbolic link (`O_NOFOLLOW`), so that no name and no link of
   the guest leads out of the destination. Symbolic links are made last, when no file is written any more.
3. Owners and groups are set as root only. Set-user-ID bits are never set: a program of the guest must not become one of
   this machine. Devices and pipes are left out and named.
4. Zeroes become holes; times and modes of folders are set when all is in them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec import Struct

from engine.errors import Conflict, ExitCode, NewhopeError, NoSpace
from engine.repository import EntryKind, GuestEntry
from engine.restore.point_files import PointFiles, below, shown

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_HOLE_BYTES = 64 * 1024
_ZEROES = bytes(_HOLE_BYTES)
_MODE_BITS = 0o1777


class NotWritten(NewhopeError):
    """A file could not be written on this machine."""

    exit_code = ExitCode.FAILED


class Got(Struct, frozen=True):
    """What was written."""

    destination: Path
    files: int
    size_bytes: int
    left_out: tuple[str, ...]
    """Devices, pipes and the like, by path."""


def destination_for(path: bytes, wanted: Path) -> Path:
    """Where an entry goes: into a folder that is there, or under the name that is wanted."""
    name = os.fsdecode(path.rpartition(b"/")[2])
    return wanted / name if name and wanted.is_dir() else wanted


def get(files: PointFiles, path: bytes, destination: Path, *, overwrite: bool, advance: Callable[[int], None]) -> Got:
    """Write an entry, and all below it, as `destination`. Raises Conflict, NotWritten, NoSpace, RepositoryDamaged."""
    top = files.stat(path)
    if not overwrite:
        _refuse_what_is_there(top, destination)
    return _Getting(files, path, destination, overwrite, advance).run()


def _refuse_what_is_there(top: GuestEntry, destination: Path) -> None:
    try:
        is_there = destination.is_symlink() or destination.exists()
        if not is_there or (top.kind is EntryKind.FOLDER and destination.is_dir() and not any(destination.iterdir())):
            return
    except OSError as error:
        raise _not_written(destination, error) from None
    raise Conflict(
        f"{destination} is there already.",
        untouched="It was not touched, and nothing was written.",
        next_step="Name another place, or say --overwrite: what has the same name is then replaced.",
    )


class _Getting:
    """One tree on its way to the destination."""

    def __init__(
        self, files: PointFiles, path: bytes, destination: Path, overwrite: bool, advance: Callable[[int], None]
    ) -> None:
        self._files = files
        self._path = path
        self._destination = destination
        self._overwrite = overwrite
        self._advance = advance
        self._as_root = os.geteuid() == 0
        self._made: set[bytes] = set()
        self._count = self._size_bytes = 0
        self._left_out: list[str] = []

    def run(self) -> Got:
        folders: list[GuestEntry] = []
        links: list[GuestEntry] = []
        try:
            for entry in below(self._files, self._path):
                if entry.kind is EntryKind.FOLDER:
                    self._make_folder(entry)
                    folders.append(entry)
                elif entry.kind is EntryKind.FILE:
                    self._make_file(entry)
                elif entry.kind in (EntryKind.SYMLINK, EntryKind.HARD_LINK):
                    links.append(entry)
                else:
                    self._left_out.append(f"/{shown(entry.path)} ({entry.kind})")
            for entry in sorted(links, key=lambda each: each.kind is EntryKind.SYMLINK):
                self._make_link(entry)
            for entry in reversed(folders):
                self._finish_folder(entry)
        except OSError as error:
            raise _not_written(self._destination, error) from None
        return Got(self._destination, self._count, self._size_bytes, tuple(self._left_out))

    def _place(self, path: bytes) -> tuple[bytes, ...]:
        """The name of the destination in its folder, then the names below it."""
        rest = path[len(self._path) :].strip(b"/")
        return (os.fsencode(self._destination.name), *(rest.split(b"/") if rest else ()))

    @contextmanager
    def _folder_of(self, path: bytes) -> Generator[tuple[int, bytes]]:
        """The open folder that an entry belongs into, and its name there."""
        *above, name = self._place(path)
        folder = os.open(self._destination.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for each in above:
                inner = os.open(each, _FOLDER, dir_fd=folder)
                os.close(folder)
                folder = inner
            yield folder, name
        finally:
            os.close(folder)

    def _make_folder(self, entry: GuestEntry) -> None:
        with self._folder_of(entry.path) as (folder, name):
            try:
                os.mkdir(name, 0o700, dir_fd=folder)
            except FileExistsError:
                os.close(os.open(name, _FOLDER, dir_fd=folder))

    def _make_file(self, entry: GuestEntry) -> None:
        with self._folder_of(entry.path) as (folder, name):
            self._make_room(folder, name)
            descriptor = os.open(name, _NEW_FILE, 0o600, dir_fd=folder)
            try:
                self._write(descriptor, entry)
                self._dress(descriptor, entry)
            finally:
                os.close(descriptor)
        self._made.add(entry.path)
        self._count += 1

    def _write(self, descriptor: int, entry: GuestEntry) -> None:
        end = 0
        for piece in self._files.read(entry):
            for start in range(0, len(piece), _HOLE_BYTES):
                part = piece[start : start + _HOLE_BYTES]
                if part != _ZEROES[: len(part)]:
                    _write_all(descriptor, part, end)
                end += len(part)
            self._size_bytes += len(piece)
            self._advance(len(piece))
        os.ftruncate(descriptor, end)

    def _make_link(self, entry: GuestEntry) -> None:
        if entry.kind is EntryKind.HARD_LINK and entry.target not in self._made:
            self._make_file(entry)
            return
        with self._folder_of(entry.path) as (folder, name):
            self._make_room(folder, name)
            if entry.kind is EntryKind.SYMLINK:
                os.symlink(entry.target, name, dir_fd=folder)
                if self._as_root:
                    os.chown(name, entry.uid, entry.gid, dir_fd=folder, follow_symlinks=False)
            else:
                with self._folder_of(entry.target) as (other, first):
                    os.link(first, name, src_dir_fd=other, dst_dir_fd=folder, follow_symlinks=False)
        self._count += 1

    def _finish_folder(self, entry: GuestEntry) -> None:
        with self._folder_of(entry.path) as (folder, name):
            descriptor = os.open(name, _FOLDER, dir_fd=folder)
            try:
                self._dress(descriptor, entry)
            finally:
                os.close(descriptor)

    def _dress(self, descriptor: int, entry: GuestEntry) -> None:
        """Owner, mode, attributes of its user, time: in the order in which one does not undo the other."""
        if self._as_root:
            os.fchown(descriptor, entry.uid, entry.gid)
        os.fchmod(descriptor, entry.mode & _MODE_BITS)
        for keyword, value in entry.attributes.items():
            if keyword.startswith("SCHILY.xattr.user."):
                # A file system that keeps none is no reason to have nothing.
                with suppress(OSError):
                    os.setxattr(descriptor, keyword.removeprefix("SCHILY.xattr."), value)
        os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))

    def _make_room(self, folder: int, name: bytes) -> None:
        if self._overwrite:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)


def _write_all(descriptor: int, content: bytes, offset: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _not_written(destination: Path, error: OSError) -> NewhopeError:
    reason = error.strerror or str(error)
    name = error.filename if error.filename is not None else destination
    where = shown(name) if isinstance(name, bytes) else str(name)
    untouched = f"What was written so far is in {destination}."
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(f"{where} cannot be written: {reason}.", untouched=untouched, next_step="Make room there.")
    return NotWritten(
        f"{where} cannot be written: {reason}.", untouched=untouched, next_step="Name another place, or allow it."
    )
