"""Which recovery points may have missed a write: a state that follows from what was found out later.

Where a look at a disk contradicts its dirty bitmap, the disk is read whole, and that point is right. But the bitmap may
have been wrong for long: every point that took something over since the disk was last read whole before may hold,
somewhere, older content than that of its moment. That one, and all points before it, are not touched by the doubt.

Pure: points in, sentences out. What is doubted is never deleted or hidden for it: it may be all that there is.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.repository.model import DiskRecord, Point


def doubts(points: Iterable[Point]) -> dict[str, str]:
    """Why a point may have missed a write, by its original id; of points of any VMs and repositories."""
    of_vm: dict[str, dict[str, Point]] = {}
    for point in points:
        of_vm.setdefault(point.manifest.vm.uuid, {}).setdefault(point.original_id, point)
    found: dict[str, str] = {}
    for by_id in of_vm.values():
        for point in by_id.values():
            for disk in point.manifest.disks:
                if disk.contradicted:
                    for each in _touched(point, disk, by_id):
                        found.setdefault(each, _why(point, disk))
    return found


def _touched(finder: Point, found_on: DiskRecord, by_id: dict[str, Point]) -> list[str]:
    """The points, by original id, that took something of this disk over before it was contradicted."""
    target = found_on.target
    before = {
        key: (point.manifest.moment, record.taken_over_from)
        for key, point in by_id.items()
        if point.manifest.moment < finder.manifest.moment and (record := _record(point, target)) is not None
    }
    # From parent to parent to the point that was read whole, or as far as they have not been dropped.
    earliest, parent = finder.manifest.moment, found_on.contradicted
    while parent in before:
        earliest, parent = before[parent]
    whole = [moment for moment, taken_over_from in before.values() if not taken_over_from and moment <= earliest]
    return [
        key
        for key, (moment, taken_over_from) in before.items()
        if taken_over_from and (not whole or moment > max(whole))
    ]


def _record(point: Point, target: str) -> DiskRecord | None:
    return next((disk for disk in point.manifest.disks if disk.target == target), None)


def _why(finder: Point, disk: DiskRecord) -> str:
    name = f"{finder.manifest.vm.name}@{finder.original_id[:8]}"
    return f"{disk.target} may hold older content in places: {name} found that its dirty bitmap had missed a write"
