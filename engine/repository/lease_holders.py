"""Who holds a lease, and whether that process still lives, as far as this machine can tell.

A process can be asked after only where it runs: same start of the machine, same process namespace. Of every other, the
lease is all that is known here, whatever its host is called: names of machines are not unique.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from engine.errors import NotFound
from engine.repository.errors import ObjectMissing
from engine.repository.keys import Keys
from engine.repository.lease import PREFIX, Lease, break_lease, lease_ids, leases
from engine.repository.storage import Storage


class Life(StrEnum):
    """Whether the process that holds a lease is still there."""

    ALIVE = "alive"
    DEAD = "dead"
    UNKNOWN = "unknown"


class LeaseHolder(Struct, frozen=True):
    """A lease, for people."""

    id: str
    """16 hex digits."""
    life: Life
    why: str
    """How that is known, in a sentence."""
    kind: str = "unreadable"
    """`writer` or `collector`."""
    owner: str = ""
    host: str = ""
    pid: int = 0
    since: datetime | None = None
    """By the holder's clock."""
    renewed: datetime | None = None
    """By the clock of the storage."""
    expires: datetime | None = None
    """By the holder's clock."""


def lease_holders(storage: Storage, keys: Keys | None = None) -> tuple[LeaseHolder, ...]:
    """All leases that are there, those that cannot be read included."""
    known, damaged = leases(storage, keys)
    reasons = {each.key[len(PREFIX) :].partition("-")[0]: each.reason for each in damaged}
    found = {lease.id: _holder(storage, lease) for lease in known}
    for lease_id in lease_ids(storage) - found.keys():
        reason = reasons.get(lease_id, "only a part of it is there")
        found[lease_id] = LeaseHolder(
            lease_id, Life.UNKNOWN, f"It cannot be read ({reason}), so nobody knows whose it is."
        )
    return tuple(found[lease_id] for lease_id in sorted(found))


def end_lease(storage: Storage, lease_id: str) -> None:
    """Take a lease from its holder: it finds that before its next commit or delete, and stops with `LeaseLost`.

    Raises `NotFound` for one that is not there.
    """
    there = lease_ids(storage)
    if lease_id not in there:
        raise NotFound(
            f"There is no lease {lease_id} in the repository {storage.location}.",
            next_step=f"Those that are there: {', '.join(sorted(there)) or 'none'}.",
        )
    break_lease(storage, lease_id)


def _holder(storage: Storage, lease: Lease) -> LeaseHolder:
    life, why = _life(lease)
    try:
        renewed = storage.created_at(lease.key)
    except ObjectMissing:
        # Renewed or given back since it was listed.
        renewed = None
    return LeaseHolder(
        id=lease.id,
        life=life,
        why=why,
        kind=lease.kind,
        owner=lease.owner,
        host=lease.host,
        pid=lease.pid,
        since=lease.created,
        renewed=renewed,
        expires=lease.expires,
    )


def _life(lease: Lease) -> tuple[Life, str]:
    if lease.dead():
        return Life.DEAD, f"Process {lease.pid} of this machine has ended."
    if lease.in_reach:
        return Life.ALIVE, f"Process {lease.pid} runs on this machine."
    if lease.of_this_start:
        return Life.UNKNOWN, "It runs, or ran, in another container of this machine: ask there."
    return Life.UNKNOWN, f"It runs, or ran, on {lease.host}, or before this machine was started: ask on {lease.host}."
