"""What keeps a recovery point from being dropped: pins, and protection until a time. Objects beside the points.

`guards/<vm uuid>/<point id>-<guard id>` is created and never changed; a point may have any number. A pin is taken away
by deleting its object: what guards a point must not be undone by somebody who may only add, such as a host that was
taken over and holds create-only credentials. A protection is never taken away before its time: no function here does
it, and a later one can only add to it. Guards of a point that is gone are removed by the collector that dropped it.

A guard that cannot be read guards: its key says which point it is for.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from enum import StrEnum

import msgspec
from msgspec import Struct, structs

from engine.errors import Conflict, NotFound
from engine.repository.errors import ObjectMissing, Unsound
from engine.repository.frame import FrameKind, decode_frame, encode_frame
from engine.repository.keys import Keys
from engine.repository.manifest import point_key
from engine.repository.model import Point
from engine.repository.storage import Storage

PREFIX = "guards/"


class GuardKind(StrEnum):
    """How a point is guarded."""

    PIN = "pin"
    """Until somebody takes the pin away."""
    PROTECTION = "protection"
    """Until a time, whatever anybody asks for."""


class Guard(Struct, frozen=True):
    """One reason to keep one point."""

    vm_uuid: str
    point_id: str
    kind: GuardKind
    why: str
    by: str
    """Who made it, for people."""
    created: datetime
    until: datetime | None = None
    """For a protection: when it ends, UTC."""


class FoundGuard(Struct, frozen=True):
    """A guard in the repository. `guard` is None for one that cannot be read."""

    key: str
    point_id: str
    guard: Guard | None

    def reason(self, now: datetime) -> str | None:
        """Why the point must stay, in a few words; None if it need not any more."""
        if self.guard is None:
            return f"guarded by {self.key}, which cannot be read"
        if self.guard.kind is GuardKind.PIN:
            return f"pinned by {self.guard.by}: {self.guard.why}"
        if self.guard.until is None or now < self.guard.until:
            return f"protected until {self.guard.until or datetime.max:%Y-%m-%dT%H:%M:%SZ}: {self.guard.why}"
        return None


def guards(storage: Storage, vm_uuid: str | None = None, keys: Keys | None = None) -> list[FoundGuard]:
    """All guards, of one VM or of all."""
    found: list[FoundGuard] = []
    for entry in list(storage.list(PREFIX if vm_uuid is None else f"{PREFIX}{vm_uuid}/")):
        point_id = entry.key.rpartition("/")[2].partition("-")[0]
        try:
            content = decode_frame(entry.key, FrameKind.RECORD, storage.read(entry.key), keys)
            found.append(FoundGuard(entry.key, point_id, msgspec.json.decode(content, type=Guard)))
        except ObjectMissing:
            continue
        except (Unsound, msgspec.DecodeError):
            found.append(FoundGuard(entry.key, point_id, None))
    return found


def guarded(found: list[FoundGuard], now: datetime) -> dict[str, tuple[str, ...]]:
    """By point id: why it must stay, the reasons in a steady order."""
    reasons: dict[str, tuple[str, ...]] = {}
    for each in found:
        if reason := each.reason(now):
            reasons[each.point_id] = tuple(sorted((*reasons.get(each.point_id, ()), reason)))
    return reasons


def pin(storage: Storage, point: Point, why: str, by: str, keys: Keys | None = None) -> Guard:
    """Keep a point until the pin is taken away."""
    return _create(storage, point, _guard(point, GuardKind.PIN, why, by, None), keys)


def protect(storage: Storage, point: Point, until: datetime, why: str, by: str, keys: Keys | None = None) -> Guard:
    """Keep a point until a time, whatever anybody asks for."""
    return _create(storage, point, _guard(point, GuardKind.PROTECTION, why, by, until.astimezone(UTC)), keys)


def unpin(storage: Storage, point: Point, keys: Keys | None = None) -> int:
    """Take all pins of a point away; how many there were. Raises `Conflict` if it has none."""
    vm_uuid = point.manifest.vm.uuid
    pins = [
        found
        for found in guards(storage, vm_uuid, keys)
        if found.point_id == point.id and found.guard and found.guard.kind is GuardKind.PIN
    ]
    if not pins:
        raise Conflict(
            f"The recovery point {point.manifest.vm.name}@{point.id} is not pinned.",
            next_step="A protection ends by itself, at its time, and not before.",
        )
    for found in pins:
        storage.delete(found.key)
    return len(pins)


def add_guard(storage: Storage, point: Point, guard: Guard, keys: Keys | None = None) -> Guard:
    """Guard a point as another one, of which it is a copy, is guarded."""
    return _create(storage, point, structs.replace(guard, vm_uuid=point.manifest.vm.uuid, point_id=point.id), keys)


def _guard(point: Point, kind: GuardKind, why: str, by: str, until: datetime | None) -> Guard:
    return Guard(point.manifest.vm.uuid, point.id, kind, why, by, datetime.now(UTC), until)


def _create(storage: Storage, point: Point, guard: Guard, keys: Keys | None) -> Guard:
    key = f"{PREFIX}{guard.vm_uuid}/{guard.point_id}-{secrets.token_hex(4)}"
    storage.create(key, encode_frame(key, FrameKind.RECORD, msgspec.json.encode(guard), keys))
    try:
        storage.size(point_key(point))
    except ObjectMissing as error:
        raise NotFound(
            f"The recovery point {point.manifest.vm.name}@{point.id} was dropped meanwhile.",
            next_step=f"See what is there: newhope points {point.manifest.vm.name}.",
        ) from error
    return guard
