"""The reading process: loads the parsers, gives up everything, answers questions until nobody asks any more.

Started as `python -I -m engine.disk_files.serving FD` with the socket as FD; its first message is which disks there
are, as `Disks`.
"""

from __future__ import annotations

import codecs
import os
import select
import socket
import sys
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from engine.disk_files.confinement import confine
from engine.disk_files.disk_stream import DiskStream, Pieces
from engine.disk_files.protocol import (
    ENTRIES_A_FRAME,
    MAX_PIECE_BYTES,
    Content,
    Ended,
    Entries,
    Failed,
    Find,
    List,
    Look,
    Opening,
    Piece,
    Read,
    ToReader,
    Volume,
    Volumes,
    Wanted,
    receive_by_reader,
    send,
)
from engine.disk_files.tree import Node, Unreadable, dissect
from engine.disk_files.volumes import Opened, find_volumes
from engine.file_entry import FileEntry, FileKind

_PARSERS = (
    "util.stream", "util.ts", "volume.disk", "volume.lvm", "extfs.extfs", "xfs.xfs", "btrfs.btrfs", "ntfs.ntfs",
    "fat.fat",
)  # fmt: skip
_CODECS = ("ascii", "utf-8", "utf-16-le", "latin-1", "cp437", "ibm437", "cp1252", "idna")
_MAX_LINKS = 40
_KEPT_FOLDERS = 32
_MAX_NAME_BYTES = 1024


class Disks(Struct, frozen=True):
    """Names and sizes of the disks, as the process's second argument."""

    disks: tuple[tuple[str, int], ...]


class Missing(Exception):
    """There is nothing at a path."""


Path = tuple[bytes, ...]


class Reader:
    """Answers questions about disks."""

    def __init__(self, link: socket.socket, disks: Disks) -> None:
        self._link = link
        pieces = Pieces(self._fetch)
        self._disks: list[tuple[str, BinaryIO, int]] = [
            (name, cast(BinaryIO, DiskStream(pieces, number, size)), size)
            for number, (name, size) in enumerate(disks.disks)
        ]
        self._volumes: dict[str, Opened] = {}
        self._where: dict[tuple[str, object], Path] = {}
        """Of each folder that was listed, at which path: a sound file system has each folder once."""
        self._folders: OrderedDict[tuple[str, Path], dict[bytes, Node]] = OrderedDict()
        self._open_file: tuple[str, Path, BinaryIO, int] | None = None

    def answer(self, question: ToReader) -> Iterator[Struct]:
        """The messages that answer a question."""
        match question:
            case Look():
                for each in find_volumes(self._disks, question.skip, self._opening):
                    self._volumes.setdefault(each.volume.name, each)
                yield Volumes(tuple(_as_sent(each.volume) for each in self._volumes.values()))
            case Find():
                path = self._real(question.volume, question.path, follow=question.follow)
                name = path[-1] if path else b""
                yield Entries((_entry(name, self._node(question.volume, path)),))
            case List():
                yield from self._list(question)
            case Read():
                yield self._read(question)
            case Content():
                raise Ended

    def _opening(self, name: str) -> None:
        send(self._link, Opening(name))

    def _fetch(self, disk: int, offset: int, length: int) -> tuple[bytes, bool]:
        send(self._link, Wanted(disk, offset, length))
        content = receive_by_reader(self._link)
        if not isinstance(content, Content) or len(content.data) != length:
            raise Ended
        return content.data, content.lost

    def _list(self, question: List) -> Iterator[Entries]:
        path = self._real(question.volume, question.path, follow=True)
        found: list[FileEntry] = []
        left_out = 0
        for name, node in self._folder(question.volume, path).items():
            if _is_no_name(name):
                left_out += 1
                continue
            found.append(_entry(name, node))
            if len(found) == ENTRIES_A_FRAME:
                yield Entries(tuple(found), more=True, left_out=left_out)
                found, left_out = [], 0
        yield Entries(tuple(found), left_out=left_out)

    def _read(self, question: Read) -> Piece:
        if self._open_file is None or self._open_file[:2] != (question.volume, question.path):
            node = self._node(question.volume, self._real(question.volume, question.path))
            facts = node.facts()
            if facts.kind is not FileKind.FILE:
                raise Unreadable("It is no file.")
            self._open_file = (question.volume, question.path, node.open(), facts.size_bytes)
        _, _, content, size = self._open_file
        if hole := _hole_at(content, question.offset, size):
            return Piece(zeroes=hole)
        length = max(0, min(question.length, MAX_PIECE_BYTES, size - question.offset))
        content.seek(question.offset)
        data = content.read(length)
        if len(data) != length:
            raise Unreadable(f"It ends after {question.offset + len(data)} of {size} bytes.")
        # bytes.count is as fast as memory, any() is not.
        return Piece(zeroes=length) if data.count(0) == length else Piece(data)

    def _node(self, volume: str, path: Path) -> Node:
        opened = self._volumes.get(volume)
        if opened is None:
            raise Missing(f"There is no volume {volume}.")
        if opened.file_system is None:
            raise Unreadable(f"{volume} cannot be read: {opened.volume.note or opened.volume.content}.")
        if not path:
            return opened.file_system.root
        folder = self._folder(volume, path[:-1])
        node = folder.get(path[-1])
        if node is None and opened.file_system.folds_case:
            wanted = path[-1].lower()
            node = next((each for name, each in folder.items() if name.lower() == wanted), None)
        if node is None:
            raise Missing("There is nothing of that name.")
        return node

    def _folder(self, volume: str, path: Path) -> dict[bytes, Node]:
        kept = self._folders.get((volume, path))
        if kept is not None:
            self._folders.move_to_end((volume, path))
            return kept
        node = self._node(volume, path)
        if node.facts().kind is not FileKind.FOLDER:
            raise Unreadable("It is no folder.")
        self._refuse_second_place(volume, path, node.number())
        kept = dict(node.children())
        self._folders[volume, path] = kept
        while len(self._folders) > _KEPT_FOLDERS:
            self._folders.popitem(last=False)
        return kept

    def _refuse_second_place(self, volume: str, path: Path, number: object) -> None:
        """Folders that lead into themselves, or are in many places, would be a tree without an end."""
        if number is None:
            return
        opened = self._volumes[volume].file_system
        plain = tuple(part.lower() for part in path) if opened is not None and opened.folds_case else path
        first = self._where.setdefault((volume, number), plain)
        if first != plain:
            raise Unreadable(f"It is the same folder as /{b'/'.join(first).decode(errors='backslashreplace')}.")

    def _real(self, volume: str, path: Path, *, follow: bool = False) -> Path:
        """The path without symlinks on its way; the last part is followed only if asked."""
        left = [*path]
        done: list[bytes] = []
        links = 0
        while left:
            part = left.pop(0)
            if part in (b"", b"."):
                continue
            if part == b"..":
                done = done[:-1]
                continue
            node = self._node(volume, (*done, part))
            if (left or follow) and node.facts().kind is FileKind.SYMLINK:
                links += 1
                if links > _MAX_LINKS:
                    raise Unreadable("Its symlinks lead in a circle.")
                target = node.target()
                done = [] if target.startswith(b"/") else done
                left = [*target.split(b"/"), *left]
                continue
            done.append(part)
        return tuple(done)


