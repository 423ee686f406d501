"""FAT12, FAT16 and FAT32: EFI system partitions, old data disks.

dissect takes a cluster that is followed by the one before it for two in a row, which is wrong content without an error,
and follows a chain that leads in a circle for ever: chains of clusters are followed here.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from functools import partial
from typing import Any, BinaryIO

from engine.disk_files.tree import Facts, FileSystem, Node, Unreadable, dissect, text_as_bytes
from engine.file_entry import FileKind

_LOWER_BASE, _LOWER_EXTENSION = 0x08, 0x10
_FIRST_CLUSTER = 2
_LAST_OF_FAT12, _END_OF_FAT12 = 0xFFF, 0xFF0
_DIRECTORY, _READ_ONLY, _VOLUME_NAME = 0x10, 0x01, 0x08


def open_fat(stream: BinaryIO) -> FileSystem:
    """Open one."""
    opened = dissect("fat.fat").FATFS(stream)
    opened.fat.runlist = partial(_runs, opened.fat)
    label = "" if opened.volume_label == "NO NAME" else opened.volume_label
    return FileSystem("fat", FatNode(opened, opened.root), label, folds_case=True)


class FatNode(Node):
    """An entry of a folder."""

    def __init__(self, opened: Any, entry: Any) -> None:
        self._fs = opened
        self._entry = entry

    def facts(self) -> Facts:
        """What the entry says."""
        if self._entry is self._fs.root:
            return Facts(FileKind.FOLDER, 0o755, -1, -1, 0, 0)
        raw = self._entry.dirent
        mode = 0o555 if raw.DIR_Attr & _READ_ONLY else 0o755
        folder = bool(raw.DIR_Attr & _DIRECTORY)
        kind, size = (FileKind.FOLDER, 0) if folder else (FileKind.FILE, raw.DIR_FileSize)
        return Facts(kind, mode if folder else mode & 0o666, -1, -1, self._mtime_ns(), size)

    def number(self) -> object:
        """Its first cluster's; 0 is the root."""
        if self._entry is self._fs.root:
            return 0
        raw = self._entry.dirent
        return raw.DIR_FstClusHI << 16 | raw.DIR_FstClusLO

    def children(self) -> Iterator[tuple[bytes, Node]]:
        """Every name, long where there is a long one."""
        for entry in self._entry.iterdir():
            if entry.name not in (".", "..") and not entry.dirent.DIR_Attr & _VOLUME_NAME:
                yield text_as_bytes(_as_written(entry)), FatNode(self._fs, entry)

    def open(self) -> BinaryIO:
        """Its clusters."""
        clusters = sum(count for _, count in self._entry.dataruns())
        if clusters * self._fs.cluster_size < self._entry.size:
            raise Unreadable("Its chain of clusters is shorter than the file.")
        return self._entry.open()

    def target(self) -> bytes:
        """FAT has no links."""
        return b""

    def _mtime_ns(self) -> int:
        try:
            return calendar.timegm(self._entry.mtime.timetuple()) * 10**9
        except ValueError:
            return 0


def _runs(table: Any, cluster: int) -> Iterator[tuple[int, int]]:
    """The clusters of a chain, as first of a row and how many; the first two numbers stand for no cluster."""
    start, length = cluster, 0
    seen: set[int] = set()
    last = (1 << min(table.bits_per_entry, 28)) - 1
    while cluster < last - 8 and not (last == _LAST_OF_FAT12 and cluster == _END_OF_FAT12):
        if cluster < _FIRST_CLUSTER:
            raise Unreadable("Its chain of clusters ends in one that is free.")
        if cluster in seen:
            raise Unreadable("Its chain of clusters leads in a circle.")
        seen.add(cluster)
        if cluster != start + length:
            yield start - _FIRST_CLUSTER, length
            start, length = cluster, 0
        length += 1
        cluster = table.get(cluster)
    if cluster == last - 8:
        raise Unreadable("Its chain of clusters has one that the disk could not read.")
    yield start - _FIRST_CLUSTER, length


def _as_written(entry: Any) -> str:
    """A short name in the case that Windows NT notes beside it, as Linux and Windows show it."""
    if entry.ldirents:
        return entry.name
    base, dot, extension = entry.name.partition(".")
    flags = entry.dirent.DIR_NTRes
    return (
        (base.lower() if flags & _LOWER_BASE else base)
        + dot
        + (extension.lower() if flags & _LOWER_EXTENSION else extension)
    )
