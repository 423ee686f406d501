"""Write a file or folder of a recovery point to this machine.

1. What is there already is left alone, unless overwriting was asked for; then files are replaced and folders merged.
2. Everything is made beside an open folder (`dir_fd`) and under a name without slashes: what the guest calls its files
   cannot lead elsewhere. No symlink that was written is followed, and none is replaced by what it leads to.
3. A file grows under a name of its own and takes its place when it is whole, so that whatever has the right name has
   the right content. Ranges of zeroes become holes. Of a file with several names the first one gets the content.
4. Modes and times are set last, owners only by root. Set-user-ID bits are never set: a program of the guest must not
   become one of this machine. Devices, FIFOs and sockets are not made, and what this machine cannot have (a name that
   is too long for it, say) is left out: each is told.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec import Struct, field

from engine.disk_files import FileSystemUnreadable
from engine.errors import Conflict, ExitCode, NewhopeError, NoSpace, NotFound
from engine.file_entry import FileEntry, FileKind, shown
from engine.point_files.tree import Piece, PointFiles
from engine.repository import RepositoryDamaged

MAX_DEPTH = 200
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_HOLE_BYTES = 64 << 10
_MODE_BITS = 0o1777
_IMPOSSIBLE_HERE = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.EFBIG)
_STAYS = "What was written before stays; nothing half written is left."

Progress = Callable[[int, int, str], None]
"""Told files and bytes that were written, and what comes next. What it raises ends the writing."""

Pace = Callable[[int], None]
"""Asked before so many bytes are written, and returns when they may be. What it raises ends the writing."""


class NotWritten(NewhopeError):
    """This machine refused a file or folder that was to be written."""

    exit_code = ExitCode.FAILED


class LostRange(Struct, frozen=True):
    """A part of a file that is lost in the repository, and zero in what was written."""

    path: str
    offset: int
    length: int


class LeftOut(Struct, frozen=True):
    """Something that was not written."""

    path: str
    reason: str


class Written(Struct):
    """What came of it."""

    destination: str
    files: int = 0
    folders: int = 0
    symlinks: int = 0
    size_bytes: int = 0
    lost: list[LostRange] = field(default_factory=list[LostRange])
    left_out: list[LeftOut] = field(default_factory=list[LeftOut])


def destination_for(path: bytes, wanted: Path) -> Path:
    """Where an entry goes: into a folder that is there, or under the name that is wanted."""
    name = os.fsdecode(path.rpartition(b"/")[2])
    return wanted / name if name and wanted.is_dir() else wanted


def write(
    files: PointFiles,
    path: bytes,
    destination: Path,
    *,
    overwrite: bool = False,
    salvage: bool = False,
    progress: Progress = lambda files, size_bytes, name: None,
    pace: Pace = lambda count: None,
) -> Written:
    """Write what is at a path, and all below it, into the folder `destination`, or under that name if none is there.

    Raises `Conflict` for what is there already, `NotFound`, `NoSpace`, `NotWritten`, and what reading raises.
    """
    entry = files.stat(path)
    target = destination_for(path, destination).absolute()
    with refusals_of(target):
        if not target.parent.is_dir():
            raise NotFound(f"There is no folder {target.parent}.", next_step=f"make it: `mkdir -p {target.parent}`.")
        at = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            work = _Writing(files, path, target, at, overwrite, salvage, progress, pace)
            work.put(at, os.fsencode(target.name), entry)
        finally:
            os.close(at)
    return work.done


@contextmanager
def refusals_of(destination: Path) -> Generator[None]:
    """What this machine refuses, as an error that says so: raises `NoSpace`, `NotWritten`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(
                f"{destination} is on a full file system.", untouched=_STAYS, next_step="make room there."
            ) from error
        raise NotWritten(
            f"{destination} cannot be written: {reason}.", untouched=_STAYS, next_step="choose another folder."
        ) from error


