"""ext2, ext3 and ext4: dissect reads the superblock, groups and inodes; folders and block lists are read here.

dissect takes a missing last block of an ext2 file for the first block of the disk, and misses the last short name of a
folder without checksums: both are wrong content without an error, which a restore must never give.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

from engine.disk_files.ext4_journal import Replayed, replay
from engine.disk_files.tree import Facts, FileSystem, Node, Unreadable, dissect, kind_of
from engine.file_entry import FileKind

_RECOVER = 0x4
_FILETYPE = 0x2
_EXTENTS = 0x80000
_ENCRYPTED = 0x800
_INLINE = 0x10000000
_EXTENT_MAGIC = 0xF30A
_UNWRITTEN = 0x8000
_MAX_DEPTH = 5

Runs = list[tuple[int | None, int]]
"""First block (None: zeroes) and number of blocks."""


def open_ext4(stream: BinaryIO) -> FileSystem:
    """Open one, with what its journal holds and its blocks do not yet."""
    ext: Any = dissect("extfs.extfs")
    note = ""
    opened = ext.ExtFS(stream)
    if opened.sb.s_feature_incompat & _RECOVER and opened.sb.s_journal_inum:
        inode = ExtNode(opened, opened.get_inode(opened.sb.s_journal_inum))
        blocks, note = replay(inode.open(), opened.block_size)
        if blocks:
            opened = ext.ExtFS(Replayed(stream, opened.block_size, blocks))
    sb = opened.sb
    free = sb.s_free_blocks_count_lo | getattr(sb, "s_free_blocks_count_hi", 0) << 32
    return FileSystem(
        content="ext" + {ext.EXT2: "2", ext.EXT3: "3"}.get(opened.type, "4"),
        root=ExtNode(opened, opened.root),
        label=opened.volume_name,
        used_bytes=max(0, opened.block_count - free) * opened.block_size,
        note=note,
    )


class ExtNode(Node):
    """An inode."""

    def __init__(self, opened: Any, inode: Any) -> None:
        self._fs = opened
        self._inode = inode

    def facts(self) -> Facts:
        """What its inode says."""
        raw = self._inode.inode
        return Facts(
            kind_of(raw.i_mode),
            stat.S_IMODE(raw.i_mode),
            raw.i_uid | raw.i_uid_high << 16,
            raw.i_gid | raw.i_gid_high << 16,
            self._inode.mtime_ns,
            self._size(),
        )

    def number(self) -> object:
        """Its inode's."""
        return self._inode.inum

    def children(self) -> Iterator[tuple[bytes, Node]]:
        """Every name, block by block; an index tree looks like unused room to this."""
        self._refuse(content=False)
        block_bytes = self._fs.block_size
        content = self._stream()
        typed = self._fs.sb.s_feature_incompat & _FILETYPE
        for _ in range(-(-self._size() // block_bytes)):
            block = content.read(block_bytes)
            at = 0
            while at + 8 <= len(block):
                inum, length, name_length, kind = struct.unpack_from("<IHBB", block, at)
                name_length |= 0 if typed else kind << 8
                length = block_bytes if block_bytes >= 1 << 16 and length in (0, 0xFFFF) else length
                if length < 8 or at + length > len(block) or name_length > length - 8:
                    raise Unreadable("A folder's list of names is damaged.")
                name = block[at + 8 : at + 8 + name_length]
                if inum and name not in (b".", b".."):
                    yield name, ExtNode(self._fs, self._fs.get_inode(inum))
                at += length

    def open(self) -> BinaryIO:
        """Its blocks; what was never written is zero."""
        self._refuse(content=True)
        return self._stream()

    def target(self) -> bytes:
        """Kept in the inode itself where it is short."""
        if self._size() < 60 and not self._inode.inode.i_blocks_lo:
            return bytes(self._inode.inode.i_block[: self._size()])
        self._refuse(content=True)
        return self._stream().read(4096)

    def _size(self) -> int:
        # The upper half had another meaning for whatever is no file, once.
        raw = self._inode.inode
        return raw.i_size_lo | (raw.i_size_high << 32 if kind_of(raw.i_mode) in (FileKind.FILE, FileKind.FOLDER) else 0)

    def _refuse(self, *, content: bool) -> None:
        flags = self._inode.inode.i_flags
        if content and flags & _ENCRYPTED:
            raise Unreadable("It is encrypted by its guest (fscrypt).")
        if flags & _INLINE:
            raise Unreadable("It is kept inside its inode (inline_data), which is not supported.")

    def _stream(self) -> BinaryIO:
        util: Any = dissect("util.stream")
        blocks = -(-self._size() // self._fs.block_size)
        raw = self._inode.inode
        table = bytes(raw.i_block)
        runs: Runs = []
        done = 0
        for start, first, count in self._extents(table) if raw.i_flags & _EXTENTS else self._pointers(table, blocks):
            if start < done:
                raise Unreadable("Its list of blocks is damaged.")
            if start > done:
                runs.append((None, start - done))
            runs.append((first, count))
            done = start + count
        if done < blocks:
            runs.append((None, blocks - done))
        return util.RunlistStream(self._fs.fh, runs, self._size(), self._fs.block_size)

    def _extents(self, node: bytes, depth: int = _MAX_DEPTH) -> Iterator[tuple[int, int | None, int]]:
        magic, entries, _, level = struct.unpack_from("<HHHH", node)
        if magic != _EXTENT_MAGIC or level > depth or 12 * (entries + 1) > len(node):
            raise Unreadable("Its list of blocks is damaged.")
        for number in range(1, entries + 1):
            if level:
                _, low, high, _ = struct.unpack_from("<IIHH", node, 12 * number)
                yield from self._extents(self._block(high << 32 | low), level - 1)
                continue
            start, length, high, low = struct.unpack_from("<IHHI", node, 12 * number)
            if length > _UNWRITTEN:
                yield start, None, length - _UNWRITTEN
            else:
                yield start, high << 32 | low, length

    def _pointers(self, table: bytes, blocks: int) -> Iterator[tuple[int, int | None, int]]:
        """The old way: twelve blocks, then blocks of pointers, then blocks of those."""
        pointers = struct.unpack("<15I", table)
        run: tuple[int, int, int] | None = None
        for number, block in self._pointed(pointers, blocks):
            if run is not None and number == run[0] + run[2] and block == run[1] + run[2]:
                run = (run[0], run[1], run[2] + 1)
                continue
            if run is not None:
                yield run
            run = (number, block, 1)
        if run is not None:
            yield run

    def _pointed(self, pointers: tuple[int, ...], blocks: int) -> Iterator[tuple[int, int]]:
        for number in range(min(12, blocks)):
            if pointers[number]:
                yield number, pointers[number]
        start, each = 12, self._fs.block_size // 4
        for level in (1, 2, 3):
            yield from self._below(pointers[11 + level], level, start, blocks)
            start += each**level

    def _below(self, block: int, level: int, start: int, blocks: int) -> Iterator[tuple[int, int]]:
        if not block or start >= blocks:
            return
        each = self._fs.block_size // 4
        for number, below in enumerate(struct.unpack(f"<{each}I", self._block(block))):
            at = start + number * each ** (level - 1)
            if at >= blocks:
                return
            if below and level == 1:
                yield at, below
            elif below:
                yield from self._below(below, level - 1, at, blocks)

    def _block(self, number: int) -> bytes:
        self._fs.fh.seek(number * self._fs.block_size)
        block = self._fs.fh.read(self._fs.block_size)
        if len(block) != self._fs.block_size:
            raise Unreadable("Its list of blocks leads out of the volume.")
        return block
