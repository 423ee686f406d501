"""Our side: starts the reading process, gives it blocks, checks what it says, and ends it when it does not behave."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import NoReturn, Self, TypeVar

import msgspec
from msgspec import Struct

from engine.disk_files.protocol import (
    MAX_PIECE_BYTES,
    MAX_WANTED_BYTES,
    Content,
    Ended,
    Entries,
    Failed,
    Find,
    FromReader,
    List,
    Look,
    Opening,
    Piece,
    Read,
    Volume,
    Volumes,
    Wanted,
    receive_from_reader,
    send,
)
from engine.errors import ExitCode, MissingPackage, NewhopeError, NotFound
from engine.file_entry import FileEntry, FileKind, is_plain, shown

PATIENCE_S = 120.0
"""How long the process may think about one answer, without the time in which it waits for blocks."""
START_S = 60.0
"""How long it may take beside that to load the parsers, before its first word."""
MAX_WANTED = 200_000
"""How often it may ask for blocks for one answer: a folder of a million files needs fewer, an endless loop more."""
MAX_ENDED = 8
"""How many processes are ended before the disks are given up; each time the next question has a new one."""
MAX_LIST_BYTES = 512 << 20
"""How much the list of one folder may take here: that of two million files with names of usual length."""
MAX_VOLUMES = 4096
MAX_NAME_BYTES = 1024
INSTALL_PARSERS = "pip install 'newhope[files]'"
_PARSERS = ("btrfs", "extfs", "fat", "ntfs", "volume", "xfs")
_ENTRY_BYTES = 200
_VOLUME_NAME = re.compile(r"[A-Za-z0-9+_.#-]{1,128}(/[A-Za-z0-9+_.-]{1,128})?")
_NEXT = "take the disk as a whole: `newhope restore`; `newhope points` lists other recovery points."

Path = tuple[bytes, ...]
Answer = TypeVar("Answer", bound=Struct)


class FileSystemUnreadable(NewhopeError):
    """A guest's file system is damaged, of a kind that is not supported, or does strange things to its reader."""

    exit_code = ExitCode.GUEST


class NoSuchFile(NotFound):
    """There is no such volume, file or folder in a recovery point."""


class Disk(Struct, frozen=True):
    """A disk to be looked into."""

    name: str
    """`vda`."""
    size_bytes: int
    read: Callable[[int, int], bytes]
    """The bytes of a range; may raise `NewhopeError` where they are lost."""


def parsers_version() -> str:
    """Which version of the parsers is installed here; empty if one of them is missing."""
    try:
        found = [importlib.util.find_spec(f"dissect.{each}") for each in _PARSERS]
    except ModuleNotFoundError:
        return ""
    return importlib.metadata.version("dissect.volume") if all(found) else ""


def open_disks(disks: Sequence[Disk], *, salvage: bool = False, patience_s: float = PATIENCE_S) -> DiskFiles:
    """Start a process that looks into these disks. With `salvage` what is lost reads as zero, and `lost` says so.

    Raises `MissingPackage` where the parsers are not installed.
    """
    if not parsers_version():
        raise MissingPackage(
            "The part of newhope that reads file systems inside disks is not installed.",
            next_step=f"install it: `{INSTALL_PARSERS}` (it brings dissect, under the AGPL-3.0 licence).",
        )
    return DiskFiles(disks, salvage=salvage, patience_s=patience_s)


