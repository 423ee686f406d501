"""Points about to be committed, as a collector must see them.

A writer looks whether its lease holds, and then creates its manifest. Between the two it may sleep for a week, lose its
lease, and wake. So it says first what it is about to create:

1. It creates `pending/<lease id>`: its lease and its manifest.
2. It looks whether its lease holds.
3. It creates the manifest, and deletes the pending object.

A collector that takes a lease away lists pending objects after that, and manifests last. A writer that passed step 2
did so before its lease was taken, so its pending object is there and its blocks are kept, or its manifest is there
already. The pending object is deleted when

- its point is listed, or
- its writer's process is known to be dead, and what that had asked the storage for is done or never will be, or
- its writer's lease is gone, and a block that the point needs is gone too: then the writer did not pass step 2, and
  will not, as its blocks would have been kept (`look` finds that out), or
- its writer's lease is gone, and the object is older than 30 days, by the clock of the storage. Whether a process of
  another machine is dead nobody can know; that one sleeps for 30 days between two calls, and wakes, is not expected.

A writer that takes over parts of another point's maps leans on blocks that it never looks at. It says so in the same
way (`lean_on`): what it creates is a point that is never listed and has the maps of the other one.

1. It creates `pending/<lease id>-<point id>`.
2. It looks whether the other point is listed. If not, it does not lean on it.
3. It deletes the object when it ends; its own point, if there is one, is listed by then.

A collector lists points, then pending objects, then points again. If the other point is not in the first list, it was
dropped before that, so step 2 finds it gone, or was done before and step 1 with it: then the object, or the writer's
own point, is in one of the other two lists.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from engine.errors import NotFound
from engine.repository.errors import ObjectMissing, RepositoryDamaged, Unsound
from engine.repository.frame import FrameKind, decode_frame, encode_frame
from engine.repository.keys import Keys
from engine.repository.lease import Lease
from engine.repository.manifest import key_of, moment_now, point_key
from engine.repository.model import Manifest, Point
from engine.repository.storage import Storage

PREFIX = "pending/"
ASLEEP_AT_MOST_S = 30 * 24 * 3600.0


class PendingPoint(Struct, frozen=True):
    """A point that may come to exist, and whose."""

    lease: Lease
    manifest: Manifest
    leans_on: str = ""
    """Id of the point that a writer leans on; empty for a point that it is about to make."""

    @property
    def key(self) -> str:
        """Where it is announced."""
        return f"{PREFIX}{self.lease.id}{'-' if self.leans_on else ''}{self.leans_on}"

    def point_key(self, keys: Keys | None = None) -> str:
        """Where it will be listed."""
        return key_of(self.manifest, keys)


def announce(storage: Storage, lease: Lease, manifest: Manifest, keys: Keys | None = None) -> PendingPoint:
    """From when this returns a collector keeps what the manifest needs."""
    return _create(storage, PendingPoint(lease, manifest), keys)


def lean_on(storage: Storage, lease: Lease, point: Point, keys: Keys | None = None) -> PendingPoint:
    """From when this returns a collector keeps what the point needs, dropped or not. `NotFound` if it was dropped."""
    pending = _create(storage, PendingPoint(lease, replace(point.manifest, finished=moment_now()), point.id), keys)
    try:
        storage.size(point_key(point))
    except ObjectMissing as error:
        storage.delete(pending.key)
        raise NotFound(
            f"The recovery point {point.manifest.vm.name}@{point.id} was dropped; nothing can be built on it.",
            next_step="Back up again: it builds on another point, or reads the disks in full.",
        ) from error
    return pending


def _create(storage: Storage, pending: PendingPoint, keys: Keys | None) -> PendingPoint:
    storage.create(pending.key, encode_frame(pending.key, FrameKind.RECORD, msgspec.json.encode(pending), keys))
    return pending


def pending_points(storage: Storage, keys: Keys | None = None) -> list[PendingPoint]:
    """All that are announced; raises `RepositoryDamaged` where one cannot be read."""
    found: list[PendingPoint] = []
    for entry in list(storage.list(PREFIX)):
        try:
            content = decode_frame(entry.key, FrameKind.RECORD, storage.read(entry.key), keys)
            found.append(msgspec.json.decode(content, type=PendingPoint))
        except ObjectMissing:
            continue
        except (Unsound, msgspec.DecodeError) as reason:
            raise RepositoryDamaged(
                f"{entry.key} in the repository {storage.location} is damaged: {reason}. "
                "It names blocks that a recovery point about to be made needs.",
                untouched="Nothing was deleted; every recovery point stays as it is.",
                next_step=f"When no backup runs, remove {entry.key}, and run newhope repo prune again.",
            ) from reason
    return found


def clear_pending(storage: Storage, now: datetime, keys: Keys | None = None) -> None:
    """Remove what is settled; `now` is by the clock of the storage."""
    for pending in pending_points(storage, keys):
        if _listed(storage, pending, keys) or _over(storage, pending, now):
            storage.delete(pending.key)


def may_commit(storage: Storage, pending: PendingPoint) -> bool:
    """Whether the lease is there under which its writer may find that it may commit."""
    return _there(storage, pending.lease.anchor)


def _over(storage: Storage, pending: PendingPoint, now: datetime) -> bool:
    if pending.lease.dead():
        waits_s = storage.settles_s
    elif may_commit(storage, pending):
        return False
    else:
        waits_s = ASLEEP_AT_MOST_S
    try:
        return now - storage.created_at(pending.key) >= timedelta(seconds=waits_s)
    except ObjectMissing:
        return False


def _listed(storage: Storage, pending: PendingPoint, keys: Keys | None) -> bool:
    return _there(storage, pending.point_key(keys))


def _there(storage: Storage, key: str) -> bool:
    try:
        return storage.size(key) > 0
    except ObjectMissing:
        return False
