"""One look of a collector at a repository: what its points lead to, and which packs they could do without."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from engine.errors import NewhopeError
from engine.repository.errors import RepositoryDamaged, Unsound
from engine.repository.identity import Identity
from engine.repository.index import Index
from engine.repository.keys import Keys
from engine.repository.lease import lease_ids
from engine.repository.manifest import PREFIX as POINTS
from engine.repository.manifest import read_manifest
from engine.repository.pack import PackEntry, pack_id_of, pack_key, pack_owner, read_pack_index, scan_pack
from engine.repository.pending import PendingPoint, may_commit, pending_points
from engine.repository.reachable import PackUse, Reachable
from engine.repository.reader import Reader
from engine.repository.storage import Storage

WASTEFUL = 0.5
"""Part of a pack that must be dead for its rest to be copied: then copying costs at most what it frees."""


class Look:
    """What points lead to at one time, and the packs that were there before it."""

    def __init__(
        self,
        storage: Storage,
        identity: Identity,
        index: Index,
        left_out: Collection[str] = (),
        keys: Keys | None = None,
    ) -> None:
        """`left_out` are keys of manifests that are not to count: as if these points had been dropped."""
        self._storage = storage
        self._index = index
        self._keys = keys
        # The order matters: see the first step above.
        self.packs: dict[bytes, int] = {}
        for entry in storage.list("packs/"):
            if pack_id := pack_id_of(entry.key):
                self.packs[pack_id] = entry.size_bytes
        self._writing = lease_ids(storage)
        # Points twice: `pending` says why.
        first = [entry.key for entry in storage.list(POINTS)]
        pending = pending_points(storage, keys)
        point_keys = list(dict.fromkeys([*first, *(entry.key for entry in storage.list(POINTS))]))
        index.recover()
        self._indexed = {pack for file in index.stored_files() for pack, _ in file.packs()}
        self.reader = Reader(storage, identity, index, keys)
        self.reachable = Reachable(index.files(), self.reader.block, identity.block_bytes)
        self.hopeless = [
            each for each in pending if each.point_key(keys) not in left_out and not self._add_pending(each)
        ]
        """What was announced and can never be committed: some of its blocks are gone, and so is its writer's lease."""
        self.add(key for key in point_keys if key not in left_out)

    def add(self, point_keys: Iterable[str]) -> None:
        """Mark what these manifests lead to."""
        for key in point_keys:
            try:
                self.reachable.add(read_manifest(self._storage, key, "", self._keys).manifest)
            except Unsound as reason:
                raise RepositoryDamaged(
                    f"The recovery point {key} of the repository {self._storage.location} is damaged: {reason}. "
                    "What it needs cannot be told from what nobody needs.",
                    untouched="Nothing was deleted.",
                    next_step="Bring that file back from a copy of the repository, or move it out of it if it is lost.",
                ) from reason

    def _add_pending(self, pending: PendingPoint) -> bool:
        try:
            self.reachable.add(pending.manifest)
        except RepositoryDamaged:
            if not may_commit(self._storage, pending):
                return False
            if not pending.leans_on:
                raise
            # The point was dropped before its writer could lean on it, as that is about to find out.
        return True

    def use(self) -> dict[bytes, PackUse]:
        """Of every pack that is there in its full size, how much is needed."""
        uses = self.reachable.use_of_packs()
        return {pack: use for pack, use in uses.items() if self.packs.get(pack) == use.size_bytes}

    def to_condemn(self, room_bytes: int | None) -> dict[bytes, PackUse]:
        """Dead packs, and wasteful ones as far as what must be copied of them takes a quarter of the room at most."""
        dead: dict[bytes, PackUse] = {}
        wasteful: list[tuple[bytes, PackUse]] = []
        for pack, use in self.use().items():
            if use.live_bytes > (1 - WASTEFUL) * use.record_bytes or not self.known(pack) or self._being_written(pack):
                continue
            if use.live_blocks:
                wasteful.append((pack, use))
            else:
                dead[pack] = use
        copied = 0
        for pack, use in sorted(wasteful, key=lambda item: item[1].live_bytes):
            copied += use.live_bytes
            if room_bytes is not None and copied > room_bytes // 4:
                break
            dead[pack] = use
        return dead

    def known(self, pack: bytes) -> bool:
        """Whether all that lies in a pack is known: a sound index file tells of it, or its own table is sound."""
        if pack in self._indexed:
            return True
        try:
            return bool(read_pack_index(self._storage, pack_key(pack)))
        except (Unsound, NewhopeError):
            return False

    def needed(self, pack: bytes) -> list[PackEntry]:
        """The blocks of a pack that points lead to; raises `Unsound` where they cannot be told."""
        try:
            entries: Iterable[PackEntry] = read_pack_index(self._storage, pack_key(pack))
        except Unsound:
            entries = self._by_their_headers(pack)
        return [entry for entry in entries if self.reachable.has(entry.name)]

    def _by_their_headers(self, pack: bytes) -> list[PackEntry]:
        """The records of a pack whose table is damaged, as long as none is missing of those that an index names."""
        entries = list(scan_pack(self._storage, pack_key(pack)))
        indexed = {name for file in self._index.stored_files() for name, _, _ in file.places_in(pack)}
        if any(self.reachable.has(name) for name in indexed - {entry.name for entry in entries}):
            raise Unsound("its table is damaged, and a block in it that is needed has no sound header either")
        return entries

    def _being_written(self, pack: bytes) -> bool:
        return pack_owner(self._storage, pack_key(pack)).hex() in self._writing
