"""NTFS: the unnamed stream of each file. Files whose content Windows keeps elsewhere are said to be unreadable."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

from engine.disk_files.tree import Facts, FileSystem, Node, Unreadable, dissect, text_as_bytes
from engine.file_entry import FileKind

_DOS_NAME_ONLY = 2
_SYMLINK, _MOUNT_POINT = 0xA000000C, 0xA0000003
_FIRST_OF_USERS = 24
_ENCRYPTED = 0x4000


def open_ntfs(stream: BinaryIO) -> FileSystem:
    """Open one."""
    opened = dissect("ntfs.ntfs").NTFS(stream)
    return FileSystem("ntfs", NtfsNode(opened.mft.root), opened.volume_name or "", folds_case=True)


class NtfsNode(Node):
    """A record of the master file table."""

    def __init__(self, record: Any) -> None:
        self._record = record

    def facts(self) -> Facts:
        """What the record says; Windows has no mode and no numbers of owners."""
        record = self._record
        codes = dissect("ntfs.c_ntfs").ATTRIBUTE_TYPE_CODE
        information = record.attributes[codes.STANDARD_INFORMATION]
        mtime_ns = information.last_modification_time_ns if information else 0
        if self._tag() in (_SYMLINK, _MOUNT_POINT):
            return Facts(FileKind.SYMLINK, 0, -1, -1, mtime_ns, 0)
        if record.is_dir():
            return Facts(FileKind.FOLDER, 0, -1, -1, mtime_ns, 0)
        size = record.size() if record.has_stream() else 0
        return Facts(FileKind.FILE, 0, -1, -1, mtime_ns, size)

    def number(self) -> object:
        """Its record's."""
        return self._record.segment

    def children(self) -> Iterator[tuple[bytes, Node]]:
        """Every long name; the file system's own files at the top are left out."""
        for entry in self._record.index("$I30").entries():
            name = entry.attribute
            segment = entry.header.FileReference.SegmentNumberLowPart
            if name is None or int(name.flags) == _DOS_NAME_ONLY or segment < _FIRST_OF_USERS:
                continue
            yield text_as_bytes(name.file_name), NtfsNode(entry.dereference())

    def open(self) -> BinaryIO:
        """The unnamed stream, decompressed."""
        tag = self._tag()
        if tag:
            raise Unreadable(f"Windows keeps its content elsewhere or in another form (reparse point {tag:#x}).")
        codes = dissect("ntfs.c_ntfs").ATTRIBUTE_TYPE_CODE
        for attribute in self._record.attributes.find("", codes.DATA):
            if attribute.header.header.Flags & _ENCRYPTED:
                raise Unreadable("It is encrypted by Windows (EFS).")
        return self._record.open()

    def target(self) -> bytes:
        """Where a symbolic link or mount point leads, as Windows prints it, with slashes."""
        return text_as_bytes(str(self._record.reparse_point_name).replace("\\", "/"))

    def _tag(self) -> int:
        codes = dissect("ntfs.c_ntfs").ATTRIBUTE_TYPE_CODE
        if codes.REPARSE_POINT not in self._record.attributes:
            return 0
        return int(self._record.attributes[codes.REPARSE_POINT].tag)
