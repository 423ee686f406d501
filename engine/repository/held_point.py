"""A recovery point that somebody reads for long: its blocks stay, whoever drops it meanwhile.

To a collector, a restore is a writer that leans on the point (`pending`): it has a lease, renewed by a thread of its
own for as long as it takes, paused or not, and the point is announced under it. Both go at the end; of a process that
was killed the next writer or collector removes them.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, suppress

from engine.errors import NewhopeError, NotFound
from engine.repository.keys import Keys
from engine.repository.lease import WRITER, HeldLease
from engine.repository.model import Point
from engine.repository.pending import lean_on
from engine.repository.storage import Storage


@contextmanager
def held(storage: Storage, point: Point, owner: str, lease_s: float, keys: Keys | None = None) -> Generator[str]:
    """Keep what a point needs for the length of the context; gives why it cannot be kept, "" if it is.

    A repository that takes no new object can still be read. Raises `NotFound` for a point that was dropped already.
    """
    try:
        lease = HeldLease(storage, WRITER, owner, lease_s, keys)
    except NewhopeError as error:
        yield error.what
        return
    try:
        with _leaning(storage, lease, point, keys) as why_not:
            yield why_not
    finally:
        lease.release()


@contextmanager
def _leaning(storage: Storage, lease: HeldLease, point: Point, keys: Keys | None) -> Generator[str]:
    try:
        pending = lean_on(storage, lease.lease, point, keys)
    except NotFound as error:
        raise NotFound(
            f"The recovery point {point.manifest.vm.name}@{point.id} was dropped at this very moment.",
            next_step="choose another one: newhope points.",
        ) from error
    except NewhopeError as error:
        yield error.what
        return
    try:
        yield ""
    finally:
        # With credentials that may not delete, or a repository that went away, a collector does it.
        with suppress(NewhopeError):
            storage.delete(pending.key)
