"""What dropping recovery points would free, counted by marking, before anything is touched."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from engine.repository.identity import Identity
from engine.repository.index import Index
from engine.repository.keys import Keys
from engine.repository.look import Look
from engine.repository.manifest import point_key
from engine.repository.model import Point
from engine.repository.reachable import PackUse
from engine.repository.storage import Storage


class Forecast(Struct, frozen=True):
    """What a collection would free if it ran now and nothing else was written."""

    frees_bytes: int
    """With the points dropped: dead packs, and wasteful ones less what is copied out of them."""
    frees_anyway_bytes: int
    """Of that, what no point needs even now."""
    unneeded_bytes: int
    """Blocks that no point would need, also in packs of which too much is needed for copying to pay."""


def forecast(storage: Storage, identity: Identity, dropped: Iterable[Point], keys: Keys | None = None) -> Forecast:
    """What dropping these points would free. Raises `RepositoryDamaged` where that cannot be told."""
    left_out = sorted(point_key(point) for point in dropped)
    look = Look(storage, identity, Index(storage), left_out=frozenset(left_out), keys=keys)
    room = storage.free_bytes()
    frees = _freed(look, room)
    unneeded = sum(_unneeded(use) for use in look.use().values())
    if not left_out:
        return Forecast(frees, frees, unneeded)
    look.add(left_out)
    return Forecast(frees, _freed(look, room), unneeded)


def _freed(look: Look, room_bytes: int | None) -> int:
    return sum(_unneeded(use) for use in look.to_condemn(room_bytes).values())


def _unneeded(use: PackUse) -> int:
    # The pack that the rest is copied to has a table as well.
    return use.record_bytes - use.live_bytes if use.live_blocks else use.size_bytes