def _as_sent(volume: Volume) -> Volume:
    """What can be said of it: damaged file systems have sizes and labels that are none."""
    size_bytes = max(0, min(volume.size_bytes, 1 << 62))
    return replace(
        volume,
        size_bytes=size_bytes,
        used_bytes=volume.used_bytes if 0 <= volume.used_bytes <= size_bytes else -1,
        label=_text(volume.label)[:256],
        note=_text(volume.note)[:400],
    )


def _text(words: str) -> str:
    """Half of a pair of UTF-16, as a damaged name may have, cannot be sent."""
    return words.encode(errors="backslashreplace").decode()


def _hole_at(content: Any, offset: int, size: int) -> int:
    """How many bytes from here on were never written, where the file system says so: a hole of 1 TiB is one answer."""
    if not isinstance(content, dissect("util.stream").RunlistStream):
        return 0
    number = bisect_right(content._runlist_offsets, offset // content.block_size)
    if number >= len(content.runlist) or content.runlist[number][0] is not None:
        return 0
    first = content._runlist_offsets[number - 1] if number else 0
    end = (first + content.runlist[number][1]) * content.block_size
    return max(0, min(end, size) - offset)


def _is_no_name(name: bytes) -> bool:
    return name in (b"", b".", b"..") or b"/" in name or b"\0" in name or len(name) > _MAX_NAME_BYTES


def _entry(name: bytes, node: Node) -> FileEntry:
    try:
        facts = node.facts()
        target = node.target()[:4096] if facts.kind is FileKind.SYMLINK else b""
    except MemoryError:
        raise
    except Exception as error:
        return _unreadable(name, _sentence(error))
    # dissect's numbers are of classes of its own.
    mtime_ns = max(-(1 << 62), min(int(facts.mtime_ns), 1 << 62))
    size_bytes = int(facts.size_bytes) if facts.kind is FileKind.FILE else 0
    mode, uid, gid = int(facts.mode) & 0o7777, int(facts.uid), int(facts.gid)
    if not 0 <= size_bytes < 1 << 62 or b"\0" in target:
        return _unreadable(name, "Its size or target is impossible.")
    return FileEntry(name, facts.kind, mode, uid, gid, mtime_ns=mtime_ns, size_bytes=size_bytes, target=target)


def _unreadable(name: bytes, problem: str) -> FileEntry:
    return FileEntry(name, FileKind.UNREADABLE, uid=-1, gid=-1, problem=problem)


def _sentence(error: BaseException) -> str:
    if isinstance(error, Unreadable | Missing):
        return _text(str(error))[:400]
    return _text(f"Its file system is damaged there ({type(error).__name__}: {error}).")[:400]


def serve(link: socket.socket, disks: Disks) -> None:
    """Answer until the other side goes."""
    reader = Reader(link, disks)
    while True:
        question = receive_by_reader(link)
        try:
            for message in reader.answer(question):
                send(link, message)
        except Missing as reason:
            send(link, Failed(_text(str(reason)), missing=True))
        except MemoryError:
            # What is left of it may be too little for anything: a new process starts afresh.
            os._exit(3)
        except RecursionError:
            send(link, Failed("Its file system is damaged there: it leads into itself."))
        except Exception as error:
            send(link, Failed(_sentence(error)))


def _end_with(link: socket.socket) -> None:
    """End as soon as the other side does, even out of an endless loop."""
    watched = select.poll()
    watched.register(link, select.POLLRDHUP | select.POLLHUP)
    watched.poll()
    os._exit(0)


def main() -> None:
    """Confine this process, then serve."""
    link = socket.socket(fileno=int(sys.argv[1]))
    disks = msgspec.json.decode(sys.argv[2], type=Disks)
    for module in _PARSERS:
        dissect(module)
    for codec in _CODECS:
        codecs.lookup(codec)
    threading.Thread(target=_end_with, args=(link,), daemon=True).start()
    confine()
    try:
        serve(link, disks)
    except (Ended, ConnectionError):
        return


if __name__ == "__main__":
    main()
