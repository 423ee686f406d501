"""What is asked of a sync and what it answers, as values that may leave the package."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from msgspec import Struct

from engine.repository.errors import RepositoryDamaged, RepositoryError
from engine.repository.model import Point, WriterLimits

STREAMS = 4


class SyncRequest(Struct, frozen=True):
    """Which recovery points are to be in the other repository too, and how that is to be made sure of."""

    vms: tuple[str, ...] = ()
    """Names or UUIDs; empty for all."""
    newest: int | None = None
    """Only so many of each VM, the newest; None for all."""
    verify: bool = False
    """Read everything back from the target and check it before a point is listed there."""
    delete: bool = False
    """Drop copies at the target whose point is not at the source any more."""
    streams: int = STREAMS
    """Blocks that are read at once."""


class SyncLimits(Struct, frozen=True):
    """What a sync may use."""

    writer: WriterLimits = WriterLimits(index_every_blocks=16384)
    """More index files than a backup's: a copy over a slow line is stopped and gone on with more often."""


class SyncPlan(Struct, frozen=True):
    """What a sync would do."""

    source: str
    target: str
    copies: tuple[Point, ...]
    """Points to copy, in the order in which they come: the newest of every VM first."""
    present: int
    """Points that were asked for and are there already."""
    data_bytes: int
    """What the points to copy restore to."""
    transfer_bytes: int | None
    """Estimate of what has to be stored at the target: the size it has at the source; None if not asked for. Cut into
    larger blocks it becomes more. What a run that was broken off left there is only found on the way."""
    drops: tuple[Point, ...]
    """Copies at the target to be dropped, if that was asked for."""
    unreadable: tuple[str, ...]
    """Manifests at the source that are damaged, and points whose maps are: they cannot be copied."""


class Copied(Struct, frozen=True):
    """One recovery point that has arrived."""

    point: Point
    """As it is listed at the target."""
    read_bytes: int
    """Content that had to be taken from the source."""
    new_bytes: int
    """What it added to the target's packs."""
    guards: int
    """Pins and protections that came with it."""


class Refused(Struct, frozen=True):
    """A recovery point that cannot be copied, and why."""

    vm: str
    id: str
    why: str


class Synced(Struct, frozen=True):
    """What a sync did."""

    copied: tuple[Copied, ...]
    present: int
    guards: int
    """Pins and protections that were added to points that were there before."""
    refused: tuple[Refused, ...]
    gone: int
    """Points that were dropped at the source while they were copied, or before their turn came."""
    dropped: tuple[Point, ...]
    """Copies that were dropped at the target."""


class PointRefused(RepositoryDamaged):
    """A recovery point cannot be read to its end at the source, so there is no copy of it."""


class ArrivalDamaged(RepositoryError):
    """What was read back from the target is not what was sent."""


Advance = Callable[[int], None]
"""That many more bytes of a point are done; may raise, to stop."""


class Watch(Protocol):
    """Who wants to know how far a sync is."""

    def point(self, point: Point) -> AbstractContextManager[Advance]:
        """A point is being copied."""
        ...


class Unwatched:
    """Nobody."""

    @contextmanager
    def point(self, point: Point) -> Generator[Advance]:
        """Nobody wants to know."""
        del point
        yield lambda _: None
