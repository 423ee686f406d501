"""The map of a disk's parent, of which a new map takes over what did not change.

Nodes of two maps that stand over the same blocks can be shared whole, whatever lies below them. A node is read only
where something in it changed, so an incremental point costs what changed, however large the disk is. The disk may have
grown or shrunk since: what both have in common still has the same shape.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from engine.repository.block_record import NAME_BYTES
from engine.repository.disk_map import NAMES_A_NODE, ZERO_NAME, blocks_of, height_of, walk_map
from engine.repository.errors import Unsound
from engine.repository.model import DiskRecord

Load = Callable[[bytes, int], bytes]
"""Content of a node by its name and length, checked against its name."""


class ParentMap:
    """One map, looked at from the root down. Safe for any number of threads if `load` is."""

    def __init__(self, record: DiskRecord, block_bytes: int, load: Load) -> None:
        self.record = record
        self._block_bytes = block_bytes
        self._load = load
        self.blocks = blocks_of(record.size_bytes, block_bytes)
        self._height = height_of(self.blocks)
        if record.map_height != self._height:
            raise Unsound(f"a map over {self.blocks} blocks has height {self._height}, not {record.map_height}")
        self._names_at = [self.blocks]
        for _ in range(self._height):
            self._names_at.append(-(-self._names_at[-1] // NAMES_A_NODE))

    def shares(self, level: int, node: int, blocks: int) -> bool:
        """Whether a node of a map over so many blocks stands over the same ones here."""
        span = NAMES_A_NODE ** (level + 1)
        return level <= self._height and min(blocks, (node + 1) * span) == min(self.blocks, (node + 1) * span)

    def child(self, level: int, index: int) -> bytes:
        """The name that has this place among the names of a level: a block's for level 0, else a node's below."""
        if level > self._height:
            return bytes.fromhex(self.record.map_root) if self.record.map_root else ZERO_NAME
        return self.children(level, index, 1)

    def children(self, level: int, first: int, count: int) -> bytes:
        """Names that stand side by side in one node."""
        if level > self._height:
            return self.child(level, first)
        node, slot = divmod(first, NAMES_A_NODE)
        name = self.child(level + 1, node)
        if name == ZERO_NAME:
            return bytes(count * NAME_BYTES)
        names = min(NAMES_A_NODE, self._names_at[level] - node * NAMES_A_NODE)
        content = self._load(name, names * NAME_BYTES)
        return content[slot * NAME_BYTES : (slot + count) * NAME_BYTES]

    def data_bytes(self, first: int, end: int) -> int:
        """Bytes of the blocks from one to before another that are not zero; costs the nodes that lead to them."""
        end = min(end, self.blocks)
        return sum(self.length_of(block) for block, _ in self._names(first, end)) if first < end else 0

    def some_data_block(self, chance: random.Random) -> int | None:
        """A block that is not zero, found by a walk from the root that turns at random; None if all are zero.

        It costs a node a level. Blocks with few neighbours are found more often than others.
        """
        if not self.record.map_root:
            return None
        place = 0
        for level in range(self._height, -1, -1):
            place = chance.choice(self._not_zero(level, place))
        return place

    def last_data_block(self, end: int) -> int | None:
        """The last block before `end` that is not zero; None if all are. It costs two nodes a level at most."""
        return self._last_before(self._height, 0, end) if self.record.map_root else None

    def _last_before(self, level: int, node: int, end: int) -> int | None:
        span = NAMES_A_NODE**level
        for place in reversed(self._not_zero(level, node)):
            if place * span >= end:
                continue
            found = place if level == 0 else self._last_before(level - 1, place, end)
            if found is not None:
                return found
        return None

    def _not_zero(self, level: int, node: int) -> list[int]:
        """Places, on their level, of the children of a node that are not zero."""
        first = node * NAMES_A_NODE
        names = self.children(level, first, min(NAMES_A_NODE, self._names_at[level] - first))
        return [
            first + number
            for number in range(len(names) // NAME_BYTES)
            if names[number * NAME_BYTES : (number + 1) * NAME_BYTES] != ZERO_NAME
        ]

    def length_of(self, block: int) -> int:
        """Bytes of a block; the last may be short, and none lies behind it."""
        return max(0, min(self._block_bytes, self.record.size_bytes - block * self._block_bytes))

    def _names(self, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        return walk_map(self.record.map_root, self._height, self.blocks, self._load, first, end)
