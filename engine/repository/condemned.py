"""Which packs are condemned: named in an object that every writer reads before it leans on anything.

`condemned/<id>` holds the names of packs that a collector wants to delete. `witnesses/<id>`, created after it, holds
the leases that were there then: their holders may have begun before the packs were condemned and lean on them. Both
are deleted when all the packs are gone, never before: a pack that was condemned once is never leaned on again.
`collection` says what follows from that.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress

import msgspec
from msgspec import Struct

from engine.repository.block_record import NAME_BYTES
from engine.repository.errors import ObjectMissing, RepositoryDamaged, StorageFailed, Unsound
from engine.repository.frame import FrameKind, decode_frame, encode_frame
from engine.repository.keys import Keys
from engine.repository.lease import lease_ids, leases
from engine.repository.storage import Storage

PREFIX = "condemned/"
WITNESSES = "witnesses/"
UNREADABLE = -1
"""Stands for the sequence of a lease that cannot be read."""


class Condemnation(Struct, frozen=True):
    """Packs that were condemned together."""

    id: str
    packs: frozenset[bytes]


def condemn(storage: Storage, packs: Iterable[bytes], keys: Keys | None = None) -> Condemnation:
    """From when this returns, no writer that begins leans on these packs."""
    condemnation = Condemnation(secrets.token_hex(8), frozenset(packs))
    key = PREFIX + condemnation.id
    storage.create(key, encode_frame(key, FrameKind.RECORD, b"".join(sorted(condemnation.packs)), keys))
    return condemnation


def condemnations(storage: Storage, keys: Keys | None = None) -> list[Condemnation]:
    """Every condemnation that is not carried out; raises `RepositoryDamaged`."""
    found: list[Condemnation] = []
    for entry in list(storage.list(PREFIX)):
        content = _payload(storage, entry.key, keys)
        if content is not None:
            found.append(Condemnation(entry.key[len(PREFIX) :], _names(content)))
    return found


def readable_condemned(storage: Storage, keys: Keys | None = None) -> Iterator[bytes]:
    """Packs of all condemnations that can be read, for those who report and repair: they delete no pack."""
    for entry in list(storage.list(PREFIX)):
        with suppress(Unsound, ObjectMissing, StorageFailed):
            yield from _names(decode_frame(entry.key, FrameKind.RECORD, storage.read(entry.key), keys))


def witnesses(storage: Storage, condemnation: Condemnation, keys: Keys | None = None) -> dict[str, int]:
    """Ids, with their last sequence, of the leases that were there once the packs were condemned.

    Looked at now, and written down, if the collector that condemned them did not get that far: a lease too many only
    delays.
    """
    key = WITNESSES + condemnation.id
    content = _payload(storage, key, keys)
    if content is not None:
        return msgspec.json.decode(content, type=dict[str, int])
    found = dict.fromkeys(sorted(lease_ids(storage)), UNREADABLE)
    found |= {lease.id: lease.sequence for lease in leases(storage, keys)[0] if lease.id in found}
    storage.create(key, encode_frame(key, FrameKind.RECORD, msgspec.json.encode(found), keys))
    return found


def absolve(storage: Storage, condemnation: Condemnation) -> None:
    """Forget a condemnation whose packs are all gone."""
    # The witnesses first: without them a condemnation is taken up again, they without it would lie about for ever.
    storage.delete(WITNESSES + condemnation.id)
    storage.delete(PREFIX + condemnation.id)


def _names(content: bytes) -> frozenset[bytes]:
    return frozenset(content[at : at + NAME_BYTES] for at in range(0, len(content), NAME_BYTES))


def _payload(storage: Storage, key: str, keys: Keys | None) -> bytes | None:
    try:
        return decode_frame(key, FrameKind.RECORD, storage.read(key), keys)
    except ObjectMissing:
        return None
    except Unsound as reason:
        raise RepositoryDamaged(
            f"{key} in the repository {storage.location} is damaged: {reason}. It names packs that were to be deleted.",
            untouched="Every recovery point stays as it is.",
            next_step=f"Let no newhope repo prune run, remove {key}, and run it again: it looks anew.",
        ) from reason
