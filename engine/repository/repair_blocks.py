"""Blocks that are lost, found elsewhere: in damaged packs of this repository, or in other repositories.

A verification says which ranges of which disks are lost. Their maps are walked there, node by node:

1. A node or block that can be read here is not lost after all.
2. One that lies sound in a damaged pack will be stored again from there.
3. Other repositories are asked for it by name, which answers where both name blocks alike.
4. Otherwise they are asked for what the disk has at that place: in their copy of the point, then in other points of the
   VM, for what did not change between the two. A lost node of a map is computed from the blocks below it.
5. Whatever comes is hashed here; only what has the very name that is missing is taken.

What then is still missing is lost, and named range by range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from engine.repository.block_evidence import NO_PACK
from engine.repository.block_record import NAME_BYTES, BlockKind
from engine.repository.damage import append_range, point_name, shown
from engine.repository.disk_map import NAMES_A_NODE, ZERO_NAME, blocks_of, height_of
from engine.repository.model import DataRun, DiskRecord, FileRecord, Point
from engine.repository.pack import pack_key
from engine.repository.repair_ground import Ground
from engine.repository.repair_source import Source
from engine.repository.verify_model import DiskLoss

LARGEST_SUBTREE_BLOCKS = 1 << 22
"""A lost node over more blocks than this is not computed anew: its names are held in memory."""
Store = Callable[[BlockKind, bytes], object]


class _Place(Struct, frozen=True):
    """A part of a disk: what a node or a block stands for."""

    point: Point
    record: DiskRecord | FileRecord
    level: int
    """Of the node; -1 for a block of data."""
    first: int
    """Number of its first block."""
    blocks: int


class LostBlocks:
    """Looks for the blocks of lost ranges. Use it once; with a `store` it stores what it finds."""

    def __init__(
        self,
        ground: Ground,
        rescued: Mapping[bytes, bytes | None],
        sources: Sequence[Source],
        store: Store | None = None,
    ) -> None:
        """`rescued`: names of what damaged packs hold and nobody needs to be asked for; of nodes the content too."""
        self._ground = ground
        self._block_bytes = ground.identity.block_bytes
        self._rescued = rescued
        self._sources = sources
        self._store = store
        self._nodes: dict[bytes, bytes] = {}
        """Nodes that came from elsewhere."""
        self._here: dict[bytes, bool] = {}
        self.blocks = 0
        """Found in other repositories."""
        self.size_bytes = 0

    def remaining(self, losses: Iterable[DiskLoss], points: Iterable[Point]) -> tuple[DiskLoss, ...]:
        """What of these losses stays lost once all that was found is stored."""
        by_name = {point_name(point): point for point in points}
        remaining: list[DiskLoss] = []
        for loss in losses:
            point = by_name.get(loss.point)
            records = [] if point is None else [*point.manifest.disks, *point.manifest.files]
            record = next((record for record in records if shown(record) == loss.name), None)
            lost = [loss] if point is None or record is None else self._remaining(loss, point, record)
            remaining += lost
        return tuple(remaining)

    def _remaining(self, loss: DiskLoss, point: Point, record: DiskRecord | FileRecord) -> list[DiskLoss]:
        blocks = blocks_of(record.size_bytes, self._block_bytes)
        if record.map_height != height_of(blocks) or not record.map_root:
            return [loss]
        top = _Place(point, record, record.map_height, 0, blocks)
        ranges: list[DataRun] = []
        objects: set[str] = set()
        for run in loss.ranges:
            first = run.offset // self._block_bytes
            end = blocks_of(run.offset + run.length, self._block_bytes)
            for place, name in self._lost(bytes.fromhex(record.map_root), top, first, end):
                start, stop = max(place.first, first), min(place.first + place.blocks, end)
                append_range(ranges, start * self._block_bytes, min(stop * self._block_bytes, record.size_bytes))
                objects.update(self._culprits(name))
        if not ranges:
            return []
        return [DiskLoss(loss.point, loss.name, loss.size_bytes, tuple(ranges), tuple(sorted(objects)))]

    def _lost(self, name: bytes, place: _Place, first: int, end: int) -> Iterator[tuple[_Place, bytes]]:
        """Nodes and blocks that nobody has, of those that lie between two blocks."""
        content = self._node(name, place)
        if content is None:
            yield place, name
            return
        span = NAMES_A_NODE**place.level
        for slot in range(max((first - place.first) // span, 0), len(content) // NAME_BYTES):
            start = place.first + slot * span
            child = content[slot * NAME_BYTES : (slot + 1) * NAME_BYTES]
            if start >= end:
                return
            if child == ZERO_NAME:
                continue
            below = _Place(place.point, place.record, place.level - 1, start, min(span, place.blocks - slot * span))
            if place.level:
                yield from self._lost(child, below, first, end)
            elif not self._block_is_here(child, below):
                yield below, child

    def _node(self, name: bytes, place: _Place) -> bytes | None:
        length = -(-place.blocks // NAMES_A_NODE**place.level) * NAME_BYTES
        found = self._ground.any_block(name)
        content = (found.content if found else None) or self._rescued.get(name) or self._nodes.get(name)
        if content is None:
            content = self._fetched(BlockKind.MAP, name, length, place)
            if content is not None:
                self._nodes[name] = content
        return content if content is not None and len(content) == length else None

    def _block_is_here(self, name: bytes, place: _Place) -> bool:
        known = self._here.get(name)
        if known is None:
            length = min(self._block_bytes, place.record.size_bytes - place.first * self._block_bytes)
            kind = BlockKind.DATA if isinstance(place.record, DiskRecord) else BlockKind.FILE
            known = name in self._rescued or self._ground.any_block(name) is not None
            known = known or self._fetched(kind, name, length, place) is not None
            self._here[name] = known
        return known

    def _fetched(self, kind: BlockKind, name: bytes, length: int, place: _Place) -> bytes | None:
        for source in self._sources:
            content = source.block(name, length)
            if content is None and not source.names_as(self._ground.identity):
                content = (
                    self._node_at(source, name, place) if place.level >= 0 else self._block_at(source, name, place)
                )
            if content is not None and self._ground.name_of(content) == name:
                self.blocks += 1
                self.size_bytes += len(content)
                if self._store is not None:
                    self._store(kind, content)
                return content
        return None

    def _block_at(self, source: Source, name: bytes, place: _Place) -> bytes | None:
        offset = place.first * self._block_bytes
        length = min(self._block_bytes, place.record.size_bytes - offset)
        contents = source.ranges(place.point, place.record, offset, length)
        return next((content for content in contents if self._ground.name_of(content) == name), None)

    def _node_at(self, source: Source, name: bytes, place: _Place) -> bytes | None:
        """A node, computed from what the other repository has at its place. Nodes below it are kept on the way."""
        if place.blocks > LARGEST_SUBTREE_BLOCKS:
            return None
        for names in source.names_at(
            place.point, place.record, place.first, place.blocks, self._block_bytes, self._name_of
        ):
            nodes = _subtree(names, place.level, self._name_of)
            if name in nodes:
                self._nodes |= {below: content for below, content in nodes.items() if below != name}
                self._store_nodes(nodes, name)
                return nodes[name]
        return None

    def _store_nodes(self, nodes: dict[bytes, bytes], top: bytes) -> None:
        for name, content in nodes.items():
            if name != top and self._ground.any_block(name) is None and self._store is not None:
                self._store(BlockKind.MAP, content)

    def _name_of(self, content: bytes) -> bytes:
        return self._ground.name_of(content) if any(content) else ZERO_NAME

    def _culprits(self, name: bytes) -> tuple[str, ...]:
        return tuple(dict.fromkeys(pack_key(place.pack) for place in self._ground.places(name))) or NO_PACK


def _subtree(names: list[bytes], level: int, name_of: Callable[[bytes], bytes]) -> dict[bytes, bytes]:
    """The nodes over these blocks up to a level, by name."""
    nodes: dict[bytes, bytes] = {}
    for _ in range(level + 1):
        above: list[bytes] = []
        for at in range(0, len(names), NAMES_A_NODE):
            content = b"".join(names[at : at + NAMES_A_NODE])
            above.append(name_of(content))
            nodes[above[-1]] = content
        names = above
    return nodes
