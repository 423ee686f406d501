"""A fleet with one thing seen anew: how what was known before and what is known now become one picture."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec.structs import replace

from engine.fleet.model import Fleet, RepositoryView
from engine.hosts.model import HostSnapshot, HostStatus
from engine.repository.model import Point, PointKind
from engine.repository.point_names import of_kind


def remembered(snapshot: HostSnapshot, previous: HostSnapshot | None) -> HostSnapshot:
    """Return the snapshot; for a host that is silent now and answered before, its last answer, marked STALE.

    `taken_at` then stays the moment of that answer, and reason and next step are those of the silence. An answer of
    another machine (the URI was changed) is not remembered.
    """
    if snapshot.status is not HostStatus.OFFLINE or previous is None:
        return snapshot
    if previous.status is HostStatus.OFFLINE or previous.uri != snapshot.uri:
        return snapshot
    return replace(previous, status=HostStatus.STALE, reason=snapshot.reason, next_step=snapshot.next_step)


def with_snapshot(fleet: Fleet, snapshot: HostSnapshot) -> Fleet:
    """Return the fleet with one host seen anew, at its old place, or at the end if it is new."""
    places = [old.host for old in fleet.snapshots]
    if snapshot.host not in places:
        return replace(fleet, snapshots=(*fleet.snapshots, snapshot))
    snapshots = (remembered(snapshot, old) if old.host == snapshot.host else old for old in fleet.snapshots)
    return replace(fleet, snapshots=tuple(snapshots))


def with_repository(fleet: Fleet, view: RepositoryView, points: Iterable[Point]) -> Fleet:
    """Return the fleet with one repository seen anew, and its recovery points in place of those it had."""
    views = [view if old.name == view.name else old for old in fleet.repositories]
    if view not in views:
        views.append(view)
    others = (point for point in (*fleet.points, *fleet.guest_points) if point.repository != view.name)
    ordered = newest_first((*others, *points))
    return replace(
        fleet,
        repositories=tuple(views),
        points=of_kind(ordered, PointKind.VM),
        guest_points=of_kind(ordered, PointKind.GUEST),
    )


def newest_first(points: Iterable[Point]) -> tuple[Point, ...]:
    """Return points with the newest moment first; those of one moment in the order they came."""
    return tuple(sorted(points, key=lambda point: point.manifest.moment, reverse=True))
