"""Which blocks recovery points lead to, marked with a bit for each record of the index.

40 million blocks take 5 MB, and a map of as many bits for each level of the trees. A subtree that two points share is
walked once, so that the cost is that of the distinct nodes, not of points times disks.

A node's content may also be somebody's data (a repository inside a VM), or a node of another level: that a block was
marked does not say that it was walked, so each level has bits of its own for that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from engine.repository.block_record import NAME_BYTES
from engine.repository.disk_map import NAMES_A_NODE, ZERO_NAME, blocks_of, height_of
from engine.repository.errors import RepositoryDamaged
from engine.repository.index_file import IndexFile
from engine.repository.model import DiskRecord, FileRecord, Manifest

Load = Callable[[bytes, int, str], bytes]
"""Content of a block by name and length; the text says what for."""


class PackUse(Struct, frozen=True):
    """How much of a pack recovery points lead to."""

    size_bytes: int
    """Of the whole pack, as the index tells."""
    live_bytes: int
    """Of the records that are reachable."""
    live_blocks: int
    record_bytes: int
    """Of all its records; what else lies in it is about them."""


class Reachable:
    """The blocks that the manifests added so far lead to. For one thread."""

    def __init__(self, files: Sequence[IndexFile], load: Load, block_bytes: int) -> None:
        self._files = files
        self._load = load
        self._block_bytes = block_bytes
        self._starts = [sum(file.count for file in files[:number]) for number in range(len(files))]
        self._bits = sum(file.count for file in files)
        self._marked = _Bits(self._bits)
        self._walked: dict[int, _Bits] = {}

    def add(self, manifest: Manifest) -> None:
        """Mark all blocks of a recovery point. Raises `RepositoryDamaged` where a map cannot be read to its end."""
        for record in (*manifest.disks, *manifest.files):
            blocks = blocks_of(record.size_bytes, self._block_bytes)
            of = _named(record, manifest)
            if record.map_height != height_of(blocks):
                raise RepositoryDamaged(
                    f"The map of {of} has height {record.map_height} where {height_of(blocks)} belongs.",
                    next_step="Look at the repository: newhope points show, and the disk below it (dmesg, smartctl).",
                )
            if record.map_root:
                self._walk(bytes.fromhex(record.map_root), record.map_height, 0, blocks, of)

    def has(self, name: bytes) -> bool:
        """Whether a block is reachable."""
        return any(self._marked.get(position) for position in self._positions(name))

    def records(self) -> Iterator[tuple[bytes, int]]:
        """Name and length of every record that is reachable; of a block that lies in several places, of the first."""
        for file, start in zip(self._files, self._starts, strict=True):
            last = b""
            for position, (name, length) in enumerate(file.named(), start):
                if self._marked.get(position) and name != last:
                    last = name
                    yield name, length

    def use_of_packs(self) -> dict[bytes, PackUse]:
        """Every pack that the index knows, and what of it is reachable."""
        found: dict[bytes, PackUse] = {}
        for file, start in zip(self._files, self._starts, strict=True):
            packs = list(file.packs())
            live_bytes, live_blocks, all_bytes = [0] * len(packs), [0] * len(packs), [0] * len(packs)
            for position, (number, length) in enumerate(file.pack_numbers(), start):
                all_bytes[number] += length
                if self._marked.get(position):
                    live_bytes[number] += length
                    live_blocks[number] += 1
            for (pack, size), *use in zip(packs, live_bytes, live_blocks, all_bytes, strict=True):
                # Two merges at once may tell of a pack twice, each time in full.
                found.setdefault(pack, PackUse(size, *use))
        return found

    def _positions(self, name: bytes) -> Iterator[int]:
        for file, start in zip(self._files, self._starts, strict=True):
            for position in file.positions(name):
                yield start + position

    def _mark(self, name: bytes) -> list[int]:
        positions = list(self._positions(name))
        for position in positions:
            self._marked.set(position)
        return positions

    def _walk(self, name: bytes, level: int, start: int, blocks: int, of: str) -> None:
        positions = self._mark(name)
        walked = self._walked.setdefault(level, _Bits(self._bits))
        if positions and walked.get(positions[0]):
            return
        span = NAMES_A_NODE**level
        names = min(NAMES_A_NODE, -(-(blocks - start) // span))
        content = self._load(name, names * NAME_BYTES, of)
        for slot in range(names):
            child = content[slot * NAME_BYTES : (slot + 1) * NAME_BYTES]
            if child == ZERO_NAME:
                continue
            if level:
                self._walk(child, level - 1, start + slot * span, blocks, of)
            else:
                self._mark(child)
        if positions:
            walked.set(positions[0])


class _Bits:
    def __init__(self, count: int) -> None:
        self._bytes = bytearray(-(-count // 8))

    def get(self, position: int) -> int:
        return self._bytes[position >> 3] >> (position & 7) & 1

    def set(self, position: int) -> None:
        self._bytes[position >> 3] |= 1 << (position & 7)


def _named(record: DiskRecord | FileRecord, manifest: Manifest) -> str:
    what = record.target if isinstance(record, DiskRecord) else record.name
    return f"{what} of {manifest.vm.name} at {manifest.moment:%Y-%m-%dT%H:%M:%SZ}"