class DiskFiles:
    """An open look into disks. Safe for any number of threads, which take turns."""

    def __init__(self, disks: Sequence[Disk], *, salvage: bool, patience_s: float) -> None:
        self._disks = disks
        self._salvage = salvage
        self._patience_s = patience_s
        self._turn = threading.RLock()
        self._volumes: tuple[Volume, ...] | None = None
        self._failure: NewhopeError | None = None
        self.lost = False
        """With `salvage`: whether something that was needed since this was last set to False is lost."""
        self._process: subprocess.Popen[bytes] | None = None
        self._ended = 0
        self._skip: list[str] = []
        """What ended a process that looked into it."""
        self._opening = ""
        self._start()

    def _start(self) -> None:
        self._starting_s = START_S
        self._link, theirs = socket.socketpair()
        names = {"disks": [(disk.name, disk.size_bytes) for disk in self._disks]}
        module = "engine.disk_files.serving"
        command = [sys.executable, "-I", "-m", module, str(theirs.fileno()), msgspec.json.encode(names).decode()]
        with theirs:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={"LANG": "C.UTF-8"},
                cwd="/",
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The reading process, if there is one just now."""
        return None if self._process is None else self._process.pid

    def close(self) -> None:
        """End the process."""
        self._stop()

    def volumes(self) -> tuple[Volume, ...]:
        """What is on the disks. Raises `FileSystemUnreadable`, and what reading the disks raises."""
        with self._turn:
            if self._volumes is None:
                self._volumes = self._look()
            return self._volumes

    def _look(self) -> tuple[Volume, ...]:
        """All volumes; one that ends its reader is told among them, and left alone."""
        while True:
            self._opening = ""
            try:
                [answer] = self._ask(Look(tuple(self._skip)), Volumes)
            except FileSystemUnreadable:
                if self._failure is not None or not self._opening or self._opening in self._skip:
                    raise
                self._skip.append(self._opening)
                continue
            self._check(len(answer.volumes) <= MAX_VOLUMES, "too many volumes")
            self._check(all(map(_is_sound_volume, answer.volumes)), "a volume that cannot be")
            return answer.volumes

    def find(self, volume: str, path: Path, *, follow: bool = False) -> FileEntry:
        """What is at a path. Symlinks on the way are followed, inside the volume; the last one with `follow`."""
        with self._turn:
            self.volumes()
            [answer] = self._ask(Find(volume, path, follow), Entries, self._named(volume, path))
            self._check(len(answer.entries) == 1, "more than one answer")
            [entry] = answer.entries
            self._check(_is_sound(entry, top=True), "an entry that cannot be")
            return entry

    def entries(self, volume: str, path: Path) -> tuple[list[FileEntry], int]:
        """What is in a folder, by name, and how many names could not be names."""
        with self._turn:
            self.volumes()
            found: list[FileEntry] = []
            left_out = size_bytes = 0
            for answer in self._ask(List(volume, path), Entries, self._named(volume, path)):
                self._check(all(map(_is_sound, answer.entries)), "an entry that cannot be")
                found += answer.entries
                left_out += answer.left_out
                size_bytes += sum(_ENTRY_BYTES + len(entry.path) + len(entry.target) for entry in answer.entries)
                endless = size_bytes > MAX_LIST_BYTES or (answer.more and not answer.entries)
                self._check(not endless, "a folder without an end")
            self._check(len({entry.path for entry in found}) == len(found), "one name twice")
            return sorted(found, key=lambda entry: entry.path), left_out

    def read(self, volume: str, path: Path, offset: int, length: int) -> bytes | int:
        """A piece of a file: its bytes, fewer than asked for only at the end, or how many zeroes follow.

        Up to `MAX_PIECE_BYTES`; zeroes may be fewer or more than asked for.
        """
        with self._turn:
            self.volumes()
            [answer] = self._ask(Read(volume, path, offset, length), Piece, self._named(volume, path))
            self._check(0 <= answer.zeroes < 1 << 62 and len(answer.data) <= length, "more than was asked for")
            self._check(not (answer.zeroes and answer.data), "two answers in one")
            return answer.zeroes or answer.data

    def _named(self, volume: str, path: Path) -> str:
        return f"{volume}:/{b'/'.join(path).decode(errors='backslashreplace')}"

    def _ask(self, question: Struct, kind: type[Answer], about: str = "these disks") -> Iterator[Answer]:
        self._begin(question)
        self._tell(question)
        thought_s, wanted, opened = 0.0, 0, 0
        while True:
            began, starting_s = time.monotonic(), self._starting_s
            answer = self._hear(self._patience_s + starting_s - thought_s)
            self._starting_s = 0.0
            thought_s += max(0.0, time.monotonic() - began - starting_s)
            if isinstance(answer, Wanted):
                wanted += 1
                self._check(wanted <= MAX_WANTED, "questions without an end")
                self._give(answer)
            elif isinstance(answer, Opening):
                # Each volume may take as long as an answer.
                self._opening, thought_s, wanted, opened = answer.name, 0.0, 0, opened + 1
                self._check(opened <= 2 * MAX_VOLUMES, "volumes without an end")
            elif isinstance(answer, Failed):
                raise _failed(answer, about, lost=self.lost)
            elif isinstance(answer, kind):
                yield answer
                if not isinstance(answer, Entries) or not answer.more:
                    return
                thought_s, wanted = 0.0, 0
            else:
                self._check(False, "an answer to another question")

    def _begin(self, question: Struct) -> None:
        """Have a process to ask. A new one must look at the volumes first, as the one before it did."""
        if self._failure is not None:
            raise self._failure
        if self._process is None:
            self._start()
            if not isinstance(question, Look):
                list(self._ask(Look(tuple(self._skip)), Volumes))

    def _give(self, wanted: Wanted) -> None:
        self._check(0 <= wanted.disk < len(self._disks), "a disk that is not there")
        disk = self._disks[wanted.disk]
        inside = wanted.offset >= 0 and 0 < wanted.length <= MAX_WANTED_BYTES
        self._check(inside and wanted.offset + wanted.length <= disk.size_bytes, "a range that is not there")
        try:
            content = Content(disk.read(wanted.offset, wanted.length))
        except NewhopeError:
            if not self._salvage:
                # Nobody waits for its answer any more: the next question has a new process.
                self._stop()
                raise
            self.lost = True
            content = Content(bytes(wanted.length), lost=True)
        self._tell(content)

    def _tell(self, message: Struct) -> None:
        try:
            self._link.settimeout(self._patience_s)
            send(self._link, message)
        except OSError:
            self._gone("it ended")

    def _hear(self, patience_s: float) -> FromReader:
        # Not 0, which would mean not to wait at all.
        self._link.settimeout(max(patience_s, 0.001))
        try:
            return receive_from_reader(self._link)
        except TimeoutError:
            self._gone(f"it was given up after {self._patience_s:.0f} s without an answer")
        except (Ended, OSError):
            self._gone("it ended")
        except msgspec.DecodeError:
            self._gone("it said something that is no answer")

    def _check(self, sound: bool, wrong: str) -> None:
        if not sound:
            self._gone(f"it answered with {wrong}")

    def _gone(self, why: str) -> NoReturn:
        status = self._stop()
        more = {3: "out of memory", 1: "it could not be started or confined"}.get(status, "")
        error = FileSystemUnreadable(
            f"The process that reads the guest's file systems was stopped: {more or why}.",
            untouched="The recovery point is as it was; what was fetched before stays.",
            next_step=f"the file system may be damaged, or made to do this; {_NEXT}",
        )
        self._ended += 1
        if self._ended >= MAX_ENDED:
            self._failure = error
        raise error

    def _stop(self) -> int:
        """End the process; its exit status."""
        process, self._process = self._process, None
        if process is None:
            return 0
        process.kill()
        self._link.close()
        return process.wait()


def _failed(answer: Failed, about: str, *, lost: bool) -> NewhopeError:
    reason = shown(answer.reason)
    if lost:
        reason += " A part of what it is found by is lost in the repository."
    elif answer.missing:
        return NoSuchFile(
            f"{about}: {reason}", next_step="list the folder above it, or all volumes: `newhope files POINT`."
        )
    return FileSystemUnreadable(f"{about}: {reason}", untouched="The recovery point is as it was.", next_step=_NEXT)


def _is_sound_volume(volume: Volume) -> bool:
    return bool(
        _VOLUME_NAME.fullmatch(volume.name)
        and 0 <= volume.size_bytes < 1 << 63
        and -1 <= volume.used_bytes < 1 << 63
        and len(volume.note) < 1000
        and len(volume.label) < 1000
    )


def _is_sound(entry: FileEntry, *, top: bool = False) -> bool:
    name = entry.path
    named = is_plain(name) and b"/" not in name and len(name) <= MAX_NAME_BYTES
    return bool(
        (named or (top and not name))
        and entry.mode == entry.mode & 0o7777
        and -1 <= entry.uid < 1 << 32
        and -1 <= entry.gid < 1 << 32
        and 0 <= entry.size_bytes < 1 << 62
        and (not entry.size_bytes or entry.kind is FileKind.FILE)
        and abs(entry.mtime_ns) <= 1 << 62
        and b"\0" not in entry.target
        and len(entry.target) <= 4096
        and len(entry.problem) <= 1000
        and not (entry.owner or entry.group or entry.attributes or any(entry.device))
    )


__all__ = ["MAX_PIECE_BYTES", "Disk", "DiskFiles", "FileSystemUnreadable", "NoSuchFile", "open_disks"]
