"""A repository: the place, what it holds, and the two ways in (a writer) and out (a reader)."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from engine.errors import Conflict, NewhopeError, NotFound
from engine.repository.bandwidth import Limiter
from engine.repository.collection import Collector
from engine.repository.directory_storage import DirectoryStorage
from engine.repository.errors import ObjectExists, ObjectMissing, RepositoryDamaged, RepositoryMissing, Unsound
from engine.repository.forecast import Forecast, forecast
from engine.repository.frame import FrameKind, decode_frame, encode_frame
from engine.repository.guards import FoundGuard, Guard, add_guard, guarded, guards, pin, protect, unpin
from engine.repository.held_point import held
from engine.repository.identity import IDENTITY_KEY, Identity, encode_identity, new_identity
from engine.repository.index import Index
from engine.repository.key_slots import KeySlot, is_slot_key
from engine.repository.keys import Keys
from engine.repository.lease import COLLECTOR, WRITER, leases, remove_dead
from engine.repository.lease_holders import LeaseHolder, end_lease, lease_holders
from engine.repository.limited_storage import LimitedStorage
from engine.repository.manifest import PREFIX as POINTS
from engine.repository.manifest import read_manifest
from engine.repository.master_key import MasterKey, Passphrase, Unlock
from engine.repository.model import DamagedObject, Point, RepositoryInfo, WriterLimits
from engine.repository.orphaned_packs import adopt_orphans
from engine.repository.places import empty_s3, is_s3, refuse_overwriting, s3_at
from engine.repository.presence import Presence, look_for_blocks
from engine.repository.reachable import Reachable
from engine.repository.reader import Reader
from engine.repository.recovery_sheet import sheet
from engine.repository.repair import Repairer
from engine.repository.repair_identity import identity_damage
from engine.repository.repair_source import Source
from engine.repository.reserve import keep_reserve
from engine.repository.storage import Storage
from engine.repository.sync import USUAL_SYNC_LIMITS, Sync
from engine.repository.sync_model import SyncLimits, SyncRequest
from engine.repository.unlocking import add_key, key_slots, new_keys, read_identity, remove_key
from engine.repository.verify import USUAL_VERIFY_LIMITS, Verifier
from engine.repository.verify_history import last_closed, read_history
from engine.repository.verify_model import VerifyLimits, VerifyRequest
from engine.repository.verify_state import VerificationState, VerifiedLast, verification_state, verified_last
from engine.repository.writer import Writer

BLOCK_BYTES = 256 * 1024
"""Measured against 64 KiB and 1 MiB: SIZES.md."""
USUAL_LIMITS = WriterLimits()
FIRST_KEY = "first"
RECORD_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class Repository:
    """An open repository. Safe for any number of threads."""

    def __init__(self, storage: Storage, identity: Identity, name: str, keys: Keys | None = None) -> None:
        self.name = name
        self._storage = storage
        self._identity = identity
        self._keys = keys
        self._index = Index(storage)
        self._lock = threading.Lock()
        self._points: dict[str, Point | DamagedObject] = {}
        self._damaged_leases: tuple[DamagedObject, ...] = ()

    @classmethod
    def create(
        cls,
        path: Path | str,
        *,
        name: str = "",
        block_bytes: int = BLOCK_BYTES,
        passphrase: Passphrase | None = None,
        key_name: str = FIRST_KEY,
    ) -> Repository:
        """Make a repository of an empty folder, of one that does not exist yet, or of an empty `s3://` address.

        It is encrypted if there is a passphrase.
        """
        if is_s3(path):
            bucket = empty_s3(str(path))
            return cls.create_in(bucket, name=name, block_bytes=block_bytes, passphrase=passphrase, key_name=key_name)
        folder = Path(path)
        storage = DirectoryStorage(folder)
        with storage.explained("create"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # A folder at the top of a file system has `lost+found` from the start.
            found = sorted(entry.name for entry in folder.iterdir() if entry.name != "lost+found")
            if "keys" in found and all(is_slot_key(entry.key) for entry in storage.list("keys/")):
                # Left of a creation that was killed before there was a repository.
                found.remove("keys")
        if IDENTITY_KEY in found:
            raise _is_there_already(folder)
        if [entry for entry in found if not entry.startswith(".")]:
            raise Conflict(
                f"The folder {folder} is not empty: it holds {', '.join(found[:3])}.",
                next_step="Give the repository a folder of its own.",
            )
        return cls.create_in(storage, name=name, block_bytes=block_bytes, passphrase=passphrase, key_name=key_name)

    @classmethod
    def create_in(
        cls,
        storage: Storage,
        *,
        name: str = "",
        block_bytes: int = BLOCK_BYTES,
        passphrase: Passphrase | None = None,
        key_name: str = FIRST_KEY,
    ) -> Repository:
        """Make a repository in an empty storage; refuses one that lets a second create win."""
        identity, keys = new_identity(secrets.token_hex(16), block_bytes), None
        if passphrase is not None:
            identity, keys = new_keys(storage, identity, key_name, passphrase)
        try:
            storage.create(IDENTITY_KEY, encode_identity(identity))
        except ObjectExists as error:
            raise _is_there_already(storage.location) from error
        refuse_overwriting(storage, IDENTITY_KEY)
        keep_reserve(storage)
        return cls(storage, identity, name or storage.location, keys)

    @classmethod
    def open(
        cls, path: Path | str, *, name: str = "", unlock: Unlock | None = None, expect_encrypted: bool = False
    ) -> Repository:
        """Open the repository in a folder, or at an `s3://` address.

        `unlock` is asked for a passphrase, or the master key, if it is encrypted; `RepositoryLocked` where that opens
        nothing. With `expect_encrypted`, a repository that claims to be plain is refused.
        """
        if is_s3(path):
            return cls.open_in(s3_at(str(path)), name=name, unlock=unlock, expect_encrypted=expect_encrypted)
        folder = Path(path)
        storage = DirectoryStorage(folder)
        with storage.explained("open"):
            if not folder.is_dir():
                raise RepositoryMissing(
                    f"There is no repository at {folder}: "
                    + ("it is not a folder." if folder.exists() else "the folder does not exist."),
                    next_step="Is its file system mounted? Otherwise make one: newhope repo init.",
                )
        return cls.open_in(storage, name=name, unlock=unlock, expect_encrypted=expect_encrypted)

    @classmethod
    def open_in(
        cls, storage: Storage, *, name: str = "", unlock: Unlock | None = None, expect_encrypted: bool = False
    ) -> Repository:
        """Open the repository in a storage."""
        shown = name or storage.location
        try:
            identity, keys = read_identity(storage, shown, unlock, expect_encrypted)
        except ObjectMissing as error:
            missing = identity_damage(storage)
            if missing is not None:
                raise RepositoryDamaged(
                    f"{missing} {storage.location} holds a repository nevertheless.",
                    next_step=f"Put it back: newhope repo repair {storage.location}.",
                ) from error
            raise RepositoryMissing(
                f"{storage.location} is not a repository: it has no file {IDENTITY_KEY}.",
                next_step="Check the path (is its file system mounted?), or make a repository: newhope repo init.",
            ) from error
        return cls(storage, identity, shown, keys)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the index files that are open."""
        self._index = Index(self._storage)

    @property
    def id(self) -> str:
        """32 hex digits that no other repository has."""
        return self._identity.id

    @property
    def location(self) -> str:
        """Where it is."""
        return self._storage.location

    @property
    def block_bytes(self) -> int:
        """Size of a block."""
        return self._identity.block_bytes

    @property
    def encrypted(self) -> bool:
        """Whether everything in it is sealed."""
        return self._keys is not None

    def master_key(self) -> MasterKey | None:
        """What opens it in another process of ours; None for one that is not encrypted."""
        return self._keys.master if self._keys is not None else None

    def keys(self) -> tuple[KeySlot, ...]:
        """The passphrases that open it, oldest first, by name."""
        return key_slots(self._storage, self._identity)

    def add_key(self, name: str, passphrase: Passphrase) -> KeySlot:
        """Let one passphrase more open it."""
        return add_key(self._storage, self._identity, self._sealing(), name, passphrase)

    def remove_key(self, name_or_id: str) -> None:
        """Take a passphrase away; raises `Conflict` for the last one."""
        remove_key(self._storage, self._identity, self._sealing(), name_or_id)

    def recovery_sheet(self) -> str:
        """The master key on paper, for the safe: as secret as everything in the repository."""
        master, identity = self._sealing().master, self._identity
        return sheet(master.value, identity.id, self.name, self._storage.location, identity.created)

    @property
    def damaged(self) -> tuple[DamagedObject, ...]:
        """What was passed over because it failed its checks, as far as `points`, `info` or a reader came across it."""
        with self._lock:
            points = tuple(point for point in self._points.values() if isinstance(point, DamagedObject))
        return (*points, *self._index.damaged, *self._damaged_leases)

    def info(self) -> RepositoryInfo:
        """The repository as a whole. What lies in packs is told by the index: packs without one do not count."""
        points = self.points()
        self._index.refresh()
        packs, stored_bytes, blocks = self._index.totals()
        found, self._damaged_leases = leases(self._storage, self._keys)
        now = datetime.now(UTC)
        return RepositoryInfo(
            name=self.name,
            path=self._storage.location,
            id=self._identity.id,
            format_version=self._identity.format_version,
            block_bytes=self._identity.block_bytes,
            created=self._identity.created,
            points=len(points),
            vms=len({point.manifest.vm.uuid for point in points}),
            packs=packs,
            stored_bytes=stored_bytes,
            blocks=blocks,
            free_bytes=self._storage.free_bytes(),
            writers=sum(lease.kind == WRITER and lease.held(now) for lease in found),
            encrypted=self.encrypted,
            collectors=sum(lease.kind == COLLECTOR and lease.held(now) for lease in found),
        )

    def lease_holders(self) -> tuple[LeaseHolder, ...]:
        """Who writes and collects, or did and is gone without having given its lease back."""
        return lease_holders(self._storage, self._keys)

    def end_lease(self, lease_id: str) -> None:
        """Take a lease from its holder, which then stops before its next commit or delete. `NotFound` if it is gone."""
        end_lease(self._storage, lease_id)

    def verification_state(self) -> VerificationState:
        """How long ago what was verified, as far as records tell."""
        history = read_history(self._storage, datetime.now(UTC), USUAL_VERIFY_LIMITS.resume_days, self._keys)
        return verification_state(self._storage, history)

    def verified_last(self) -> VerifiedLast | None:
        """The newest verification that came to its end; None if there never was one."""
        return verified_last(last_closed(self._storage, self._keys))

    def points(self, vm_uuid: str | None = None) -> tuple[Point, ...]:
        """Recovery points of one VM or of all, newest first. Damaged ones are passed over and listed in `damaged`."""
        prefix = POINTS if vm_uuid is None else f"{POINTS}{vm_uuid}/"
        keys = [entry.key for entry in self._storage.list(prefix)]
        with self._lock:
            gone = {key for key in self._points if key.startswith(prefix)} - set(keys)
            for key in gone:
                del self._points[key]
            known = dict(self._points)
        for key in keys:
            if key not in known:
                known[key] = self._read_point(key)
        with self._lock:
            self._points.update(known)
        found = [point for key in keys if isinstance(point := known[key], Point)]
        return tuple(sorted(found, key=lambda point: (point.manifest.moment, point.id), reverse=True))

    def point(self, vm_uuid: str, point_id: str) -> Point:
        """The recovery point of that VM and id."""
        points = self.points(vm_uuid)
        for point in points:
            if point.id == point_id:
                return point
        raise NotFound(
            f"The repository {self.name} has no recovery point {point_id} of the VM {vm_uuid}.",
            next_step=f"It has {len(points)} of that VM: newhope points.",
        )

    def writer(self, owner: str, *, limits: WriterLimits = USUAL_LIMITS) -> Writer:
        """A writer for one recovery point. `owner` is shown to those who ask who is writing."""
        return Writer(self._storage, self._identity, self._index, self.name, owner, limits, self._keys)

    def reader(self) -> Reader:
        """A reader for any number of recovery points."""
        return Reader(self._storage, self._identity, self._index, self._keys)

    def hold(self, point: Point, owner: str) -> AbstractContextManager[str]:
        """Keep a point's blocks while it is read, whoever drops it meanwhile; gives why they are not kept, or ""."""
        return held(self._storage, point, owner, USUAL_LIMITS.lease_s, self._keys)

    def sync_to(
        self,
        target: Repository,
        request: SyncRequest,
        owner: str,
        *,
        limits: SyncLimits = USUAL_SYNC_LIMITS,
    ) -> Sync:
        """A sync of this repository's points to another one: ask it for its plan, or run that."""
        return Sync(self, target, request, owner, limits)

    def limited(self, limiter: Limiter) -> Repository:
        """The same repository, whose packs are read and written no faster than a limiter lets them."""
        return Repository(LimitedStorage(self._storage, limiter), self._identity, self.name, self._keys)

    def names_like(self, other: Repository) -> bool:
        """Whether equal contents have equal names in both: their blocks are of one size and named with one key."""
        # What an encrypted repository names its blocks with is made of its own id, even under another's master key.
        return self.block_bytes == other.block_bytes and not self.encrypted and not other.encrypted

    def take_over(self) -> int:
        """Clear what killed writers left, and index the packs that they did not live to index; how many packs."""
        with suppress(NewhopeError):
            # Where nothing may be deleted, a collector does it.
            self._storage.clear_leftovers()
            remove_dead(self._storage, self._keys)
        return adopt_orphans(self._storage, self._index)

    def marked(self) -> Reachable:
        """Nothing marked yet: to find out which blocks, of those that there are now, some points need."""
        self._index.refresh()
        return Reachable(self._index.files(), self.reader().block, self.block_bytes)

    def holds(self, name: bytes) -> bool:
        """Whether a block of that name is here."""
        return self._index.stored(name)

    def look_for_blocks(self, point: Point, *, limit_s: float) -> Presence:
        """Whether every block of a point is where the index says; nothing but its maps is read."""
        with self.reader() as reader:
            return look_for_blocks(reader, self._index, point.manifest, limit_s=limit_s)

    def verifier(self, request: VerifyRequest, *, limits: VerifyLimits = USUAL_VERIFY_LIMITS) -> Verifier:
        """A verification of the whole repository: ask it for its plan, or run it."""
        return Verifier(self._storage, self._identity, self.name, request, limits, keys=self._keys)

    def collector(self, owner: str, *, limits: WriterLimits = USUAL_LIMITS) -> Collector:
        """What drops points and deletes what no point needs; one at a time, beside any number of writers."""
        return Collector(self._storage, self._identity, owner, limits, self._keys)

    def source(self) -> Source:
        """This repository, as one to heal another from."""
        return Source(self._storage, self._identity, self.name, self.points(), self._keys)

    def repairer(self, owner: str, sources: Sequence[Source] = (), *, limits: WriterLimits = USUAL_LIMITS) -> Repairer:
        """What plans repairs, and carries them out; one at a time, and not beside a collector."""
        return Repairer(self._storage, self._identity, self.name, owner, sources, limits, keys=self._keys)

    def forecast(self, dropped: Iterable[Point]) -> Forecast:
        """What dropping these points, and collecting, would free."""
        return forecast(self._storage, self._identity, dropped, self._keys)

    def guarded(self) -> dict[str, tuple[str, ...]]:
        """Ids of the points that must stay now, and why: pins and protections."""
        return guarded(guards(self._storage, keys=self._keys), datetime.now(UTC))

    def guards(self, vm_uuid: str) -> list[FoundGuard]:
        """All pins and protections of a VM's points, also those that have ended."""
        return guards(self._storage, vm_uuid, self._keys)

    def add_guard(self, point: Point, guard: Guard) -> Guard:
        """Guard a point as the one is guarded that it is a copy of."""
        return add_guard(self._storage, point, guard, self._keys)

    def point_ids(self) -> frozenset[str]:
        """Ids of all points, also of those whose manifests are damaged."""
        return frozenset(entry.key.rpartition("-")[2] for entry in self._storage.list(POINTS))

    def pin(self, point: Point, *, why: str, by: str) -> Guard:
        """Keep a point until somebody takes the pin away."""
        return pin(self._storage, point, why, by, self._keys)

    def unpin(self, point: Point) -> int:
        """Take all pins of a point away; how many there were. Protections stay."""
        return unpin(self._storage, point, self._keys)

    def protect(self, point: Point, *, until: datetime, why: str, by: str) -> Guard:
        """Keep a point until a time, whatever anybody asks for."""
        return protect(self._storage, point, until, why, by, self._keys)

    def put_record(self, kind: str, name: str, content: bytes) -> None:
        """Keep a record (a proof, a report). A name is used once; `Conflict` if it is taken."""
        key = _record_key(kind, name)
        try:
            self._storage.create(key, encode_frame(key, FrameKind.RECORD, content, self._keys))
        except ObjectExists as error:
            raise Conflict(
                f"The repository {self.name} has a record {kind}/{name} already.",
                untouched="It was left as it is.",
                next_step="Choose another name; records are never overwritten.",
            ) from error

    def records(self, kind: str) -> tuple[str, ...]:
        """Names of the records of a kind, in order."""
        prefix = _record_key(kind, "x")[:-1]
        return tuple(entry.key[len(prefix) :] for entry in self._storage.list(prefix))

    def record(self, kind: str, name: str) -> bytes:
        """A record's content."""
        key = _record_key(kind, name)
        try:
            return decode_frame(key, FrameKind.RECORD, self._storage.read(key), self._keys)
        except ObjectMissing as error:
            raise NotFound(
                f"The repository {self.name} has no record {kind}/{name}.",
                next_step=f"It has: {', '.join(self.records(kind)[:5]) or 'none of that kind'}.",
            ) from error
        except Unsound as reason:
            raise RepositoryDamaged(
                f"The record {key} of the repository {self.name} is damaged: {reason}.",
                next_step="Bring the file back from a copy of the repository; recovery points do not need it.",
            ) from reason

    def _sealing(self) -> Keys:
        if self._keys is None:
            raise Conflict(
                f"The repository {self.name} is not encrypted: it has no keys.",
                next_step="Make an encrypted one (newhope repo init) and copy the points to it: newhope repo sync.",
            )
        return self._keys

    def _read_point(self, key: str) -> Point | DamagedObject:
        try:
            return read_manifest(self._storage, key, self.name, self._keys)
        except (Unsound, ObjectMissing) as reason:
            return DamagedObject(key, str(reason))


def _record_key(kind: str, name: str) -> str:
    for part in (kind, name):
        if not RECORD_NAME.fullmatch(part):
            raise ValueError(f"{part!r} is no name for a record: letters, digits, dots, dashes and underscores")
    return f"records/{kind}/{name}"


def _is_there_already(location: Path | str) -> Conflict:
    return Conflict(
        f"There is a repository in {location} already.",
        untouched="It was left as it is.",
        next_step="Use it as it is (newhope repo info), or choose another folder.",
    )
