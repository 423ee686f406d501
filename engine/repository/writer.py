"""A writer: one recovery point on its way into the repository.

1. It takes a lease, clears what dead writers left, and reads which index files there are.
2. The caller fills buffers from a bounded pool and submits them; worker threads do the rest (`block_store`).
3. A disk may have a parent in a point that is leant on: what is the same there is taken over without being read.
4. `finish` of a disk waits for its blocks and gives its record; small files are stored whole.
5. `commit` makes packs durable, then the index, announces the manifest (`pending`), looks whether the lease still
   holds, and only then writes it.
6. Leaving the `with` block without a commit, or with an exception, lists nothing. Packs that were complete stay, and
   spare the next writer the work.

An error in a worker is raised by the next call of `buffer`, `submit`, `finish` or `commit`.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import Self, cast

from engine.errors import NewhopeError, NoSpace
from engine.repository.block_record import BlockKind
from engine.repository.block_store import BlockStore, Sound
from engine.repository.condemned import condemnations
from engine.repository.disk_map import ZERO_NAME, MapBuilder, blocks_of
from engine.repository.disk_writer import DiskWriter, Parent, Parts
from engine.repository.errors import LeaseLost, ObjectExists, RepositoryDamaged, Unsound
from engine.repository.identity import Identity
from engine.repository.index import Index
from engine.repository.keys import Keys
from engine.repository.lease import HeldLease, remove_dead
from engine.repository.manifest import (
    GUEST_VERSION,
    MANIFEST_VERSION,
    key_of,
    moment_now,
    read_manifest,
    write_manifest,
)
from engine.repository.model import (
    Consistency,
    DiskRecord,
    FileRecord,
    GuestFiles,
    Manifest,
    Point,
    PointKind,
    SnapshotRecord,
    VmFacts,
    WriterLimits,
    WriterStats,
)
from engine.repository.pending import PendingPoint, announce, lean_on
from engine.repository.reader import Reader
from engine.repository.storage import Storage


class BufferPool:
    """A fixed number of block buffers: the bound on a writer's memory."""

    def __init__(self, count: int, block_bytes: int) -> None:
        self.count = count
        self._free: queue.SimpleQueue[bytearray] = queue.SimpleQueue()
        for _ in range(count):
            self._free.put(bytearray(block_bytes))

    def take(self) -> memoryview:
        """A buffer of one block; waits until one is free."""
        return memoryview(self._free.get())

    def give_back(self, buffer: memoryview) -> None:
        """A buffer that `take` gave is free again."""
        self._free.put(cast("bytearray", buffer.obj))


