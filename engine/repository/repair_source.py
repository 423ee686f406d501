"""Another repository, as somewhere to find what is lost in this one.

What it hands out was checked against its own names. Whoever asked checks it once more, against theirs: two
repositories may cut disks into other blocks, and name them with other keys.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from engine.errors import NewhopeError
from engine.repository.errors import Unsound
from engine.repository.frame import FrameKind, decode_frame
from engine.repository.identity import PLAIN, Identity
from engine.repository.index import Index
from engine.repository.keys import Keys
from engine.repository.model import DiskRecord, FileRecord, Point
from engine.repository.reader import Reader
from engine.repository.storage import Storage

Naming = Callable[[bytes], bytes]
"""The name of a block's content in the repository that asks."""
POINTS_ASKED = 16
"""So many recovery points of the VM are asked for a range, those of the same moment first."""


class Source:
    """A repository to heal from. For one thread."""

    def __init__(
        self, storage: Storage, identity: Identity, name: str, points: Sequence[Point], keys: Keys | None = None
    ) -> None:
        self._storage = storage
        self._identity = identity
        self._points = points
        self._name = name
        self._keys = keys
        index = Index(storage)
        index.recover()
        self._reader = Reader(storage, identity, index, keys)

    @property
    def name(self) -> str:
        """For people."""
        return self._name

    def payload(self, key: str, kind: FrameKind) -> bytes | None:
        """What is framed in an object of this key; None if it has none, or none that is sound."""
        try:
            return decode_frame(key, kind, self._storage.read(key), None if kind is FrameKind.KEY else self._keys)
        except (Unsound, NewhopeError):
            return None

    def block(self, name: bytes, length: int) -> bytes | None:
        """A block that has this name here too: where both name alike."""
        return self._reader.block_outside((), name, length)

    def names_as(self, identity: Identity) -> bool:
        """Whether a disk's blocks have the same names here as in a repository of that identity."""
        mine = self._identity
        same_keys = mine.id == identity.id or mine.encryption == identity.encryption == PLAIN
        return same_keys and mine.block_bytes == identity.block_bytes

    def ranges(self, point: Point, record: DiskRecord | FileRecord, offset: int, length: int) -> Iterator[bytes]:
        """What this repository has at a range of a disk: in the point's copy, then in the VM's other points."""
        for theirs in self._records(point, record):
            if offset + length > theirs.size_bytes:
                continue
            try:
                yield self._range(theirs, offset, length)
            except NewhopeError:
                continue

    def names_at(
        self, point: Point, record: DiskRecord | FileRecord, first: int, blocks: int, block_bytes: int, name: Naming
    ) -> Iterator[list[bytes]]:
        """The names that the other repository's blocks would have for what this one has at that part of a disk."""
        for theirs in self._records(point, record):
            if theirs.size_bytes != record.size_bytes:
                continue
            try:
                yield [
                    name(self._range(theirs, offset, min(block_bytes, record.size_bytes - offset)))
                    for offset in range(first * block_bytes, (first + blocks) * block_bytes, block_bytes)
                ]
            except NewhopeError:
                continue

    def _records(self, point: Point, record: DiskRecord | FileRecord) -> Iterator[DiskRecord | FileRecord]:
        for other in self._candidates(point):
            for theirs in (*other.manifest.disks, *other.manifest.files):
                if _same_disk(record, theirs):
                    yield theirs

    def _candidates(self, point: Point) -> list[Point]:
        mine = point.manifest
        same_vm = [other for other in self._points if other.manifest.vm.uuid == mine.vm.uuid]
        same_vm.sort(key=lambda other: abs((other.manifest.moment - mine.moment).total_seconds()))
        return same_vm[:POINTS_ASKED]

    def _range(self, record: DiskRecord | FileRecord, offset: int, length: int) -> bytes:
        if isinstance(record, FileRecord):
            return self._reader.file(record)[offset : offset + length]
        return self._reader.read_range(record, offset, length)


def _same_disk(mine: DiskRecord | FileRecord, theirs: DiskRecord | FileRecord) -> bool:
    if isinstance(mine, DiskRecord):
        return isinstance(theirs, DiskRecord) and mine.target == theirs.target
    return isinstance(theirs, FileRecord) and (mine.role, mine.name) == (theirs.role, theirs.name)
