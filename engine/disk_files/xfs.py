"""XFS. Room that was reserved and never written is zero, whatever lies on the disk there; dissect does not look."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from typing import Any, BinaryIO

from engine.disk_files.tree import Facts, FileSystem, Node, Unreadable, dissect, kind_of, text_as_bytes

_LOCAL, _EXTENTS, _BTREE = 1, 2, 3
_REALTIME = 0x1


def open_xfs(stream: BinaryIO) -> FileSystem:
    """Open one. Its log is not replayed: `browsing` says so of disks that were taken while their guest wrote."""
    opened = dissect("xfs.xfs").XFS(stream)
    sb = opened.sb
    if getattr(sb, "sb_dirblklog", 0):
        raise Unreadable("Its folders have blocks larger than the file system's (mkfs.xfs -n size), not supported.")
    return FileSystem(
        content="xfs",
        root=XfsNode(opened, opened.root),
        label=opened.name,
        used_bytes=max(0, sb.sb_dblocks - sb.sb_fdblocks) * opened.block_size,
    )


class XfsNode(Node):
    """An inode."""

    def __init__(self, opened: Any, inode: Any) -> None:
        self._fs = opened
        self._inode = inode

    def facts(self) -> Facts:
        """What its inode says."""
        raw = self._inode.inode
        mode, mtime_ns = raw.di_mode, self._inode.mtime_ns
        return Facts(kind_of(mode), stat.S_IMODE(mode), raw.di_uid, raw.di_gid, mtime_ns, self._inode.size)

    def number(self) -> object:
        """Its inode's."""
        return self._inode.inum

    def children(self) -> Iterator[tuple[bytes, Node]]:
        """Every name."""
        for child in self._inode.iterdir():
            if child.filename not in (".", ".."):
                yield text_as_bytes(child.filename), XfsNode(self._fs, child)

    def open(self) -> BinaryIO:
        """Its blocks; what was never written is zero."""
        inode = self._inode
        if inode.inode.di_flags & _REALTIME:
            raise Unreadable("It lies on the file system's realtime device, which is not supported.")
        if int(inode.inode.di_format) not in (_EXTENTS, _BTREE):
            return inode.open()
        runs: list[tuple[int | None, int]] = []
        done = 0
        for start, block, count, unwritten in inode._iter_blocks():
            if start < done:
                raise Unreadable("Its list of blocks is damaged.")
            if start > done:
                runs.append((None, start - done))
            group, within = block >> self._fs.sb.sb_agblklog, block & ((1 << self._fs.sb.sb_agblklog) - 1)
            runs.append((None if unwritten else group * self._fs.sb.sb_agblocks + within, count))
            done = start + count
        blocks = -(-inode.size // self._fs.block_size)
        if done < blocks:
            runs.append((None, blocks - done))
        return dissect("util.stream").RunlistStream(self._fs.fh, runs, inode.size, self._fs.block_size)

    def target(self) -> bytes:
        """In the inode, or in a block with a header."""
        if int(self._inode.inode.di_format) == _LOCAL:
            return self._inode.open().read(4096)
        if not self._fs._has_crc:
            return self.open().read(4096)
        runs = self._inode.dataruns
        header = 56
        stream = dissect("util.stream").RunlistStream(self._fs.fh, runs, header + self._inode.size, self._fs.block_size)
        return stream.read()[header:]
