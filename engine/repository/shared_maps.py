"""The maps of one disk at many moments, walked as one: what they share is looked at once.

1. Versions of one disk with the same size have trees of the same shape. The walk goes down all of them at once.
2. At each place of the tree stand as many different nodes as there are opinions; usually one. Each is read once, and
   stands for the set of versions (a bit each) that have it.
3. So looking at a hundred recovery points costs what they differ in, and a finding knows at once whom it hurts.

It holds one node a version and level in memory, whatever the disk's size.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

from engine.repository.block_record import NAME_BYTES
from engine.repository.disk_map import NAMES_A_NODE, ZERO_NAME

Load = Callable[[bytes, int], bytes | None]
"""Content of a node by its name and length; None if it cannot be read."""
Lost = Callable[[bytes], bool]
"""Whether a block cannot be read back."""
Reached = Callable[[int], None]
"""Told the number of the first block of each leaf that is looked at."""


class LostBlocks(NamedTuple):
    """Neighbouring blocks that some versions of a disk have lost for one reason."""

    first: int
    blocks: int
    versions: int
    """Bit i stands for version i."""
    name: bytes
    """Of the block, or of the node that led to the blocks."""


def versions_of(bits: int) -> Iterator[int]:
    """The numbers of the bits that are set."""
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def lost_blocks(
    roots: Sequence[str], height: int, blocks: int, load: Load, lost: Lost, reached: Reached = lambda block: None
) -> Iterator[LostBlocks]:
    """What of a disk is lost in which of its versions, in the order of the blocks.

    `roots` are the hex names of the versions' map roots, all of `height` and over `blocks`.
    """
    nodes: dict[bytes, int] = {}
    for version, root in enumerate(roots):
        if root:
            name = bytes.fromhex(root)
            nodes[name] = nodes.get(name, 0) | 1 << version
    yield from _walk(nodes, height, 0, blocks, load, lost, reached)


def _walk(
    nodes: dict[bytes, int], level: int, start: int, blocks: int, load: Load, lost: Lost, reached: Reached
) -> Iterator[LostBlocks]:
    if level == 0:
        reached(start)
    span = NAMES_A_NODE**level
    names = min(NAMES_A_NODE, -(-(blocks - start) // span))
    read: list[tuple[tuple[bytes, ...], int]] = []
    for name, versions in nodes.items():
        content = load(name, names * NAME_BYTES)
        if content is None:
            yield LostBlocks(start, min(NAMES_A_NODE * span, blocks - start), versions, name)
        else:
            read.append((_names(names).unpack(content), versions))
    for slot, children in _children(read):
        first = start + slot * span
        if level:
            yield from _walk(children, level - 1, first, blocks, load, lost, reached)
            continue
        for name, versions in children.items():
            if lost(name):
                yield LostBlocks(first, 1, versions, name)


def _children(read: list[tuple[tuple[bytes, ...], int]]) -> Iterator[tuple[int, dict[bytes, int]]]:
    """For each slot that is not zero in every node: the different names there, and who has them."""
    if len(read) == 1:
        names, versions = read[0]
        for slot, name in enumerate(names):
            if name != ZERO_NAME:
                yield slot, {name: versions}
        return
    for slot, opinions in enumerate(zip(*(names for names, _ in read), strict=True)):
        children: dict[bytes, int] = {}
        for name, (_, versions) in zip(opinions, read, strict=True):
            if name != ZERO_NAME:
                children[name] = children.get(name, 0) | versions
        if children:
            yield slot, children


@cache
def _names(count: int) -> struct.Struct:
    return struct.Struct(f"{NAME_BYTES}s" * count)
