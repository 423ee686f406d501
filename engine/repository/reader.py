"""A reader: what a recovery point holds, every byte checked against its name before it is handed out.

1. The map is walked to learn which blocks are wanted, a window of them at a time.
2. The window's blocks are sorted by pack and place, and each is read and decoded once, however often the disk has it.
3. A block that is not where the index says is looked for in the packs' own indexes; if no sound copy is found, reading
   stops with `RepositoryDamaged`. Damaged data is never handed out.
"""

from __future__ import annotations

import random
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from types import TracebackType
from typing import Self, TypeVar

from engine.repository.block_record import Bytes, block_name, decode_record
from engine.repository.disk_map import blocks_of, height_of, walk_map
from engine.repository.errors import ObjectMissing, RepositoryDamaged, Unsound
from engine.repository.identity import Identity
from engine.repository.index import Index
from engine.repository.index_file import Location
from engine.repository.keys import Keys
from engine.repository.model import DataRun, DiskRecord, FileRecord
from engine.repository.pack import pack_key
from engine.repository.parent_map import ParentMap
from engine.repository.shared_maps import lost_blocks
from engine.repository.storage import Storage

Lost = Callable[[DataRun], None]
"""Told a range of a disk that cannot be read, from any thread. Ranges come in no order, and lost blocks one by one."""
WINDOW_BLOCKS = 1024
CACHED_BYTES = 16 << 20
CACHED_NODES = 512
WORKERS = 3
GROUP_BLOCKS = 8
"""What a thread that copies takes at a time: handing over single blocks would cost as much as copying them."""

_Wanted = tuple[bytes, int, list[int]]
"""Name and length of a block, and the numbers it has on the disk."""
Task = TypeVar("Task")
Result = TypeVar("Result")


def _as_it_is() -> None:
    return


def _unhindered(_count: int) -> AbstractContextManager[None]:
    return nullcontext()


def _in_threads(work: Callable[[Task], Result], tasks: Iterator[Task], workers: int) -> Iterator[Result]:
    """What `work` makes of the tasks, in their order, a bounded number of them ahead of who takes it."""
    with ThreadPoolExecutor(workers, thread_name_prefix="read blocks") as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for task in tasks:
                waiting.append(pool.submit(work, task))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class _Cache:
    """The contents that were used last. Safe for any number of threads."""

    def __init__(self, entries: int) -> None:
        self._entries = entries
        self._lock = threading.Lock()
        self._contents: OrderedDict[bytes, bytes] = OrderedDict()

    def get(self, name: bytes) -> bytes | None:
        with self._lock:
            if name in self._contents:
                self._contents.move_to_end(name)
            return self._contents.get(name)

    def put(self, name: bytes, content: bytes) -> None:
        with self._lock:
            self._contents[name] = content
            while len(self._contents) > self._entries:
                self._contents.popitem(last=False)