class _Writing:
    """One tree on its way to its destination, `name` in the open folder `top`."""

    def __init__(
        self,
        files: PointFiles,
        path: bytes,
        destination: Path,
        top: int,
        overwrite: bool,
        salvage: bool,
        progress: Progress,
        pace: Pace,
    ) -> None:
        self.done = Written(str(destination))
        self._files = files
        self._path = path
        self._name = os.fsencode(destination.name)
        self._top = top
        self._overwrite = overwrite
        self._salvage = salvage
        self._progress = progress
        self._pace = pace
        self._as_root = os.geteuid() == 0
        self._first_name: dict[bytes, bytes] = {}
        """By the path of a content: under which it was written, for other names of it."""

    def put(self, at: int, name: bytes, entry: FileEntry) -> None:
        """Write one entry and all that is in it."""
        try:
            self._refuse_existing(at, name, entry)
            match entry.kind:
                case FileKind.FILE | FileKind.HARD_LINK:
                    self._file(at, name, entry)
                case FileKind.FOLDER:
                    self._folder(at, name, entry)
                case FileKind.SYMLINK:
                    self._symlink(at, name, entry)
                case FileKind.UNREADABLE:
                    self._unreadable(entry)
                case _:
                    self._leave_out(entry, "a device, FIFO or socket")
        except OSError as error:
            if error.errno not in _IMPOSSIBLE_HERE or not entry.path or entry.path == self._path:
                raise
            self._leave_out(entry, f"it cannot be written here: {error.strerror}")

    def _fill(self, at: int, folder: FileEntry) -> None:
        """Write all that is in a folder into an open one."""
        if folder.path[len(self._path) :].count(b"/") >= MAX_DEPTH:
            self._leave_out(folder, f"what is in it: more than {MAX_DEPTH} folders deep")
            return
        try:
            children = self._files.children(folder.path)
        except FileSystemUnreadable as error:
            if not self._salvage:
                raise
            self._leave_out(folder, error.what)
            return
        for remark in children.remarks:
            self._leave_out(folder, remark)
        for entry in children.entries:
            self.put(at, entry.name, entry)

    def _file(self, at: int, name: bytes, entry: FileEntry) -> None:
        """A file, or the first name of one that has several; `entry.target` is then the path of its content."""
        content = entry.target if entry.kind is FileKind.HARD_LINK else entry.path
        if (first := self._first_name.get(content)) is not None:
            self._link(at, name, first)
            return
        self._tell(entry)
        growing = f".newhope-{secrets.token_hex(8)}"
        file = os.open(growing, _NEW_FILE, 0o600, dir_fd=at)
        try:
            try:
                self._content(file, entry)
                self._finish(file, entry)
            finally:
                os.close(file)
            self._take_place(at, growing, name)
        except BaseException as error:
            _remove(at, growing)
            if self._salvage and isinstance(error, FileSystemUnreadable | RepositoryDamaged):
                self._leave_out(entry, error.what)
                return
            raise
        self._first_name[content] = entry.path
        self.done.files += 1

    def _content(self, file: int, entry: FileEntry) -> None:
        offset = 0
        for piece in self._files.read(entry):
            if piece.lost:
                self._note_lost(entry, offset, piece)
            self._pace(len(piece.data))
            if piece.data:
                _write_with_holes(file, piece.data, offset)
            offset += piece.size_bytes
            self.done.size_bytes += piece.size_bytes
            self._tell(entry)
        os.ftruncate(file, offset)

    def _link(self, at: int, name: bytes, first: bytes) -> None:
        """Another name of content that was written."""
        with self._folder_of(first) as (folder, written):
            if self._overwrite:
                with suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=at)
            os.link(written, name, src_dir_fd=folder, dst_dir_fd=at, follow_symlinks=False)
        self.done.files += 1

    @contextmanager
    def _folder_of(self, path: bytes) -> Generator[tuple[int, bytes]]:
        """The open folder that something was written into, and its name there."""
        rest = path[len(self._path) :].strip(b"/")
        *above, name = [self._name, *(rest.split(b"/") if rest else [])]
        folder = os.dup(self._top)
        try:
            for each in above:
                inner = os.open(each, _FOLDER, dir_fd=folder)
                os.close(folder)
                folder = inner
            yield folder, name
        finally:
            os.close(folder)

    def _folder(self, at: int, name: bytes, entry: FileEntry) -> None:
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=at)
        below = os.open(name, _FOLDER, dir_fd=at)
        try:
            self._fill(below, entry)
            self._finish(below, entry, otherwise=0o755)
        finally:
            os.close(below)
        self.done.folders += 1

    def _symlink(self, at: int, name: bytes, entry: FileEntry) -> None:
        if not entry.target:
            self._leave_out(entry, "a symlink that leads nowhere")
            return
        making = f".newhope-{secrets.token_hex(8)}"
        os.symlink(entry.target, making, dir_fd=at)
        try:
            if self._as_root and entry.uid >= 0:
                os.chown(making, entry.uid, entry.gid, dir_fd=at, follow_symlinks=False)
            with suppress(OverflowError):
                os.utime(making, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=at, follow_symlinks=False)
            self._take_place(at, making, name)
        except BaseException:
            _remove(at, making)
            raise
        self.done.symlinks += 1

    def _unreadable(self, entry: FileEntry) -> None:
        if not self._salvage:
            raise FileSystemUnreadable(
                f"{self._shown(entry)}: {shown(entry.problem)}",
                untouched="What was written before stays.",
                next_step="with --salvage it is left out, and the rest is written.",
            )
        self._leave_out(entry, entry.problem)

    def _finish(self, file: int, entry: FileEntry, otherwise: int = 0o644) -> None:
        """Owner, mode, attributes of its user, time: in the order in which one does not undo the other."""
        if self._as_root and entry.uid >= 0:
            os.fchown(file, entry.uid, entry.gid)
        mode = entry.mode if entry.uid >= 0 or entry.mode else otherwise
        os.fchmod(file, mode & _MODE_BITS)
        for keyword, value in entry.attributes.items():
            if keyword.startswith("SCHILY.xattr.user."):
                # A file system that keeps none is no reason to have nothing.
                with suppress(OSError):
                    os.setxattr(file, keyword.removeprefix("SCHILY.xattr."), value)
        with suppress(OverflowError):
            os.utime(file, ns=(entry.mtime_ns, entry.mtime_ns))

    def _take_place(self, at: int, growing: str, name: bytes) -> None:
        if self._overwrite:
            os.rename(growing, name, src_dir_fd=at, dst_dir_fd=at)
            return
        try:
            os.link(growing, name, src_dir_fd=at, dst_dir_fd=at, follow_symlinks=False)
        except FileExistsError:
            raise self._conflict(at, name) from None
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            # A file system without hard links.
            if _kind_there(at, name) is not None:
                raise self._conflict(at, name) from None
            os.rename(growing, name, src_dir_fd=at, dst_dir_fd=at)
            return
        os.unlink(growing, dir_fd=at)

    def _refuse_existing(self, at: int, name: bytes, entry: FileEntry) -> None:
        there = _kind_there(at, name)
        if there is None:
            return
        folder = entry.kind is FileKind.FOLDER
        if not self._overwrite:
            if at == self._top and folder and there == stat.S_IFDIR and _is_empty(at, name):
                return
            raise self._conflict(at, name)
        if (there == stat.S_IFDIR) != folder:
            raise Conflict(
                f"{self._where(at, name)} is there already, and is {'no' if folder else 'a'} folder.",
                untouched="It is as it was; what was written before stays.",
                next_step="move it away, or choose another folder.",
            )

    def _conflict(self, at: int, name: bytes) -> Conflict:
        first = at == self._top
        return Conflict(
            f"{self._where(at, name)} is there already.",
            untouched="It was not touched, and nothing was written."
            if first
            else "It is as it was; what was written before stays.",
            next_step="choose another folder, or add --overwrite to replace files and merge folders.",
        )

    def _where(self, at: int, name: bytes) -> str:
        return self.done.destination if at == self._top else shown(name)

    def _tell(self, entry: FileEntry) -> None:
        self._progress(self.done.files, self.done.size_bytes, shown(entry.path))

    def _note_lost(self, entry: FileEntry, offset: int, piece: Piece) -> None:
        path = self._shown(entry)
        before = self.done.lost[-1] if self.done.lost else None
        if before is not None and before.path == path and before.offset + before.length == offset:
            self.done.lost[-1] = LostRange(path, before.offset, before.length + piece.size_bytes)
        else:
            self.done.lost.append(LostRange(path, offset, piece.size_bytes))

    def _leave_out(self, entry: FileEntry, reason: str) -> None:
        self.done.left_out.append(LeftOut(self._shown(entry), shown(reason)))

    def _shown(self, entry: FileEntry) -> str:
        volume = self._files.volume
        return f"{volume}:/{shown(entry.path)}" if volume else f"/{shown(entry.path)}"


def _kind_there(at: int, name: bytes) -> int | None:
    try:
        return stat.S_IFMT(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return None


def _is_empty(at: int, name: bytes) -> bool:
    folder = os.open(name, _FOLDER, dir_fd=at)
    try:
        with os.scandir(folder) as found:
            return next(found, None) is None
    finally:
        os.close(folder)


def _write_with_holes(file: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    for start in range(0, len(data), _HOLE_BYTES):
        part = view[start : start + _HOLE_BYTES]
        at = 0
        if data.count(0, start, start + _HOLE_BYTES) == len(part):
            continue
        while at < len(part):
            at += os.pwrite(file, part[at:], offset + start + at)


def _remove(at: int, name: str) -> None:
    with suppress(OSError):
        os.unlink(name, dir_fd=at)