class Writer:
    """Writes one recovery point. `disk`, `file` and `commit` belong to one thread, a `DiskWriter` to one each."""

    def __init__(
        self,
        storage: Storage,
        identity: Identity,
        index: Index,
        name: str,
        owner: str,
        limits: WriterLimits,
        keys: Keys | None = None,
    ) -> None:
        self._storage = storage
        self._keys = keys
        self._identity = identity
        self._index = index
        self._name = name
        self._owner = owner
        self._limits = limits
        self._workers = (os.cpu_count() or 1) + 1
        self._pool = BufferPool(limits.held_buffers + 2 * self._workers, identity.block_bytes)
        self._zeroes = bytearray(identity.block_bytes)
        self._work: queue.SimpleQueue[tuple[DiskWriter, int, memoryview, Parts] | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._counts_lock = threading.Lock()
        self._read_bytes = 0
        self._zero_blocks = 0
        self._leans_on: dict[str, PendingPoint] = {}
        self._over = False
        self._reader = Reader(storage, identity, index, keys)
        """Looks at blocks that are to be verified."""

    def __enter__(self) -> Self:
        self._storage.clear_leftovers()
        with suppress(NewhopeError):
            # Where nothing may be deleted, a collector does it.
            remove_dead(self._storage, self._keys)
        self._lease = HeldLease(self._storage, "writer", self._owner, self._limits.lease_s, self._keys)
        try:
            # In this order, with the lease first: `collection` relies on it.
            self._index.refresh()
            self._index.spare(self._not_to_lean_on())
        except BaseException:
            self._lease.release()
            raise
        owner = bytes.fromhex(self._lease.id)
        self._store = BlockStore(self._storage, self._index, self._limits, owner, self._keys)
        for number in range(self._workers):
            thread = threading.Thread(target=self._process, name=f"blocks {number}", daemon=True)
            thread.start()
            self._threads.append(thread)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._over:
            self._store.fail(error or RuntimeError("the writer was left without a commit"))
            self._stop_workers()
            self._store.abandon()
            self._over = True
        for pending in self._leans_on.values():
            self._withdraw(pending)
        self._lease.release()

    @property
    def block_bytes(self) -> int:
        """Size of a block, and of a buffer."""
        return self._identity.block_bytes

    @property
    def stats(self) -> WriterStats:
        """What was done so far; exact after `commit`."""
        store = self._store
        return WriterStats(self._read_bytes, store.new_bytes, self._zero_blocks, store.known_blocks, store.new_blocks)

    def lean_on(self, point: Point) -> None:
        """Let disks of this writer have a disk of that point as their parent. `NotFound` if it was dropped.

        Its blocks stay until the writer ends, also when it is dropped meanwhile. They are not looked at: whoever doubts
        that they are whole reads the disk in full.
        """
        if point.id not in self._leans_on:
            self._leans_on[point.id] = lean_on(self._storage, self._lease.lease, point, self._keys)

    def disk(
        self,
        target: str,
        size_bytes: int,
        format: str,  # noqa: A002
        *,
        parent: DiskRecord | None = None,
        verify: bool = False,
    ) -> DiskWriter:
        """Begin a disk of the recovery point; its parent is a disk of a point that the writer leans on.

        With `verify`, blocks that are here already are read and checked, and stored again where they are not sound: for
        a disk whose earlier points are doubted.
        """
        if parent is None:
            return DiskWriter(self, target, size_bytes, format, None, verify=verify)
        if not any(parent in pending.manifest.disks for pending in self._leans_on.values()):
            raise ValueError(f"the parent of {target} is of no point that this writer leans on")
        reader = Reader(self._storage, self._identity, self._index, self._keys)
        try:
            return DiskWriter(self, target, size_bytes, format, Parent(parent, self.block_bytes, reader))
        except Unsound as reason:
            raise RepositoryDamaged(
                f"Nothing can be built on the disk {parent.target} of an earlier recovery point: {reason}.",
                next_step="Back this disk up in full, and look at the repository: newhope repo verify.",
            ) from reason

    def large_file(self, role: str, size_bytes: int) -> DiskWriter:
        """Begin a file too large for memory; it is given like a disk, and `as_file` makes its record a file's."""
        return DiskWriter(self, role, size_bytes, "raw", None, BlockKind.FILE)

    def file(self, role: str, name: str, content: bytes) -> FileRecord:
        """Store a small file of the recovery point."""
        blocks = blocks_of(len(content), self.block_bytes)
        builder = MapBuilder(blocks, self.store_node)
        for block in range(blocks):
            piece = memoryview(content)[block * self.block_bytes : (block + 1) * self.block_bytes]
            builder.put(block, self.store_content(BlockKind.FILE, piece))
        root, height = builder.finish()
        return FileRecord(role, name, len(content), root, height)

    def commit(
        self,
        *,
        vm: VmFacts,
        moment: datetime,
        method: str,
        consistency: Consistency,
        consistency_note: str,
        disks: tuple[DiskRecord, ...],
        files: tuple[FileRecord, ...],
        writer: str,
        downtime_s: float = 0.0,
        checkpoint: str | None = None,
        guest_files: GuestFiles | None = None,
        notes: tuple[str, ...] = (),
        snapshots: tuple[SnapshotRecord, ...] = (),
    ) -> Point:
        """Make the recovery point exist: packs, then the index, then, under a lease that still holds, the manifest."""
        if self._over:
            raise RuntimeError("a writer commits once")
        self._stop_workers()
        self._store.finish()
        stats = self.stats
        manifest = Manifest(
            version=MANIFEST_VERSION if guest_files is None else GUEST_VERSION,
            vm=vm,
            moment=moment,
            finished=moment_now(),
            method=method,
            consistency=consistency,
            consistency_note=consistency_note,
            disks=disks,
            files=files,
            downtime_s=downtime_s,
            read_bytes=stats.read_bytes if guest_files is None else guest_files.size_bytes,
            new_bytes=stats.new_bytes,
            checkpoint=checkpoint,
            writer=writer,
            kind=PointKind.VM if guest_files is None else PointKind.GUEST,
            guest_files=guest_files,
            notes=notes,
            snapshots=snapshots,
        )
        return self._commit(manifest)

    def commit_copy(self, manifest: Manifest, look_first: Callable[[], None]) -> Point:
        """Make a copy of another repository's point exist, as `manifest` says; its maps are this repository's.

        `look_first` is called when all its blocks are durable and indexed, and may refuse by raising.
        """
        if self._over:
            raise RuntimeError("a writer commits once")
        self._stop_workers()
        self._store.finish()
        look_first()
        return self._commit(manifest)

    def _commit(self, manifest: Manifest) -> Point:
        point = self._list(manifest)
        self._over = True
        self._merge_index()
        return point

    def _list(self, manifest: Manifest) -> Point:
        """Write the manifest, announced before, under a lease that still holds."""
        pending = announce(self._storage, self._lease.lease, manifest, self._keys)
        try:
            self._lease.check()
            point = self._write(manifest)
        except LeaseLost:
            self._withdraw(pending)
            raise
        except NoSpace:
            # In a bucket an earlier try of the same request may still be on its way.
            if not self._storage.settles_s:
                self._withdraw(pending)
            raise
        # After any other failure the manifest may appear all the same: what was announced stays until we are dead.
        self._withdraw(pending)
        return point

    def _write(self, manifest: Manifest) -> Point:
        try:
            return write_manifest(self._storage, manifest, self._name, self._keys)
        except ObjectExists:
            # A manifest is named by its content: two that copy the same point at once mean the same object.
            key = key_of(manifest, self._keys)
            try:
                return read_manifest(self._storage, key, self._name, self._keys)
            except Unsound as reason:
                raise RepositoryDamaged(
                    f"The recovery point {key} is in the repository {self._name} already, and it is damaged: {reason}.",
                    untouched="It was left as it is.",
                    next_step="Move that object out of the repository and run this again.",
                ) from reason

    def _withdraw(self, pending: PendingPoint) -> None:
        # Where nothing may be deleted, a collector does it.
        with suppress(NewhopeError):
            self._storage.delete(pending.key)

    def _not_to_lean_on(self) -> set[bytes]:
        """Packs that are condemned; all that there are if that cannot be read: storing twice is better than waiting."""
        try:
            return {pack for condemnation in condemnations(self._storage, self._keys) for pack in condemnation.packs}
        except RepositoryDamaged:
            return {pack for file in self._index.files() for pack, _ in file.packs()}

    def take_buffer(self) -> memoryview:
        """For `DiskWriter`: a free buffer, or what failed meanwhile."""
        self._store.raise_failure()
        buffer = self._pool.take()
        if self._store.failure is not None:
            self._pool.give_back(buffer)
            self._store.raise_failure()
        return buffer

    def give_back(self, buffer: memoryview) -> None:
        """For `DiskWriter`: a buffer is free again."""
        self._pool.give_back(buffer)

    def hand_over(self, disk: DiskWriter, block: int, buffer: memoryview, same: Parts) -> None:
        """For `DiskWriter`: hand a block to the workers."""
        self._work.put((disk, block, buffer, same))
        self._store.raise_failure()

    def has(self, name: bytes) -> bool:
        """Whether a block of that name is here and may be leaned on, so that nobody need give its content."""
        return self._store.has(name)

    def store_content(self, kind: BlockKind, content: memoryview, *, verify: bool = False) -> bytes:
        """Store a block that may be zero; its name. `verify` reads one that is here, and stores it again if unsound."""
        zeroes = self._zeroes if len(content) == len(self._zeroes) else bytearray(len(content))
        zero = _same(zeroes, content)
        with self._counts_lock:
            self._read_bytes += len(content)
            self._zero_blocks += zero
        if zero:
            return ZERO_NAME
        return self._store.store(kind, content, self._sound(len(content)) if verify else None)

    def _sound(self, length: int) -> Sound:
        return lambda name: self._reader.block_outside((), name, length) is not None

    def store_node(self, content: bytes) -> bytes:
        """For `DiskWriter`: store a node of a map; its name."""
        return self._store.store(BlockKind.MAP, content)

    @property
    def failure(self) -> BaseException | None:
        """What failed in a worker, if anything did."""
        return self._store.failure

    def _process(self) -> None:
        while (item := self._work.get()) is not None:
            disk, block, buffer, same = item
            try:
                if self._store.failure is None:
                    disk.process(block, buffer, same)
            except BaseException as error:
                self._store.fail(error)
            finally:
                self._pool.give_back(buffer)
                disk.processed()

    def _stop_workers(self) -> None:
        for _ in self._threads:
            self._work.put(None)
        for thread in self._threads:
            thread.join()
        self._threads = []

    def _merge_index(self) -> None:
        try:
            self._index.merge()
        except NewhopeError:
            # The recovery point is complete without it, and the next writer tries again.
            return


def _same(zeroes: bytearray, content: object) -> bool:
    # A bytearray on the left compares with memcmp; a memoryview would compare item by item, fifty times slower.
    return zeroes == content
