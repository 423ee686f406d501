"""Which points a sync would copy, in which order, and which copies it would drop. Pure but for what it is given."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from engine.errors import NotFound
from engine.repository.model import Point, PointKind
from engine.repository.sync_model import SyncRequest


def wanted(points: Sequence[Point], request: SyncRequest, source: str) -> tuple[Point, ...]:
    """The points that are asked for, the newest of every VM first, then the ones before. Raises `NotFound`."""
    chosen = tuple(point for point in points if of_vms(point, request))
    for vm in request.vms:
        if not any(vm in (point.manifest.vm.name, point.manifest.vm.uuid) for point in points):
            names = sorted({point.manifest.vm.name for point in points})
            near = difflib.get_close_matches(vm, names, n=3)
            raise NotFound(
                f"The repository {source} has no recovery point of a VM {vm}.",
                next_step=f"did you mean {' or '.join(near)}?" if near else f"it has points of: {', '.join(names)}.",
            )
    ranked: list[tuple[int, float, Point]] = []
    seen: dict[tuple[str, PointKind], int] = {}
    for point in sorted(chosen, key=lambda point: (point.manifest.moment, point.id), reverse=True):
        rank = seen.get(_line(point), 0)
        seen[_line(point)] = rank + 1
        if request.newest is None or rank < request.newest:
            ranked.append((rank, -point.manifest.moment.timestamp(), point))
    return tuple(point for _, _, point in sorted(ranked, key=lambda item: item[:2]))


def of_vms(point: Point, request: SyncRequest) -> bool:
    """Whether a point is of a VM that is asked for."""
    return not request.vms or point.manifest.vm.name in request.vms or point.manifest.vm.uuid in request.vms


def by_original(points: Iterable[Point]) -> dict[tuple[str, str], Point]:
    """Points by what all copies of one have in common."""
    return {same_point(point): point for point in points}


def same_point(point: Point) -> tuple[str, str]:
    """Equal for a point and all its copies."""
    return point.manifest.vm.uuid, point.original_id


def _line(point: Point) -> tuple[str, PointKind]:
    """Which points one is the newest of: files of a guest never stand for its VM, nor the other way round."""
    return point.manifest.vm.uuid, point.manifest.kind


def to_drop(
    at_target: Sequence[Point],
    request: SyncRequest,
    source_id: str,
    at_source: frozenset[str],
    guarded: Iterable[str],
) -> tuple[Point, ...]:
    """Copies of points of that very source which it has no more. A VM's newest of each kind and what is guarded stay.

    `at_source` are the ids of all that lies there, also of what is damaged and so cannot be listed.
    """
    kept = set(guarded)
    newest: dict[tuple[str, PointKind], Point] = {}
    for point in at_target:
        best = newest.get(_line(point))
        if best is None or best.manifest.moment < point.manifest.moment:
            newest[_line(point)] = point
    kept |= {point.id for point in newest.values()}
    return tuple(
        point
        for point in at_target
        if point.manifest.origin is not None
        and point.manifest.origin.repository == source_id
        and point.manifest.origin.point not in at_source
        and point.id not in kept
        and of_vms(point, request)
    )
