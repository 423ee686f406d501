"""Leases: objects that say who is writing or collecting, so that nothing is collected under a writer.

1. A writer creates `leases/<id>-0` before anything else, with the time it expires. This object is the lease's *anchor*:
   it stays to the end, so that a listing that runs beside a renewal cannot miss the lease, and once it is gone nothing
   brings the lease back.
2. While it works it renews: creates the successor `leases/<id>-<sequence>`, then deletes the predecessor.
3. Right before it commits it looks whether the anchor is still there and the lease not run out. A collector that wants
   to pass an expired lease deletes the anchor first; so a writer that slept too long finds its lease gone and does not
   commit. What counts for the writer is its own clock, which goes on while the machine sleeps.
4. It deletes the lease at the end.

The lease of a process that died on this machine since it started (same boot, same process namespace, process number
with another start time or none) is *dead*; everybody may remove it. Any other is believed until its holder was silent
for as long as it lasts: that is told by when the storage says that its newest object was created, not by `expires`,
which its holder's clock says and which is for people.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from msgspec import Struct

from engine.errors import NewhopeError
from engine.repository.errors import LeaseLost, ObjectMissing, Unsound
from engine.repository.frame import FrameCodec, FrameKind, decode_frame, encode_frame
from engine.repository.keys import Keys
from engine.repository.model import DamagedObject
from engine.repository.storage import Storage

PREFIX = "leases/"
WRITER = "writer"
COLLECTOR = "collector"
RENEWALS_A_LEASE = 3
"""How often a lease is renewed in the time it would last: one or two attempts may fail."""


class Lease(Struct, frozen=True):
    """Who holds a lease, and until when."""

    id: str
    sequence: int
    kind: str
    """`writer` or `collector`."""
    owner: str
    """For people: `newhope backup web`."""
    host: str
    boot_id: str
    process_namespace: str
    pid: int
    pid_started: int
    """Clock ticks after boot at which the process began."""
    created: datetime
    expires: datetime
    lasts_s: float = 0.0
    """From each renewal on; 0 in leases of older writers, which do not say."""

    @property
    def key(self) -> str:
        """Where it is stored."""
        return f"{PREFIX}{self.id}-{self.sequence}"

    @property
    def anchor(self) -> str:
        """The object that lives as long as the lease."""
        return f"{PREFIX}{self.id}-0"

    @property
    def of_this_start(self) -> bool:
        """Whether it was taken on this machine since it was started last."""
        return self.boot_id == _boot_id()

    @property
    def in_reach(self) -> bool:
        """Whether its process, while it lives, can be seen from here."""
        return self.of_this_start and self.process_namespace == _process_namespace()

    def dead(self) -> bool:
        """Whether its process is known to be gone."""
        return self.in_reach and _started(self.pid) != self.pid_started

    def held(self, now: datetime) -> bool:
        """Whether, for all that its holder says, it is still held: to be shown, as two clocks may differ by years."""
        return now < self.expires and not self.dead()

    def silent(self, storage: Storage, now: datetime) -> bool:
        """Whether its holder did not renew it for as long as it lasts. `now`, and what it is compared with, are by the
        clock of the storage: neither its holder's nor ours counts.
        """
        lasts = timedelta(seconds=self.lasts_s) if self.lasts_s else self.expires - self.created
        try:
            return now - storage.created_at(self.key) >= lasts
        except ObjectMissing:
            return False


class HeldLease:
    """A lease of this process, renewed by a thread until it is released."""

    def __init__(self, storage: Storage, kind: str, owner: str, lease_s: float, keys: Keys | None = None) -> None:
        self._storage = storage
        self._keys = keys
        self._lease_s = lease_s
        self._lock = threading.Lock()
        self._released = threading.Event()
        now = datetime.now(UTC)
        self._lease = Lease(
            id=secrets.token_hex(8),
            sequence=0,
            kind=kind,
            owner=owner,
            host=os.uname().nodename,
            boot_id=_boot_id(),
            process_namespace=_process_namespace(),
            pid=os.getpid(),
            pid_started=_started(os.getpid()),
            created=now,
            expires=now + timedelta(seconds=lease_s),
            lasts_s=lease_s,
        )
        self._ends = _clock_s() + lease_s
        _create(storage, self._lease, keys)
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    @property
    def id(self) -> str:
        """16 hex digits."""
        return self._lease.id

    @property
    def lease(self) -> Lease:
        """The lease as it was last renewed."""
        return self._lease

    def check(self) -> None:
        """Raise `LeaseLost` unless this process may commit, or delete, now."""
        with self._lock:
            if _clock_s() >= self._ends:
                raise self._lost("it ran out while this process slept or hung")
            try:
                self._storage.size(self._lease.anchor)
            except ObjectMissing as error:
                raise self._lost("somebody removed it") from error

    def renew(self) -> None:
        """Begin the lease's time anew."""
        with self._lock:
            if self._released.is_set():
                return
            now = datetime.now(UTC)
            ends = _clock_s() + self._lease_s
            # Gone means broken by a collector: a successor would bring back what it no longer protects.
            self._storage.size(self._lease.anchor)
            successor = msgspec.structs.replace(
                self._lease, sequence=self._lease.sequence + 1, expires=now + timedelta(seconds=self._lease_s)
            )
            _create(self._storage, successor, self._keys)
            predecessor, self._lease, self._ends = self._lease, successor, ends
            if predecessor.key != predecessor.anchor:
                self._storage.delete(predecessor.key)

    def release(self) -> None:
        """Give the lease back. A storage that refuses is no reason to fail: the lease then expires."""
        self._released.set()
        with self._lock:
            for key in dict.fromkeys((self._lease.key, self._lease.anchor)):
                with suppress(NewhopeError):
                    self._storage.delete(key)

    def _keep(self) -> None:
        while not self._released.wait(self._lease_s / RENEWALS_A_LEASE):
            try:
                self.renew()
            except NewhopeError:
                # Tried again in a while; `check` decides in the end.
                continue

    def _lost(self, why: str) -> LeaseLost:
        if self._lease.kind == COLLECTOR:
            return LeaseLost(
                f"This collector's lease on the repository {self._storage.location} is gone: {why}.",
                untouched="Every recovery point that is listed is whole; nothing more was deleted.",
                next_step="Run it again: newhope repo prune. It goes on where this one stopped.",
            )
        return LeaseLost(
            f"This writer's lease on the repository {self._storage.location} is gone: {why}.",
            untouched="The unfinished recovery point was not listed; every complete one stays as it is.",
            next_step="Run the backup again: what was stored and is still there is used again.",
        )


