"""The journal of ext3 and ext4, read as a kernel would before it mounts, without writing anything.

A disk taken while its guest wrote has changes of names, sizes and block lists in its journal only. From jbd2's own
description (Documentation/filesystems/ext4/journal.rst):

1. From the block and sequence number that its superblock names, transaction follows transaction: descriptor blocks,
   each followed by the blocks it lists, blocks that revoke, and a commit block. One without a commit never happened.
2. A block that a later transaction revoked is not to be used from an earlier one.
3. Of what is left, the last copy of each block counts; it is laid over the disk when that is read.
"""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

from msgspec import Struct

_MAGIC = 0xC03B3998
_DESCRIPTOR, _COMMIT, _REVOKE = 1, 2, 5
_64BIT, _CSUM_V2, _CSUM_V3, _FAST_COMMIT = 0x2, 0x8, 0x10, 0x20
_ESCAPED, _SAME_UUID, _LAST = 1, 2, 8

Overlay = dict[int, bytes]
"""What takes the place of which block."""


class _Log(Struct, frozen=True):
    """What the journal's superblock says."""

    content: BinaryIO
    block_bytes: int
    first: int
    end: int
    features: int

    def block(self, number: int) -> bytes:
        self.content.seek(number * self.block_bytes)
        return self.content.read(self.block_bytes)

    def after(self, number: int) -> int:
        return number + 1 if number + 1 < self.end else self.first


class _Transaction(Struct):
    copies: list[tuple[int, int, bool]] = []
    revoked: list[int] = []


def replay(content: BinaryIO, block_bytes: int) -> tuple[Overlay, str]:
    """The blocks that a kernel would write before it mounts, and a sentence about them."""
    head = content.read(1024)
    magic, _, _, size, maximum, first, sequence, start = struct.unpack_from(">8I", head)
    features, fast_blocks = struct.unpack_from(">I", head, 40)[0], struct.unpack_from(">I", head, 84)[0]
    if magic != _MAGIC or size != block_bytes:
        return {}, "! its journal cannot be read: the newest changes may be missing"
    end = maximum - ((fast_blocks or 256) if features & _FAST_COMMIT else 0)
    if not start:
        return {}, ""
    transactions = _committed(_Log(content, size, first, end, features), start, sequence)
    revoked: dict[int, int] = {}
    for number, transaction in enumerate(transactions):
        revoked.update(dict.fromkeys(transaction.revoked, number))
    log = _Log(content, size, first, end, features)
    overlay: Overlay = {}
    for number, transaction in enumerate(transactions):
        for block, place, escaped in transaction.copies:
            if revoked.get(block, -1) < number:
                copy = log.block(place)
                overlay[block] = _MAGIC.to_bytes(4, "big") + copy[4:] if escaped else copy
    note = f"its journal's last {len(transactions)} changes are taken into account"
    if features & _FAST_COMMIT:
        note += "; ! those of its fast commits are not"
    return overlay, note if transactions else ""


def _committed(log: _Log, start: int, sequence: int) -> list[_Transaction]:
    done: list[_Transaction] = []
    now = _Transaction([], [])
    at = start
    for _ in range(log.end):
        block = log.block(at)
        if len(block) < log.block_bytes or struct.unpack_from(">I", block)[0] != _MAGIC:
            break
        kind, number = struct.unpack_from(">II", block, 4)
        if number != sequence & 0xFFFFFFFF:
            break
        if kind == _DESCRIPTOR:
            for target, escaped in _tags(log, block):
                at = log.after(at)
                now.copies.append((target, at, escaped))
        elif kind == _REVOKE:
            now.revoked += _revoked(log, block)
        elif kind == _COMMIT:
            done.append(now)
            now = _Transaction([], [])
            sequence += 1
        else:
            break
        at = log.after(at)
    return done


def _tags(log: _Log, block: bytes) -> list[tuple[int, bool]]:
    wide = bool(log.features & _64BIT)
    v3 = bool(log.features & _CSUM_V3)
    length = 16 if v3 else 8 + 4 * wide + (2 if log.features & _CSUM_V2 else 0)
    end = len(block) - (4 if log.features & (_CSUM_V2 | _CSUM_V3) else 0)
    tags: list[tuple[int, bool]] = []
    at = 12
    while at + length <= end:
        low, second = struct.unpack_from(">II", block, at)
        flags = second if v3 else second & 0xFFFF
        high = struct.unpack_from(">I", block, at + 8)[0] if wide else 0
        tags.append((high << 32 | low, bool(flags & _ESCAPED)))
        at += length + (0 if flags & _SAME_UUID else 16)
        if flags & _LAST:
            break
    return tags


def _revoked(log: _Log, block: bytes) -> list[int]:
    used = min(struct.unpack_from(">I", block, 12)[0], len(block))
    width = 8 if log.features & _64BIT else 4
    return [int.from_bytes(block[at : at + width], "big") for at in range(16, used - width + 1, width)]


class Replayed(io.RawIOBase):
    """A volume with the blocks of its journal laid over it."""

    def __init__(self, below: BinaryIO, block_bytes: int, overlay: Overlay) -> None:
        super().__init__()
        self._below = below
        self._block_bytes = block_bytes
        self._overlay = overlay
        self._at = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As of any file."""
        if whence == io.SEEK_END:
            self._at = self._below.seek(offset, whence)
        else:
            self._at = max(0, offset + (self._at if whence == io.SEEK_CUR else 0))
        return self._at

    def tell(self) -> int:
        """As of any file."""
        return self._at

    def read(self, size: int = -1) -> bytes:
        """The blocks of the journal where there are any, those below elsewhere."""
        start = self._at
        self._below.seek(start)
        data = bytearray(self._below.read(size))
        for number in range(start // self._block_bytes, -(-(start + len(data)) // self._block_bytes)):
            block = self._overlay.get(number)
            if block is not None:
                at = number * self._block_bytes
                low, high = max(at, start), min(at + len(block), start + len(data))
                data[low - start : high - start] = block[low - at : high - at]
        self._at += len(data)
        return bytes(data)
