"""Write a file or folder of a recovery point to this machine.

1. What is there already is left alone, unless overwriting was asked for; then files are replaced and folders merged.
2. Everything is made beside an open folder (`dir_fd`) and under a name without slashes: what the guest calls its files
   cannot lead elsewhere. No symlink that was written is followed, and none is replaced by what it leads to.
3. A file grows under a name of its own and takes its place when it is whole, so that whatever has the right name has
   the right content. Ranges of zeroes become holes.
4. Modes and times are set last, owners only by root. Set-user-ID bits are never set: a program of the guest must not
   become one of this machine. Devices, FIFOs and sockets are not made.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path as LocalPath

from msgspec import Struct, field

from engine.disk_files import DiskFiles, Entry, FileSystemUnreadable, Kind
from engine.errors import Conflict, NewhopeError, NoSpace, NotFound
from engine.from_disks.place import Place
from engine.from_disks.source import printable

PIECE_BYTES = 4 << 20
FINE_BYTES = 64 << 10
"""How exactly a lost range is told."""
MAX_DEPTH = 200
_HOLE_BYTES = 64 << 10

Path = tuple[bytes, ...]
Progress = Callable[[int, int, str], None]
"""Told files and bytes that were written, and what comes next."""


class CannotWrite(NewhopeError):
    """This machine refused a file or folder that was to be written."""


class LostRange(Struct, frozen=True):
    """A part of a file that is lost in the repository, and zero in what was written."""

    path: str
    offset: int
    length: int


class LeftOut(Struct, frozen=True):
    """Something that was not written."""

    path: str
    reason: str


class Extracted(Struct):
    """What came of it."""

    destination: str
    files: int = 0
    folders: int = 0
    symlinks: int = 0
    size_bytes: int = 0
    lost: list[LostRange] = field(default_factory=list[LostRange])
    left_out: list[LeftOut] = field(default_factory=list[LeftOut])


def extract(
    source: DiskFiles,
    place: Place,
    destination: LocalPath,
    *,
    overwrite: bool = False,
    salvage: bool = False,
    progress: Progress = lambda files, size_bytes, name: None,
) -> Extracted:
    """Write what is at a place into the folder `destination`, or under that name if there is no such folder.

    Raises `Conflict` for what is there already, `NoSpace`, `CannotWrite`, and what reading raises.
    """
    entry = source.find(place.volume, place.path)
    inside = destination.is_dir()
    folder, name = (destination, entry.name) if inside else (destination.parent, os.fsencode(destination.name))
    with _saying(destination):
        if not folder.is_dir():
            raise NotFound(f"There is no folder {folder}.", next_step=f"make it: `mkdir -p {folder}`.")
        at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            written = folder if not name else folder / os.fsdecode(name)
            work = _Extraction(source, place.volume, Extracted(str(written)), overwrite, salvage, progress)
            if name:
                work.put(at, name, entry, place.path)
            else:
                work.fill(at, place.path)
        finally:
            os.close(at)
    return work.done


@contextmanager
def _saying(destination: LocalPath) -> Generator[None]:
    try:
        yield
    except OSError as error:
        kept = "What was written before stays; nothing half written is left."
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(
                f"{destination} is on a full file system.", untouched=kept, next_step="free space."
            ) from error
        raise CannotWrite(
            f"{destination}: {error.strerror or error}.", untouched=kept, next_step="choose another folder."
        ) from error


class _Extraction:
    def __init__(
        self,
        source: DiskFiles,
        volume: str,
        done: Extracted,
        overwrite: bool,
        salvage: bool,
        progress: Progress,
    ) -> None:
        self._source = source
        self._volume = volume
        self.done = done
        self._overwrite = overwrite
        self._salvage = salvage
        self._progress = progress

    def put(self, at: int, name: bytes, entry: Entry, path: Path) -> None:
        """Write one entry and all that is in it."""
        self._refuse_existing(at, name, folder=entry.kind is Kind.FOLDER)
        match entry.kind:
            case Kind.FILE:
                self._file(at, name, entry, path)
            case Kind.FOLDER:
                self._folder(at, name, entry, path)
            case Kind.SYMLINK:
                self._symlink(at, name, entry, path)
            case Kind.SPECIAL:
                self._leave_out(path, "a device, FIFO or socket")
            case Kind.UNREADABLE:
                if not self._salvage:
                    raise FileSystemUnreadable(
                        f"{self._shown(path)}: {printable(entry.problem.encode())}",
                        untouched="What was written before stays.",
                        next_step="with --salvage it is left out, and the rest is written.",
                    )
                self._leave_out(path, entry.problem)

    def fill(self, at: int, path: Path) -> None:
        """Write all that is in a folder into an open one."""
        if len(path) > MAX_DEPTH:
            self._leave_out(path, f"more than {MAX_DEPTH} folders deep")
            return
        self._source.lost = False
        try:
            entries, nameless = self._source.entries(self._volume, path)
        except FileSystemUnreadable as error:
            if not self._salvage:
                raise
            self._leave_out(path, error.what)
            return
        if self._source.lost:
            self._leave_out(path, "a part of its list of names is lost: some files may be missing")
        if nameless:
            self._leave_out(path, f"{nameless} of its names cannot be names of files")
        for entry in entries:
            self.put(at, entry.name, entry, (*path, entry.name))

    def _file(self, at: int, name: bytes, entry: Entry, path: Path) -> None:
        self._progress(self.done.files, self.done.size_bytes, printable(b"/".join(path)))
        growing = f".newhope-{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        file = os.open(growing, flags, 0o600, dir_fd=at)
        try:
            try:
                self._content(file, entry, path)
                self._finish(file, entry)
            finally:
                os.close(file)
            self._take_place(at, growing, name)
        except FileSystemUnreadable as error:
            _remove(at, growing)
            if not self._salvage:
                raise
            self._leave_out(path, error.what)
            return
        except BaseException:
            _remove(at, growing)
            raise
        self.done.files += 1

    def _content(self, file: int, entry: Entry, path: Path) -> None:
        os.ftruncate(file, entry.size_bytes)
        offset = 0
        while offset < entry.size_bytes:
            length = min(PIECE_BYTES, entry.size_bytes - offset)
            self._source.lost = False
            piece = self._source.read(self._volume, path, offset, length)
            if self._source.lost:
                piece = self._what_is_left(path, offset, length)
            got = piece if isinstance(piece, int) else len(piece)
            if got != length:
                raise FileSystemUnreadable(
                    f"{self._shown(path)} ends after {offset + got} of {entry.size_bytes} bytes.",
                    untouched="The recovery point is as it was.",
                    next_step="with --salvage it is left out, and the rest is written.",
                )
            if isinstance(piece, bytes):
                _write_with_holes(file, piece, offset)
            offset += length
            self.done.size_bytes += length
            self._progress(self.done.files, self.done.size_bytes, printable(b"/".join(path)))

    def _what_is_left(self, path: Path, offset: int, length: int) -> bytes:
        """The same piece in small steps, to tell exactly what is lost."""
        left = bytearray()
        for start in range(offset, offset + length, FINE_BYTES):
            wanted = min(FINE_BYTES, offset + length - start)
            self._source.lost = False
            piece = self._source.read(self._volume, path, start, wanted)
            if self._source.lost:
                self._tell_lost(self._shown(path), start, wanted)
            left += bytes(piece)
        return bytes(left)

    def _tell_lost(self, path: str, offset: int, length: int) -> None:
        before = self.done.lost[-1] if self.done.lost else None
        if before is not None and before.path == path and before.offset + before.length == offset:
            self.done.lost[-1] = LostRange(path, before.offset, before.length + length)
        else:
            self.done.lost.append(LostRange(path, offset, length))

    def _folder(self, at: int, name: bytes, entry: Entry, path: Path) -> None:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=at)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
        try:
            self.fill(below, path)
            self._finish(below, entry, otherwise=0o755)
        finally:
            os.close(below)
        self.done.folders += 1

    def _symlink(self, at: int, name: bytes, entry: Entry, path: Path) -> None:
        if not entry.target:
            self._leave_out(path, "a symlink that leads nowhere")
            return
        making = f".newhope-{secrets.token_hex(8)}"
        os.symlink(entry.target, making, dir_fd=at)
        try:
            if os.geteuid() == 0 and entry.uid >= 0:
                os.chown(making, entry.uid, entry.gid, dir_fd=at, follow_symlinks=False)
            os.utime(making, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=at, follow_symlinks=False)
            self._take_place(at, making, name)
        except BaseException:
            _remove(at, making)
            raise
        self.done.symlinks += 1

    def _finish(self, file: int, entry: Entry, otherwise: int = 0o644) -> None:
        if os.geteuid() == 0 and entry.uid >= 0:
            os.fchown(file, entry.uid, entry.gid)
        mode = entry.mode if entry.uid >= 0 or entry.mode else otherwise
        os.fchmod(file, mode & 0o1777)
        with suppress(OverflowError):
            os.utime(file, ns=(entry.mtime_ns, entry.mtime_ns))

    def _take_place(self, at: int, growing: str, name: bytes) -> None:
        if self._overwrite:
            os.rename(growing, name, src_dir_fd=at, dst_dir_fd=at)
            return
        try:
            os.link(growing, name, src_dir_fd=at, dst_dir_fd=at, follow_symlinks=False)
        except FileExistsError:
            raise self._conflict(name) from None
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            # A file system without hard links.
            self._refuse_existing(at, name, folder=False)
            os.rename(growing, name, src_dir_fd=at, dst_dir_fd=at)
            return
        os.unlink(growing, dir_fd=at)

    def _refuse_existing(self, at: int, name: bytes, *, folder: bool) -> None:
        try:
            there = os.stat(name, dir_fd=at, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not self._overwrite:
            raise self._conflict(name)
        if stat.S_ISDIR(there.st_mode) != folder:
            raise Conflict(
                f"{printable(name)} is there already, and is {'no' if folder else 'a'} folder.",
                untouched="It is as it was; what was written before stays.",
                next_step="move it away, or choose another folder.",
            )

    def _conflict(self, name: bytes) -> Conflict:
        return Conflict(
            f"{printable(name)} is there already.",
            untouched="It is as it was; what was written before stays.",
            next_step="choose another folder, or add --overwrite to replace files and merge folders.",
        )

    def _leave_out(self, path: Path, reason: str) -> None:
        self.done.left_out.append(LeftOut(self._shown(path), printable(reason.encode())))

    def _shown(self, path: Path) -> str:
        return f"{self._volume}:/{printable(b'/'.join(path))}"


def _write_with_holes(file: int, piece: bytes, offset: int) -> None:
    view = memoryview(piece)
    for start in range(0, len(piece), _HOLE_BYTES):
        part = view[start : start + _HOLE_BYTES]
        at = 0
        if part.nbytes == _HOLE_BYTES and piece.count(0, start, start + _HOLE_BYTES) == _HOLE_BYTES:
            continue
        while at < len(part):
            at += os.pwrite(file, part[at:], offset + start + at)


def _remove(at: int, name: str) -> None:
    with suppress(OSError):
        os.unlink(name, dir_fd=at)
