"""One disk on its way into the repository: its blocks, and its map.

With a parent, the caller says of every block one of three things: it is given (`submit`, in parts if the rest of it is
as in the parent), it is zero (`zero`), or it is as in the parent (`same`). What is the same costs nothing; what is
given or zero costs its part of the map, a node a level at most for each block.
"""

from __future__ import annotations

import threading
from typing import Protocol

from engine.repository.block_record import BlockKind
from engine.repository.disk_map import ZERO_NAME, MapBuilder, blocks_of
from engine.repository.model import DiskRecord
from engine.repository.parent_map import ParentMap
from engine.repository.reader import Reader

Parts = tuple[tuple[int, int], ...]
"""Offsets in a block, and lengths."""


class Stores(Protocol):
    """What a disk needs of the writer of its point."""

    @property
    def block_bytes(self) -> int:
        """Size of a block, and of a buffer."""
        ...

    @property
    def failure(self) -> BaseException | None:
        """What failed in a worker, if anything did."""
        ...

    def take_buffer(self) -> memoryview:
        """A free buffer, or what failed meanwhile."""
        ...

    def give_back(self, buffer: memoryview) -> None:
        """A buffer is free again."""
        ...

    def hand_over(self, disk: DiskWriter, block: int, buffer: memoryview, same: Parts) -> None:
        """Let a worker call `process`, then `processed`."""
        ...

    def store_content(self, kind: BlockKind, content: memoryview, *, verify: bool = False) -> bytes:
        """Store a block that may be zero; its name. `verify` reads one that is here, and stores it again if unsound."""
        ...

    def store_node(self, content: bytes) -> bytes:
        """Store a node of a map; its name."""
        ...


class Parent:
    """A disk of another point, of which parts are taken over."""

    def __init__(self, record: DiskRecord, block_bytes: int, reader: Reader) -> None:
        self.record = record
        self.reader = reader
        self._block_bytes = block_bytes
        self.map = ParentMap(record, block_bytes, lambda name, length: reader.node(name, length, record.target))

    def copy(self, block: int, part: tuple[int, int], buffer: memoryview) -> None:
        """Put a part of a block, checked, into the same part of a buffer; what lies behind the disk's end is zero."""
        offset, length = part
        start = block * self._block_bytes + offset
        there = max(0, min(length, self.record.size_bytes - start))
        buffer[offset : offset + there] = self.reader.read_range(self.record, start, there)
        buffer[offset + there : offset + length] = bytes(length - there)


class DiskWriter:
    """One disk on its way into the repository. Blocks may come in nearly any order, each exactly once."""

    def __init__(
        self,
        writer: Stores,
        target: str,
        size_bytes: int,
        format: str,  # noqa: A002
        parent: Parent | None,
        kind: BlockKind = BlockKind.DATA,
        *,
        verify: bool = False,
    ) -> None:
        self._writer = writer
        self._kind = kind
        self._target = target
        self._size_bytes = size_bytes
        self._format = format
        self._verify = verify
        self._parent = parent
        self._map_lock = threading.Lock()
        """Guards the map and the count of bytes, and is held while a node is stored, or read from the parent's map."""
        self._blocks = blocks_of(size_bytes, writer.block_bytes)
        self._map = MapBuilder(self._blocks, writer.store_node, parent.map if parent else None)
        self._data_bytes = parent.record.data_bytes if parent else 0
        """With a parent: its bytes, less what is not taken over, plus what is new."""
        self._waiting = 0
        self._settled = threading.Condition()

    def buffer(self) -> memoryview:
        """A free buffer of one block; waits for one if all producers together hold `WriterLimits.held_buffers`."""
        return self._writer.take_buffer()

    def release(self, buffer: memoryview) -> None:
        """Give back a buffer that will not be submitted."""
        self._writer.give_back(buffer)

    def submit(self, block: int, buffer: memoryview, length: int, *, same: Parts = ()) -> None:
        """The block holds the first `length` bytes of the buffer, which belongs to the writer again from now on.

        `same` are parts of the block that are as in the parent: they are filled in from there, whatever the buffer
        holds in their places.
        """
        expected = self._length_of(block)
        outside = any(offset < 0 or size < 0 or offset + size > expected for offset, size in same)
        if length != expected or outside or (same and self._parent is None):
            self._writer.give_back(buffer)
            raise ValueError(f"block {block} of {self._target} has {expected} bytes, not {length} with {same}")
        with self._settled:
            self._waiting += 1
        self._writer.hand_over(self, block, buffer[:length], same)

    def zero(self, first_block: int, count: int) -> None:
        """These blocks are zero; costs nothing for any number of them."""
        gone = self._parent.map.data_bytes(first_block, first_block + count) if self._parent else 0
        with self._map_lock:
            self._map.put_zeroes(first_block, count)
            self._data_bytes -= gone

    def known(self, block: int, name: bytes) -> None:
        """The block is one that `Writer.has` knows by this name. For a disk without a parent."""
        with self._map_lock:
            self._map.put(block, name)
            self._data_bytes += self._length_of(block)

    def same(self, first_block: int, count: int) -> None:
        """These blocks are as in the parent; costs nothing for any number of them."""
        last = first_block + count - 1
        if self._parent is None or (count and self._parent.map.length_of(last) != self._length_of(last)):
            raise ValueError(f"blocks {first_block} to {last} of {self._target} are not in its parent, or not as long")
        with self._map_lock:
            self._map.put_same(first_block, count)

    def finish(self, read_reason: str) -> DiskRecord:
        """Wait for the disk's blocks; its record. Raises `ValueError` if a block was never given."""
        with self._settled:
            self._settled.wait_for(lambda: self._waiting == 0)
        if self._writer.failure is not None:
            raise self._writer.failure
        root, height = self._map.finish()
        if self._parent:
            # It may have been larger.
            self._data_bytes -= self._parent.map.data_bytes(self._blocks, self._parent.map.blocks)
        return DiskRecord(
            target=self._target,
            size_bytes=self._size_bytes,
            format=self._format,
            map_root=root,
            map_height=height,
            data_bytes=self._data_bytes,
            read_reason=read_reason,
        )

    def process(self, block: int, content: memoryview, same: Parts) -> None:
        """For the workers: store a block and note its name."""
        gone = 0
        if self._parent:
            for part in same:
                self._parent.copy(block, part, content)
            gone = self._parent.map.data_bytes(block, block + 1)
        name = self._writer.store_content(self._kind, content, verify=self._verify)
        with self._map_lock:
            self._map.put(block, name)
            self._data_bytes += (0 if name == ZERO_NAME else len(content)) - gone

    def processed(self) -> None:
        """For the workers: a submitted block is done, well or not."""
        with self._settled:
            self._waiting -= 1
            if self._waiting == 0:
                self._settled.notify_all()

    def _length_of(self, block: int) -> int:
        return min(self._writer.block_bytes, self._size_bytes - block * self._writer.block_bytes)
