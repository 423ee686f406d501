"""Btrfs on one device: the default subvolume is the root, other subvolumes are folders in it."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import Any, BinaryIO

from engine.disk_files.tree import Facts, FileSystem, Node, Unreadable, dissect, kind_of, text_as_bytes

_NO_SUBVOLUME = 2
"""BTRFS_EMPTY_SUBVOL_DIR_OBJECTID."""


def open_btrfs(stream: BinaryIO) -> FileSystem:
    """Open one."""
    opened = dissect("btrfs.btrfs").Btrfs(stream)
    devices = opened.sb.num_devices
    if devices > 1:
        raise Unreadable(f"It extends over {devices} devices, which is not supported.")
    # The top level, not the default subvolume: there everything can be found.
    return FileSystem("btrfs", BtrfsNode(opened.fs_tree.root), opened.label, used_bytes=opened.sb.bytes_used)


class BtrfsNode(Node):
    """An inode of a subvolume."""

    def __init__(self, inode: Any) -> None:
        self._inode = inode

    def facts(self) -> Facts:
        """What its inode says."""
        inode = self._inode
        return Facts(kind_of(inode.mode), stat.S_IMODE(inode.mode), inode.uid, inode.gid, inode.mtime_ns, inode.size)

    def number(self) -> object:
        """Its inode's, which each subvolume has anew. All that stand for a subvolume that is not there have one."""
        inode = self._inode
        return None if inode.inum == _NO_SUBVOLUME else (inode.subvolume.objectid, inode.inum)

    def children(self) -> Iterator[tuple[bytes, Node]]:
        """Every name."""
        for name, child in self._inode.iterdir():
            if name not in (".", ".."):
                yield text_as_bytes(name), BtrfsNode(child)

    def open(self) -> BinaryIO:
        """Its extents, decompressed."""
        return self._inode.open()

    def target(self) -> bytes:
        """Kept like the content of a file."""
        return self._inode.open().read(4096)
