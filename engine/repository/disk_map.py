"""The map of a disk: a tree of nodes that says which block lies where, itself stored as blocks.

A node is up to 256 names of 32 bytes. Those of a leaf (level 0) name the disk's blocks in order; those of a higher node
name the nodes below. 32 zero bytes stand for what is all zero: a zero block, or a subtree of them. A node has exactly
as many names as it has children, so the last one of a level may be short. There is one node on the top level, the root.

1. `MapBuilder` takes names in nearly any order and holds only the nodes that are not full yet: a 10 TiB disk needs no
   flat map. A node that is full is stored, and its name goes one level up.
2. Every block must be given exactly once. A map with a gap, or with two opinions, is a defect and never becomes a root.
3. What is as in a parent's map is taken over node by node: a subtree without a change is one name.
4. `walk_map` goes down only where something is not zero, and only where the caller looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from engine.repository.block_record import NAME_BYTES
from engine.repository.errors import Unsound

NAMES_A_NODE = 256
ZERO_NAME = bytes(NAME_BYTES)


def blocks_of(size_bytes: int, block_bytes: int) -> int:
    """How many blocks a disk has; the last may be short."""
    return -(-size_bytes // block_bytes)


def height_of(blocks: int) -> int:
    """Level of the root of a map over that many blocks."""
    height = 0
    while blocks > NAMES_A_NODE:
        blocks = -(-blocks // NAMES_A_NODE)
        height += 1
    return height


class Parent(Protocol):
    """A map of which another one takes over parts: `parent_map`."""

    def shares(self, level: int, node: int, blocks: int) -> bool:
        """Whether a node of a map over so many blocks stands over the same ones here."""
        ...

    def child(self, level: int, index: int) -> bytes:
        """The name at this place among the names of a level."""
        ...

    def children(self, level: int, first: int, count: int) -> bytes:
        """Names that stand side by side in one node."""
        ...


class _OpenNode:
    """A node some of whose names are known; bit i of `known` stands for name i."""

    def __init__(self, names: int) -> None:
        self.content = bytearray(names * NAME_BYTES)
        self.known = 0
        self.all_known = (1 << names) - 1


class MapBuilder:
    """Builds one map. For one thread at a time."""

    def __init__(self, blocks: int, store: Callable[[bytes], bytes], parent: Parent | None = None) -> None:
        self._store = store
        self._parent = parent
        self._blocks = blocks
        self._height = height_of(blocks)
        self._names_at = [blocks]
        for _ in range(self._height):
            self._names_at.append(-(-self._names_at[-1] // NAMES_A_NODE))
        self._open: list[dict[int, _OpenNode]] = [{} for _ in range(self._height + 1)]
        self._root: bytes | None = None if blocks else ZERO_NAME

    def put(self, block: int, name: bytes) -> None:
        """The block has this name."""
        self._set(0, block, 1, name)

    def put_zeroes(self, first: int, count: int) -> None:
        """These blocks are zero."""
        if count:
            self._set(0, first, count, ZERO_NAME)

    def put_same(self, first: int, count: int) -> None:
        """These blocks are as in the parent, which must have them in the same length."""
        if self._parent is None:
            raise ValueError("a map without a parent has nothing to be the same as")
        if count:
            self._set(0, first, count, None)

    def finish(self) -> tuple[str, int]:
        """Name of the root (empty for a map of zeroes) and its level."""
        if self._root is None:
            missing = sum((node.all_known & ~node.known).bit_count() for node in self._open[0].values())
            raise ValueError(f"the map has gaps: {missing or 'some'} blocks were neither given nor called zero")
        if any(self._open):
            raise ValueError("blocks were given twice: once with all around them, and once more")
        return ("" if self._root == ZERO_NAME else self._root.hex()), self._height

    def _set(self, level: int, first: int, count: int, name: bytes | None) -> None:
        """Give these children of a level a name; None is that which each has in the parent."""
        if first < 0 or count < 1 or first + count > self._names_at[level]:
            raise ValueError(f"blocks {first} to {first + count - 1} of level {level} are outside the disk")
        end = first + count
        while first < end:
            node = first // NAMES_A_NODE
            node_end = min((node + 1) * NAMES_A_NODE, self._names_at[level])
            whole = first == node * NAMES_A_NODE and end >= node_end
            if whole and (name == ZERO_NAME or (name is None and self._shares(level, node))):
                first = self._set_whole_nodes(level, node, end, name)
            else:
                stop = min(end, node_end)
                self._set_names(level, node, first - node * NAMES_A_NODE, stop - first, name)
                first = stop

    def _shares(self, level: int, node: int) -> bool:
        return self._parent is not None and self._parent.shares(level, node, self._blocks)

    def _set_whole_nodes(self, level: int, node: int, end: int, name: bytes | None) -> int:
        """Set all nodes from `node` that end within `end`, without touching each; the first name not covered."""
        last = -(-end // NAMES_A_NODE) if end == self._names_at[level] else end // NAMES_A_NODE
        if name is None and not self._shares(level, last - 1):
            # Only the one over the end of the smaller disk can differ, and the caller asked for the first.
            last -= 1
        if any(node <= opened < last for opened in self._open[level]):
            raise ValueError(f"blocks of level {level} were given twice: once, and then with all around them")
        self._completed(level, node, last - node, name)
        return min(last * NAMES_A_NODE, self._names_at[level])

    def _set_names(self, level: int, node: int, slot: int, count: int, name: bytes | None) -> None:
        opened = self._open[level].get(node)
        if opened is None:
            names = min(NAMES_A_NODE, self._names_at[level] - node * NAMES_A_NODE)
            opened = self._open[level][node] = _OpenNode(names)
        bits = ((1 << count) - 1) << slot
        if opened.known & bits:
            raise ValueError(f"block {node * NAMES_A_NODE + slot} of level {level} was given twice")
        if name is None and self._parent is not None:
            names_there = self._parent.children(level, node * NAMES_A_NODE + slot, count)
            opened.content[slot * NAME_BYTES : (slot + count) * NAME_BYTES] = names_there
        elif name is not None and name != ZERO_NAME:
            opened.content[slot * NAME_BYTES : (slot + 1) * NAME_BYTES] = name
        opened.known |= bits
        if opened.known == opened.all_known:
            del self._open[level][node]
            content = bytes(opened.content)
            self._completed(level, node, 1, self._store(content) if any(content) else ZERO_NAME)

    def _completed(self, level: int, node: int, count: int, name: bytes | None) -> None:
        if level < self._height:
            self._set(level + 1, node, count, name)
        elif self._root is None:
            self._root = self._parent.child(level + 1, node) if name is None and self._parent else name
        else:
            raise ValueError("the whole map was given twice")


def walk_map(
    root: str, height: int, blocks: int, load: Callable[[bytes, int], bytes], first: int = 0, end: int | None = None
) -> Iterator[tuple[int, bytes]]:
    """Numbers and names of the blocks from `first` to before `end` that are not zero, in order.

    `load` gives the content of a node by its name and length.
    """
    if height != height_of(blocks):
        raise Unsound(f"a map over {blocks} blocks has height {height_of(blocks)}, not {height}")
    if root:
        yield from _walk(bytes.fromhex(root), height, 0, blocks, load, first, blocks if end is None else end)


def _walk(
    name: bytes, level: int, start: int, blocks: int, load: Callable[[bytes, int], bytes], first: int, end: int
) -> Iterator[tuple[int, bytes]]:
    span = NAMES_A_NODE**level
    names = min(NAMES_A_NODE, -(-(blocks - start) // span))
    content = load(name, names * NAME_BYTES)
    low = max((first - start) // span, 0)
    high = min(-(-(end - start) // span), names)
    for slot in range(low, high):
        child = content[slot * NAME_BYTES : (slot + 1) * NAME_BYTES]
        if child == ZERO_NAME:
            continue
        if level == 0:
            yield start + slot, child
        else:
            yield from _walk(child, level - 1, start + slot * span, blocks, load, first, end)
