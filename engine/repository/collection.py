"""Collection: packs that no recovery point needs are deleted, beside running backups, and killed at any instant.

 1. *First look.* Packs are listed, then leases, then manifests, then what is about to be committed or leant on
    (`pending`), then manifests again; all that these lead to is marked (`reachable`). A pack of which nothing is marked
    is *dead*; one of which at least half is not marked is *wasteful*. Packs of a writer that holds a lease are left
    alone (their salt names the lease).
 2. *Condemn.* The dead and the wasteful are named in `condemned/<id>`; then the leases that are there are written down
    in `witnesses/<id>`. From now on nobody leans on these packs, ever: a condemnation is never taken back.
 3. *Wait for the witnesses.* In this run if there are none, otherwise in a later one: until every one of these leases
    is gone. Backups are not stopped, and new ones are not waited for.
 4. *Second look.* All is listed and marked anew. Dead packs are deleted first, which needs no room. Then what is still
    marked in a condemned pack is copied to a new pack, and read back from there; then its pack is deleted.
 5. The index forgets the packs, and the condemnation is removed.

Why no block that a point needs is lost. The claim: *when a pack is deleted, every block in it that any listed point,
or any that will be listed, leads to can be read from another pack that is not condemned.* A writer W takes its lease
before it reads the condemnations, and reads those before it leans on anything. A collector condemns before it lists
leases.

 - W's lease was not in that list: then it came after the condemnation, W read it, and does not lean on the pack.
 - It was in the list, so W is a witness, and W released its lease: its manifest was there before, or never will be. The
   second look, which began after, saw it, and what W needs was copied.
 - W is a witness that sleeps or hangs, and its lease was taken away (it had run out, and was not renewed since it was
   first seen). If W had not yet looked at its lease for the last time, it will find it gone and not commit. If it had,
   it had announced its manifest before, and the second look saw that.
 - What W takes over from another point without looking at it: `pending` says why the second look saw that point, or
   what W said of it.
 - A block that W found in a pack that was condemned only later, by another collector, is this argument once more.

Nothing here compares two machines' clocks. That a lease ran out is told by the clock of the storage alone, from when
its last renewal and our own were created; if that clock jumps, and its holder did not renew since an earlier run, a
lease is taken away too early, which ends a backup with an error, and never hurts a point. A protection ends when both
our clock and that of the storage say so.

A collector that sleeps between its last look at its own lease and a delete does no harm: the pack is still condemned or
gone, and what was needed of it was copied before. Its lease, looked at right before each delete, saves two collectors
from doing the same work, and ends one that was taken for dead.

Memory: a few bits for each record of the index, and a few numbers for each pack.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from msgspec import Struct

from engine.errors import Conflict, NoSpace
from engine.repository.block_record import BlockKind
from engine.repository.block_store import BlockStore
from engine.repository.condemned import Condemnation, absolve, condemn, condemnations, witnesses
from engine.repository.errors import ObjectMissing, RepositoryDamaged, Unsound
from engine.repository.guards import guarded, guards
from engine.repository.healing import expect_nothing_healing
from engine.repository.identity import Identity
from engine.repository.index import Index
from engine.repository.keys import Keys
from engine.repository.lease import COLLECTOR, HeldLease, Lease, break_lease, lease_ids, leases, remove_dead
from engine.repository.lease import PREFIX as LEASES
from engine.repository.look import Look
from engine.repository.manifest import PREFIX as POINTS
from engine.repository.manifest import point_key, read_manifest
from engine.repository.model import DamagedObject, Point, WriterLimits
from engine.repository.pack import pack_id_of, pack_key
from engine.repository.pending import clear_pending
from engine.repository.reachable import PackUse
from engine.repository.reserve import keep_reserve, use_reserve
from engine.repository.storage import Storage

COPIED_AT_ONCE_BYTES = 256 << 20
"""What is copied before the packs it came from are deleted: the room that copying needs."""

CONDEMNED_AT_ONCE = 512
"""Packs in one condemnation: 16 KiB."""


class Collected(Struct, frozen=True):
    """What a collection did, and what it left for the next one."""

    deleted_packs: int
    freed_bytes: int
    """Of deleted packs, less what was copied out of them."""
    copied_bytes: int
    waiting_packs: int
    """Condemned, and not deleted yet."""
    waiting_for: tuple[str, ...]
    """Who must end first, for people."""
    kept: tuple[DamagedObject, ...]
    """Packs that were left because something in them could not be read."""
    out_of_space: bool
    """There was no room to copy what is still needed in some packs."""


class CollectionProgress(Struct, frozen=True):
    """How far a collection is."""

    doing: str
    """For people: `deleting packs`."""
    deleted_packs: int
    deleted_bytes: int
    copied_bytes: int


class Collector:
    """Drops recovery points and collects. One at a time in a repository, beside any number of writers and readers."""

    def __init__(
        self, storage: Storage, identity: Identity, owner: str, limits: WriterLimits, keys: Keys | None = None
    ) -> None:
        self._storage = storage
        self._keys = keys
        self._identity = identity
        self._owner = owner
        self._limits = limits
        self._index = Index(storage)
        self._ours: set[str] = set()
        """Condemnations of this run: leases that they wait for have not been watched for long."""
        self._deleted = self._deleted_bytes = self._copied_bytes = 0
        self._kept: dict[bytes, DamagedObject] = {}
        self._out_of_space = False
        self._tell: Callable[[CollectionProgress], None] = lambda progress: None

    def __enter__(self) -> Self:
        # Nothing has this name. Where nothing may be deleted, this says so before a lease is left there.
        self._storage.delete(f"{LEASES}{secrets.token_hex(8)}")
        self._storage.clear_leftovers()
        remove_dead(self._storage, self._keys)
        try:
            self._lease = self._hold_lease()
        except NoSpace:
            if not use_reserve(self._storage):
                raise
            self._lease = self._hold_lease()
        try:
            try:
                self._began = self._storage.created_at(self._lease.lease.anchor)
            except ObjectMissing:
                # Another collector took this one for dead before it had begun.
                self._lease.check()
                raise
            self._pass_other_collectors()
        except BaseException:
            self._lease.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lease.release()

    @property
    def lease(self) -> HeldLease:
        """What a repair holds too: it takes objects away, as a collector does."""
        return self._lease

    def _hold_lease(self) -> HeldLease:
        return HeldLease(self._storage, COLLECTOR, self._owner, self._limits.lease_s, self._keys)

    def drop(self, points: Iterable[Point], tell: Callable[[int], None] = lambda dropped: None) -> int:
        """Drop recovery points, oldest first; how many. Raises `Conflict` at one that is guarded or a VM's newest.

        `tell` hears before each one how many are dropped; an exception that it raises stops cleanly.
        """
        dropped = 0
        expect_nothing_healing(self._storage)
        clear_pending(self._storage, self._now_there(), self._keys)
        for point in sorted(points, key=lambda point: point.manifest.moment):
            vm, key = point.manifest.vm, point_key(point)
            found = [guard for guard in guards(self._storage, vm.uuid, self._keys) if guard.point_id == point.id]
            reasons = guarded(found, self._earliest_now()).get(point.id, ())
            if not self._has_newer(point):
                reasons = (*reasons, "the newest usable point of this VM")
            if reasons:
                raise Conflict(
                    f"The recovery point {vm.name}@{point.id} is not dropped: {'; '.join(reasons)}.",
                    untouched=f"It is whole. {dropped} points were dropped before it.",
                    next_step="Leave it out. A pin can be taken away; a protection ends at its time and not before.",
                )
            tell(dropped)
            self._lease.check()
            self._storage.delete(key)
            dropped += 1
            for guard in found:
                self._storage.delete(guard.key)
        return dropped

    def collect(self, tell: Callable[[CollectionProgress], None] = lambda progress: None) -> Collected:
        """Delete what no point needs, as far as it may be deleted now. What is left is for the next run.

        `tell` hears before everything that takes its time how far it is; an exception that it raises stops cleanly,
        and the next run goes on from there.
        """
        self._tell = tell
        try:
            return self._collect()
        except (ObjectMissing, RepositoryDamaged):
            # Another collector, which took this one for dead, may have deleted what this one was looking at.
            self._lease.check()
            raise

    def _collect(self) -> Collected:
        expect_nothing_healing(self._storage)
        clear_pending(self._storage, self._now_there(), self._keys)
        earlier = condemnations(self._storage, self._keys)
        self._second_look(earlier)
        already = {pack for each in earlier for pack in each.packs}
        self._say("looking at what is needed")
        look = Look(self._storage, self._identity, self._index, keys=self._keys)
        for hopeless in look.hopeless:
            self._lease.check()
            self._storage.delete(hopeless.key)
        chosen = look.to_condemn(self._storage.free_bytes())
        self._second_look(self._condemn([pack for pack in chosen if pack not in already]))
        self._watch_silent_leases()
        keep_reserve(self._storage)
        waiting = condemnations(self._storage, self._keys)
        present = {pack_id_of(entry.key) for entry in self._storage.list("packs/")}
        return Collected(
            deleted_packs=self._deleted,
            freed_bytes=self._deleted_bytes - self._copied_bytes,
            copied_bytes=self._copied_bytes,
            waiting_packs=len({pack for each in waiting for pack in each.packs if pack in present}),
            waiting_for=self._holders(waiting),
            kept=tuple(self._kept.values()),
            out_of_space=self._out_of_space,
        )

    def _condemn(self, packs: list[bytes]) -> list[Condemnation]:
        """Condemn them in portions, so that a disk that is nearly full has room for one at least."""
        new: list[Condemnation] = []
        for start in range(0, len(packs), CONDEMNED_AT_ONCE):
            self._lease.check()
            try:
                new.append(condemn(self._storage, packs[start : start + CONDEMNED_AT_ONCE], self._keys))
            except NoSpace:
                self._out_of_space = True
                break
            self._ours.add(new[-1].id)
        return new

    def _watch_silent_leases(self) -> None:
        """See that the next run may end leases that ran out: until then packs of their writers are left alone.

        A condemnation of no pack does it, whose witnesses are watched like those of any other. Writers of other
        machines that died, and those that may not delete, leave such leases.
        """
        storage, keys = self._storage, self._keys
        watched = {lease_id for each in condemnations(storage, keys) for lease_id in witnesses(storage, each, keys)}
        silent = [lease for lease in leases(storage, keys)[0] if lease.id not in watched and self._silent(lease)]
        if silent:
            self._lease.check()
            with suppress(NoSpace):
                nothing = condemn(storage, (), keys)
                self._ours.add(nothing.id)
                witnesses(storage, nothing, keys)

    def _second_look(self, several: list[Condemnation]) -> None:
        ready = [each for each in several if not self._present_witnesses(each)]
        if not ready:
            return
        self._say("looking at what is needed")
        look = Look(self._storage, self._identity, self._index, keys=self._keys)
        condemned = {pack for each in condemnations(self._storage, self._keys) for pack in each.packs}
        self._index.spare(condemned)
        uses = look.reachable.use_of_packs()
        to_copy: list[tuple[bytes, PackUse]] = []
        for pack in sorted({pack for each in ready for pack in each.packs if pack in look.packs}):
            use = uses.get(pack)
            if use is None or not use.record_bytes or not look.known(pack):
                self._keep(pack, "what lies in it cannot be told")
            elif use.live_blocks:
                to_copy.append((pack, use))
            else:
                self._delete(pack, look)
        try:
            for batch in _batches(to_copy):
                self._copy_and_delete(batch, look, condemned)
        except NoSpace:
            self._out_of_space = True
        self._absolve(ready)

    def _copy_and_delete(self, packs: list[bytes], look: Look, condemned: set[bytes]) -> None:
        owner = bytes.fromhex(self._lease.id)
        store = BlockStore(self._storage, self._index, self._limits, owner, self._keys)
        try:
            for pack in packs:
                self._say("copying what is needed in packs")
                self._copy(pack, look, condemned, store)
            store.finish()
        except BaseException as error:
            store.fail(error)
            store.abandon()
            raise
        self._copied_bytes += store.durable_bytes
        for pack in packs:
            if pack in self._kept:
                continue
            if all(look.reader.block_outside(condemned, each.name, each.raw_length) for each in look.needed(pack)):
                self._delete(pack, look)
            else:
                self._keep(pack, "a copy of what is needed in it cannot be read back")

    def _copy(self, pack: bytes, look: Look, condemned: set[bytes], store: BlockStore) -> None:
        try:
            for each in look.needed(pack):
                if look.reader.block_outside(condemned, each.name, each.raw_length) is None:
                    content = look.reader.block(each.name, each.raw_length, pack_key(pack))
                    store.store(BlockKind(each.kind), content)
        except (Unsound, RepositoryDamaged) as reason:
            self._keep(pack, str(reason))

    def _say(self, doing: str) -> None:
        self._tell(CollectionProgress(doing, self._deleted, self._deleted_bytes, self._copied_bytes))

    def _delete(self, pack: bytes, look: Look) -> None:
        self._say("deleting packs")
        self._lease.check()
        self._storage.delete(pack_key(pack))
        self._deleted += 1
        self._deleted_bytes += look.packs[pack]

    def _keep(self, pack: bytes, reason: str) -> None:
        self._kept[pack] = DamagedObject(pack_key(pack), reason)

    def _absolve(self, several: list[Condemnation]) -> None:
        """Let the index forget what is gone, then remove the condemnations of which nothing is left."""
        present = {pack_id_of(entry.key) for entry in self._storage.list("packs/")}
        done = [each for each in several if not each.packs & present]
        try:
            self._index.forget({pack for each in several for pack in each.packs} - present)
        except NoSpace:
            # The next run does it; until then the condemnation keeps the packs' names.
            self._out_of_space = True
            return
        for each in done:
            self._lease.check()
            absolve(self._storage, each)

    def _present_witnesses(self, condemnation: Condemnation) -> list[str]:
        """Who of the witnesses is still there, after those were passed that will not come back."""
        seen = witnesses(self._storage, condemnation, self._keys)
        newest = {lease.id: lease for lease in leases(self._storage, self._keys)[0]}
        for lease_id, lease in newest.items():
            if lease_id in seen and lease_id != self._lease.id and self._passable(condemnation, lease, seen[lease_id]):
                self._lease.check()
                break_lease(self._storage, lease_id)
        return sorted((seen.keys() & lease_ids(self._storage)) - {self._lease.id})

    def _passable(self, condemnation: Condemnation, lease: Lease, sequence_seen: int) -> bool:
        if lease.dead():
            return True
        # A clock alone does not make a lease run out: its holder must also have been silent since an earlier run.
        watched = condemnation.id not in self._ours and lease.sequence == sequence_seen
        return watched and self._silent(lease)

    def _silent(self, lease: Lease) -> bool:
        return lease.id != self._lease.id and lease.silent(self._storage, self._now_there())

    def _earliest_now(self) -> datetime:
        """A clock of ours that has jumped ahead must not end a protection: that of the storage has to agree."""
        return min(datetime.now(UTC), self._began)

    def _now_there(self) -> datetime:
        """The time by the clock of the storage, as of the last renewal of our lease."""
        try:
            return self._storage.created_at(self._lease.lease.key)
        except ObjectMissing:
            # It was renewed this instant, or taken away, which `check` finds.
            return self._began

    def _holders(self, waiting: list[Condemnation]) -> tuple[str, ...]:
        ids = {lease_id for each in waiting for lease_id in self._present_witnesses(each)}
        known = {lease.id: f"{lease.owner} on {lease.host}" for lease in leases(self._storage, self._keys)[0]}
        return tuple(sorted(known.get(lease_id, f"an unreadable lease leases/{lease_id}-*") for lease_id in ids))

    def _has_newer(self, point: Point) -> bool:
        for entry in reversed(list(self._storage.list(f"{POINTS}{point.manifest.vm.uuid}/"))):
            if entry.key == point_key(point):
                return False
            try:
                return read_manifest(self._storage, entry.key, "", self._keys).manifest.moment >= point.manifest.moment
            except Unsound:
                continue
        return False

    def _pass_other_collectors(self) -> None:
        for lease in leases(self._storage, self._keys)[0]:
            if lease.kind != COLLECTOR or lease.id == self._lease.id:
                continue
            if not lease.dead() and not self._silent(lease):
                raise Conflict(
                    f"{lease.owner} on {lease.host} (process {lease.pid}) collects in this repository already.",
                    next_step="Wait until it is done, or end it. If it died on another machine, its lease runs out "
                    f"{lease.lasts_s / 60:.0f} minutes after it was last renewed.",
                )
            # Even if it wakes up: it finds its lease gone before its next delete.
            break_lease(self._storage, lease.id)


def _batches(packs: list[tuple[bytes, PackUse]]) -> Iterable[list[bytes]]:
    batch: list[bytes] = []
    live_bytes = 0
    for pack, use in sorted(packs, key=lambda item: item[1].live_bytes):
        batch.append(pack)
        live_bytes += use.live_bytes
        if live_bytes >= COPIED_AT_ONCE_BYTES:
            yield batch
            batch, live_bytes = [], 0
    if batch:
        yield batch
