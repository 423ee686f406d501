"""What every file system is made into: a tree of nodes. Only the reading process uses it."""

from __future__ import annotations

import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator
from importlib import import_module
from typing import Any, BinaryIO

from msgspec import Struct

from engine.file_entry import FileKind

_KINDS = {stat.S_IFREG: FileKind.FILE, stat.S_IFDIR: FileKind.FOLDER, stat.S_IFLNK: FileKind.SYMLINK}


class Unreadable(Exception):
    """A part of a file system that cannot be read; its text says why."""


class Facts(Struct, frozen=True):
    """What a file system says of a node."""

    kind: FileKind
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size_bytes: int


class Node(ABC):
    """A file, folder or link."""

    @abstractmethod
    def facts(self) -> Facts:
        """What it is."""

    @abstractmethod
    def number(self) -> object:
        """What only this folder has in its volume: its inode's number, say; None where nothing tells it from others."""

    @abstractmethod
    def children(self) -> Iterator[tuple[bytes, Node]]:
        """What is in a folder, without `.` and `..`."""

    @abstractmethod
    def open(self) -> BinaryIO:
        """The content of a file, from its beginning."""

    @abstractmethod
    def target(self) -> bytes:
        """Where a symlink leads."""


class FileSystem(Struct, frozen=True):
    """A file system that has been opened."""

    content: str
    root: Node
    label: str = ""
    used_bytes: int = -1
    folds_case: bool = False
    """Whether `Windows` and `windows` are one name."""
    note: str = ""


def kind_of(mode: int) -> FileKind:
    """The kind that a Unix mode says."""
    return _KINDS.get(stat.S_IFMT(mode), FileKind.SPECIAL)


def text_as_bytes(name: str) -> bytes:
    """A name as it was on the disk; what Windows allows and UTF-8 does not is kept as well as it can be."""
    try:
        return name.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return name.encode(errors="surrogatepass")


def dissect(module: str) -> Any:
    """A module of dissect, which has no types that would help."""
    return import_module(f"dissect.{module}")