class Reader:
    """Reads recovery points. Safe for any number of threads."""

    def __init__(self, storage: Storage, identity: Identity, index: Index, keys: Keys | None = None) -> None:
        self._storage = storage
        self._keys = keys
        self._block_bytes = identity.block_bytes
        self._index = index
        self._recover_lock = threading.Lock()
        self._recovered = False
        self._blocks = _Cache(max(CACHED_BYTES // identity.block_bytes, 2))
        self._nodes = _Cache(CACHED_NODES)

    def __enter__(self) -> Self:
        self._index.refresh()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._blocks = _Cache(2)
        self._nodes = _Cache(2)

    def disk_runs(self, record: DiskRecord, offset: int = 0, length: int | None = None) -> Iterator[DataRun]:
        """The ranges of a disk, or of a part of it, that hold data, in order; what lies between them is zero."""
        stop = record.size_bytes if length is None else min(offset + length, record.size_bytes)
        begin = end = offset
        for block, _ in self._names(record, offset // self._block_bytes, blocks_of(stop, self._block_bytes)):
            start = max(block * self._block_bytes, offset)
            if start != end:
                if end > begin:
                    yield DataRun(begin, end - begin)
                begin = start
            end = min((block + 1) * self._block_bytes, stop)
        if end > begin:
            yield DataRun(begin, end - begin)

    def read_disk(
        self, record: DiskRecord, *, workers: int = WORKERS, lost: Lost | None = None
    ) -> Iterator[tuple[int, bytes]]:
        """Offsets and contents of all blocks that are not zero, in the order in which they are best read.

        Stops with `RepositoryDamaged` at one that cannot be read; with `lost`, tells it the range and goes on.
        """

        def read(wanted: _Wanted) -> tuple[bytes, list[int]]:
            name, length, blocks = wanted
            content = self._block_or_lost(name, length, record, blocks, lost)
            return content or b"", blocks if content is not None else []

        for content, blocks in _in_threads(read, self._in_order_of_packs(record, lost), workers):
            for block in blocks:
                yield block * self._block_bytes, content

    def copy_disk(
        self,
        record: DiskRecord,
        write: Callable[[int, bytes], None],
        *,
        workers: int = WORKERS,
        lost: Lost | None = None,
        skip: Callable[[int], bool] | None = None,
        turn: Callable[[int], AbstractContextManager[None]] = _unhindered,
    ) -> Iterator[int]:
        """Hand offsets and contents of all blocks that are not zero to `write`, in threads of its own, several at once.

        Gives numbers of bytes that have been written; what `write` raises, it raises. Faster than `read_disk`, because
        what has been read in a thread is written in the same one, and threads seldom wait for each other. What is lost
        is told as there. `skip` says of a block's number that it need not be handed over. `turn` gives what a thread is
        in while it reads and writes that many bytes; it may wait, and raise.
        """

        def copy(group: Sequence[_Wanted]) -> int:
            written_bytes = 0
            with turn(sum(length * len(blocks) for _, length, blocks in group)):
                for name, length, blocks in group:
                    content = self._block_or_lost(name, length, record, blocks, lost)
                    if content is None:
                        continue
                    for block in blocks:
                        write(block * self._block_bytes, content)
                    written_bytes += length * len(blocks)
            return written_bytes

        wanted = self._in_order_of_packs(record, lost, skip)
        groups = iter(lambda: list(islice(wanted, GROUP_BLOCKS)), [])
        yield from _in_threads(copy, groups, workers)

    def read_range(self, record: DiskRecord, offset: int, length: int) -> bytes:
        """Any range of a disk. Blocks used last are kept decoded."""
        if offset < 0 or length < 0 or offset + length > record.size_bytes:
            raise ValueError(f"{record.target} has {record.size_bytes} bytes; asked for {length} at {offset}")
        first = offset // self._block_bytes
        end = blocks_of(offset + length, self._block_bytes)
        if end - first == 1:
            return self._piece(record, first, offset - first * self._block_bytes, length)
        result = bytearray(length)
        for block, name in self._names(record, first, end):
            start = block * self._block_bytes
            content = self._cached_block(name, self._length(record.size_bytes, block), record.target)
            low, high = max(offset, start), min(offset + length, start + len(content))
            result[low - offset : high - offset] = memoryview(content)[low - start : high - start]
        return bytes(result)

    def file(self, record: FileRecord) -> bytes:
        """A small file."""
        content = bytearray(record.size_bytes)
        for block, name in self._names(record):
            length = self._length(record.size_bytes, block)
            start = block * self._block_bytes
            content[start : start + length] = self._block(name, length, record.name)
        return bytes(content)

    def some_data_blocks(self, record: DiskRecord, count: int) -> set[int]:
        """Numbers of blocks that are not zero, chosen anew each time, `count` at most; costs a few nodes for each."""
        parent = ParentMap(record, self._block_bytes, lambda name, length: self.node(name, length, record.target))
        chance = random.SystemRandom()
        return {block for _ in range(count) if (block := parent.some_data_block(chance)) is not None}

    def last_data_block(self, record: DiskRecord, end: int) -> int | None:
        """Number of the last block before `end` that is not zero; None if all are. Costs a few nodes."""
        parent = ParentMap(record, self._block_bytes, lambda name, length: self.node(name, length, record.target))
        return parent.last_data_block(end)

    def names(self, record: DiskRecord | FileRecord) -> Iterator[tuple[int, bytes]]:
        """Numbers and names of all blocks that are not zero, in order."""
        return self._names(record)

    def recognises(self, content: Bytes, name: bytes) -> bool:
        """Whether content, wherever it was found, is that of the block of this name."""
        return block_name(content, self._keys) == name

    @property
    def block_bytes(self) -> int:
        """The size of all blocks but the last of a disk."""
        return self._block_bytes

    def place(self, name: bytes) -> tuple[bytes, int]:
        """Where a block lies: what is read in the order of its places is read fastest."""
        return self._place((name, 0))

    def block(self, name: bytes, length: int, of: str) -> bytes:
        """The content of one block, from whichever of its places is sound."""
        return self._block(name, length, of)

    def recent_block(self, name: bytes, length: int, of: str) -> bytes:
        """The content of one block, kept for a while for whoever wants it again."""
        return self._cached_block(name, length, of)

    def block_outside(self, packs: Collection[bytes], name: bytes, length: int) -> bytes | None:
        """The content of one block, from a sound place in a pack that is none of these; None if there is none."""
        return self._try([place for place in self._index.find(name) if place.pack not in packs], name, length, [])

    def node(self, name: bytes, length: int, of: str) -> bytes:
        """A node of a map; those used last are kept."""
        content = self._nodes.get(name)
        if content is None or len(content) != length:
            content = self._block(name, length, of)
            self._nodes.put(name, content)
        return content

    def _piece(self, record: DiskRecord, block: int, start: int, length: int) -> bytes:
        for _, name in self._names(record, block, block + 1):
            content = self._cached_block(name, self._length(record.size_bytes, block), record.target)
            return content[start : start + length]
        return bytes(length)

    def _names(
        self, record: DiskRecord | FileRecord, first: int = 0, end: int | None = None, *, lost_as_zero: bool = False
    ) -> Iterator[tuple[int, bytes]]:
        of = record.target if isinstance(record, DiskRecord) else record.name

        def load(name: bytes, length: int) -> bytes:
            try:
                return self.node(name, length, of)
            except RepositoryDamaged:
                if lost_as_zero:
                    return bytes(length)
                raise

        blocks = blocks_of(record.size_bytes, self._block_bytes)
        try:
            yield from walk_map(record.map_root, record.map_height, blocks, load, first, end)
        except Unsound as reason:
            raise self._damaged(f"The map of {of} is wrong: {reason}.") from reason

    def _in_order_of_packs(
        self, record: DiskRecord, lost: Lost | None, skip: Callable[[int], bool] | None = None
    ) -> Iterator[_Wanted]:
        """All blocks that are not zero, window by window."""
        names = self._names(record) if lost is None else self._names_left(record, lost)
        if skip is not None:
            names = ((block, name) for block, name in names if not skip(block))
        while True:
            window: dict[tuple[bytes, int], list[int]] = {}
            for block, name in names:
                window.setdefault((name, self._length(record.size_bytes, block)), []).append(block)
                if len(window) == WINDOW_BLOCKS:
                    break
            if not window:
                return
            for name, length in sorted(window, key=self._place):
                yield name, length, window[name, length]

    def _place(self, block: tuple[bytes, int]) -> tuple[bytes, int]:
        found = self._index.find(block[0])
        return (found[0].pack, found[0].offset) if found else (b"", 0)

    def _block_or_lost(
        self, name: bytes, length: int, record: DiskRecord, blocks: list[int], lost: Lost | None
    ) -> bytes | None:
        try:
            return self._block(name, length, record.target)
        except RepositoryDamaged:
            if lost is None:
                raise
        for block in blocks:
            lost(DataRun(block * self._block_bytes, self._length(record.size_bytes, block)))
        return None

    def _names_left(self, record: DiskRecord, lost: Lost) -> Iterator[tuple[int, bytes]]:
        """Numbers and names of the blocks that the readable nodes of a map lead to; what others led to is lost."""
        blocks = blocks_of(record.size_bytes, self._block_bytes)
        if record.map_height != height_of(blocks):
            lost(DataRun(0, record.size_bytes))
            return

        def load(name: bytes, length: int) -> bytes | None:
            try:
                return self._block(name, length, record.target)
            except RepositoryDamaged:
                return None

        for part in lost_blocks([record.map_root], record.map_height, blocks, load, lambda name: False):
            start = part.first * self._block_bytes
            end = min(start + part.blocks * self._block_bytes, record.size_bytes)
            lost(DataRun(start, end - start))
        # A lost node reads as one whose blocks are all zero.
        yield from self._names(record, lost_as_zero=True)

    def _length(self, size_bytes: int, block: int) -> int:
        return min(self._block_bytes, size_bytes - block * self._block_bytes)

    def _cached_block(self, name: bytes, length: int, of: str) -> bytes:
        content = self._blocks.get(name)
        if content is None or len(content) != length:
            content = self._block(name, length, of)
            self._blocks.put(name, content)
        return content

    def _block(self, name: bytes, length: int, of: str) -> bytes:
        """A block's content, from whichever of its places is sound."""
        reasons: list[str] = []
        for look_further in (_as_it_is, self._index.refresh, self._recover_once):
            look_further()
            content = self._try(self._index.find(name), name, length, reasons)
            if content is not None:
                return content
        why = "; ".join(dict.fromkeys(reasons)) or "no pack holds it"
        raise self._damaged(f"Block {name.hex()} of {of} cannot be read: {why}.")

    def _try(self, places: list[Location], name: bytes, length: int, reasons: list[str]) -> bytes | None:
        for place in places:
            key = pack_key(place.pack)
            try:
                return decode_record(self._storage.read(key, place.offset, place.length), name, length, self._keys)
            except Unsound as reason:
                reasons.append(f"in {key} at {place.offset}, {reason}")
            except ObjectMissing:
                reasons.append(f"{key} is missing")
        return None

    def _recover_once(self) -> None:
        with self._recover_lock:
            if not self._recovered:
                self._index.recover()
                self._recovered = True

    def _damaged(self, what: str) -> RepositoryDamaged:
        return RepositoryDamaged(
            f"{what} The repository {self._storage.location} is damaged there.",
            untouched="Nothing damaged was handed out; other recovery points may be whole.",
            next_step="Heal what can be healed: newhope repo repair. Or restore from another repository or recovery "
            "point (newhope points), or what is left of this one: newhope restore ... --salvage.",
        )