def leases(storage: Storage, keys: Keys | None = None) -> tuple[tuple[Lease, ...], tuple[DamagedObject, ...]]:
    """All leases, the newest of each holder, and those that cannot be read (their holders are unknown)."""
    newest: dict[str, Lease] = {}
    damaged: list[DamagedObject] = []
    for entry in storage.list(PREFIX):
        try:
            content = decode_frame(entry.key, FrameKind.LEASE, storage.read(entry.key), keys)
            lease = msgspec.json.decode(content, type=Lease)
        except ObjectMissing:
            continue
        except (Unsound, msgspec.DecodeError) as reason:
            damaged.append(DamagedObject(entry.key, str(reason)))
            continue
        if lease.id not in newest or newest[lease.id].sequence < lease.sequence:
            newest[lease.id] = lease
    return tuple(newest.values()), tuple(damaged)


def remove_dead(storage: Storage, keys: Keys | None = None) -> None:
    """Remove the leases of processes that died on this machine, and predecessors that were left."""
    for newest in leases(storage, keys)[0]:
        if newest.dead():
            # With credentials that may not delete it stays, and nobody respects it.
            with suppress(NewhopeError):
                break_lease(storage, newest.id)


def lease_ids(storage: Storage) -> frozenset[str]:
    """Ids of all leases that are there, of whoever holds them and whether or not they can be read."""
    return frozenset(entry.key[len(PREFIX) :].partition("-")[0] for entry in storage.list(PREFIX))


def break_lease(storage: Storage, lease_id: str) -> None:
    """Take a lease from its holder, the anchor first: from then on its holder neither commits nor renews."""
    storage.delete(f"{PREFIX}{lease_id}-0")
    for entry in list(storage.list(PREFIX)):
        if entry.key.startswith(f"{PREFIX}{lease_id}-"):
            storage.delete(entry.key)


def _create(storage: Storage, lease: Lease, keys: Keys | None) -> None:
    content = msgspec.json.encode(lease)
    storage.create(lease.key, encode_frame(lease.key, FrameKind.LEASE, content, keys, codec=FrameCodec.STORED))


def _clock_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _process_namespace() -> str:
    return str(Path("/proc/self/ns/pid").readlink())


def _started(pid: int) -> int:
    """Clock ticks after boot at which a process began; 0 for one that is not there."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    # The command's name, in brackets, may hold anything; what follows the last bracket has a fixed order (proc(5)).
    fields = stat.rpartition(")")[2].split()
    return 0 if fields[0] == "Z" else int(fields[19])
