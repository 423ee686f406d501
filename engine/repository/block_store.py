"""Where a writer's blocks become packs: named, looked up, compressed, packed, synced, indexed.

1. A block's name is looked up among the blocks of this writer and in the index; a known one is done.
2. It is compressed, and sealed where there are keys, by the calling thread, and appended to the open pack under
   `_pack_lock`.
3. A full pack is sealed and handed to a sync thread, which makes it durable while the next one fills.
4. When enough blocks lie in durable packs, a sync thread writes an index file over them: what a writer that dies, or
   is stopped, has stored is found by the next one, and the names held in memory stay few. It merges index files, too,
   or the look-ups of a long backup would ask hundreds of them.

Locks: `_names_lock` guards the set of names, `_pack_lock` the open pack; no thread holds both. Sealing waits for a
sync thread under `_pack_lock`: that is the brake on writers faster than the disk. Sync threads take `_durable_lock`,
which guards what is durable and not indexed, and under it `_names_lock`, never `_pack_lock`.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from contextlib import suppress

from engine.errors import NewhopeError
from engine.repository.block_record import SEALED, BlockKind, block_name, compress, seal
from engine.repository.index import Index
from engine.repository.keys import Keys
from engine.repository.model import WriterLimits
from engine.repository.pack import OpenPack, SealedPack
from engine.repository.storage import Bytes, NewObject, Storage

UNSYNCED_PACKS = 1

Sound = Callable[[bytes], bool]
"""Whether the block of that name can be read where it lies."""


class BlockStore:
    """Stores the blocks of one writer. Safe for any number of threads."""

    def __init__(
        self, storage: Storage, index: Index, limits: WriterLimits, owner: bytes = b"", keys: Keys | None = None
    ) -> None:
        self._storage = storage
        self._index = index
        self._limits = limits
        self._owner = owner
        self._keys = keys
        self._names_lock = threading.Lock()
        self._names: set[bytes] = set()
        self._pack_lock = threading.Lock()
        self._pack: OpenPack | None = None
        self._sealed: queue.Queue[tuple[NewObject, SealedPack] | None] = queue.Queue(UNSYNCED_PACKS)
        self._durable_lock = threading.Lock()
        self._durable: list[SealedPack] = []
        self._durable_blocks = 0
        self._closed = False
        self.failure: BaseException | None = None
        self.new_bytes = 0
        self.durable_bytes = 0
        """Of packs that are durable, tables and all."""
        self.new_blocks = 0
        self.known_blocks = 0
        self._sync_threads = [
            threading.Thread(target=self._sync_packs, name=f"sync packs {number}", daemon=True)
            for number in range(limits.streams)
        ]
        for thread in self._sync_threads:
            thread.start()

    def store(self, kind: BlockKind, content: Bytes, sound: Sound | None = None) -> bytes:
        """Store a block unless it is known; its name. The content may be reused when this returns.

        With `sound`, one that an earlier writer has stored is known only if that says so.
        """
        name = block_name(content, self._keys)
        if self._known(name, sound):
            return name
        codec, stored = compress(content)
        pieces, flags = (stored,), 0
        if self._keys is not None:
            pieces, flags = seal(kind, codec, len(content), name, stored, self._keys), SEALED
        with self._pack_lock:
            self.raise_failure()
            if self._pack is None:
                self._pack = self._new_pack()
            self.new_bytes += self._pack.append(kind, codec, len(content), name, *pieces, flags=flags)
            if self._pack.size_bytes >= self._limits.pack_bytes:
                self._seal()
        return name

    def has(self, name: bytes) -> bool:
        """Whether a block of that name needs no storing; it then counts as known. Whoever leans on it never gave it."""
        with self._names_lock:
            there = name in self._names
        if there or self._index.stored(name):
            with self._names_lock:
                self.known_blocks += 1
            return True
        return False

    def finish(self) -> None:
        """Make everything stored durable and indexed."""
        with self._pack_lock:
            self.raise_failure()
            self._seal()
        self._stop_syncing()
        self.raise_failure()
        self._index_durable()

    def abandon(self) -> None:
        """Stop. Packs that are durable are indexed if that is possible, for the next writer to use."""
        with self._pack_lock:
            if self._pack is not None:
                self._pack.target.abandon()
                self._pack = None
        self._stop_syncing()
        # We are here because something failed; that is what the operator must hear of, not this.
        with suppress(NewhopeError):
            self._index_durable()

    def fail(self, failure: BaseException) -> None:
        """Let every later call raise this; only the first failure counts."""
        if self.failure is None:
            self.failure = failure

    def raise_failure(self) -> None:
        """Raise what failed in another thread."""
        if self.failure is not None:
            raise self.failure

    def _known(self, name: bytes, sound: Sound | None = None) -> bool:
        """Whether a block needs no storing. If not, it is the caller who must store it: nobody else will."""
        indexed = name not in self._names and self._index.stored(name) and (sound is None or sound(name))
        with self._names_lock:
            if indexed or name in self._names:
                self.known_blocks += 1
                return True
            self._names.add(name)
            self.new_blocks += 1
            return False

    def _new_pack(self) -> OpenPack:
        target = self._storage.open_new()
        try:
            return OpenPack(target, self._owner)
        except BaseException:
            target.abandon()
            raise

    def _seal(self) -> None:
        if self._pack is None:
            return
        pack, self._pack = self._pack, None
        try:
            sealed = pack.seal()
        except BaseException:
            pack.target.abandon()
            raise
        self._sealed.put((pack.target, sealed))

    def _stop_syncing(self) -> None:
        if not self._closed:
            self._closed = True
            for _ in self._sync_threads:
                self._sealed.put(None)
        for thread in self._sync_threads:
            thread.join()

    def _sync_packs(self) -> None:
        while (item := self._sealed.get()) is not None:
            target, sealed = item
            try:
                # Also after a failure elsewhere: what is durable is work that the next writer is spared.
                self._sync(target, sealed)
            except BaseException as error:
                self.fail(error)
            finally:
                target.abandon()

    def _sync(self, target: NewObject, sealed: SealedPack) -> None:
        target.finish(sealed.key)
        with self._durable_lock:
            self._durable.append(sealed)
            self.durable_bytes += sealed.size_bytes
            self._durable_blocks += len(sealed.entries)
            if self._durable_blocks < self._limits.index_every_blocks:
                return
            self._index_durable()
        # The packs are durable and indexed without it.
        with suppress(NewhopeError):
            self._index.merge_if_many()

    def _index_durable(self) -> None:
        if not self._durable:
            return
        self._index.add(self._durable)
        indexed = {entry.name for pack in self._durable for entry in pack.entries}
        with self._names_lock:
            self._names -= indexed
        self._durable = []
        self._durable_blocks = 0
