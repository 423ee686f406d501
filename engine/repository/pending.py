"""Points about to be committed, as a collector must see them.

A writer looks whether its lease holds, and then creates its manifest. Between the two it may sleep for a week, lose its
lease, and wake. So it says first what it is about to create:

1. It creates `pending/<lease id>`: its lease and its manifest.
2. It looks whether its lease holds.
3. It creates the manifest, and deletes the pending object.

A collector that takes a lease away lists pending objects after that, and manifests last. A writer that passed step 2
did so before its lease was taken, so its pending object is there and its blocks are kept, or its manifest is there
already. The object is kept until its point is listed or its process is known to be dead; of a process on another
machine nobody can know that, and the operator's word is needed.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from engine.repository.errors import ObjectMissing, RepositoryDamaged, Unsound
from engine.repository.frame import FrameKind, decode_frame, encode_frame
from engine.repository.keys import Keys
from engine.repository.lease import Lease
from engine.repository.manifest import key_of
from engine.repository.model import Manifest
from engine.repository.storage import Storage

PREFIX = "pending/"


class PendingPoint(Struct, frozen=True):
    """A point that may come to exist, and whose."""

    lease: Lease
    manifest: Manifest

    @property
    def key(self) -> str:
        """Where it is announced."""
        return PREFIX + self.lease.id

    def point_key(self, keys: Keys | None = None) -> str:
        """Where it will be listed."""
        return key_of(self.manifest, keys)


def announce(storage: Storage, lease: Lease, manifest: Manifest, keys: Keys | None = None) -> PendingPoint:
    """From when this returns a collector keeps what the manifest needs."""
    pending = PendingPoint(lease, manifest)
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


def clear_pending(storage: Storage, keys: Keys | None = None) -> list[PendingPoint]:
    """Remove what is settled: the point is listed, or its writer is dead. Those that stay."""
    staying: list[PendingPoint] = []
    for pending in pending_points(storage, keys):
        if pending.lease.dead() or _listed(storage, pending, keys):
            storage.delete(pending.key)
        else:
            staying.append(pending)
    return staying


def _listed(storage: Storage, pending: PendingPoint, keys: Keys | None) -> bool:
    try:
        return storage.size(pending.point_key(keys)) > 0
    except ObjectMissing:
        return False
