"""Which ranges of which disks of which recovery points are lost: from maps and what is known of blocks, to ranges.

Nothing here reads a repository by itself. The caller says how a node of a map is read (`load`) and what stands in the
way of reading a block (`culprits`); what comes out is the plan that a repair begins with: everything outside of the
ranges can be restored, and the objects named with them are what would have to come back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from engine.repository.disk_map import blocks_of, height_of
from engine.repository.manifest import point_key
from engine.repository.model import DataRun, DiskRecord, FileRecord, Point
from engine.repository.shared_maps import Load, Reached, lost_blocks, versions_of
from engine.repository.verify_model import DiskLoss, PointName

Culprits = Callable[[bytes], tuple[str, ...]]
"""Keys of the objects whose damage makes a block unreadable; empty for a block that can be read."""
Step = Callable[[int, int], None]
"""Told how many bytes of disks and files were walked, of how many; versions of one disk count once."""


class _Versions(Struct):
    """A disk, or a file, as the recovery points have it that agree on its size."""

    size_bytes: int
    height: int
    name: str
    roots: list[str]
    points: list[Point]


class _Loss(Struct):
    """What one version has lost so far."""

    ranges: list[DataRun]
    objects: dict[str, None]


def disk_losses(
    points: Sequence[Point], block_bytes: int, load: Load, culprits: Culprits, step: Step = lambda done, total: None
) -> Iterator[DiskLoss]:
    """What the points have lost, disk by disk. A point that is whole does not appear."""
    groups = _grouped(points)
    total = sum(versions.size_bytes for versions in groups)
    done = 0
    for versions in groups:
        before = done
        yield from _losses_of(
            versions,
            block_bytes,
            load,
            culprits,
            lambda block, before=before: step(before + block * block_bytes, total),
        )
        done += versions.size_bytes
    step(done, total)


def point_name(point: Point) -> PointName:
    """How findings name a recovery point."""
    time, _, _ = point_key(point).rpartition("/")[2].partition("-")
    return PointName(point.manifest.vm.name, time, point.id)


def _grouped(points: Sequence[Point]) -> list[_Versions]:
    groups: dict[tuple[str, str, int, int], _Versions] = {}
    for point in points:
        for record in (*point.manifest.disks, *point.manifest.files):
            name = shown(record)
            key = (point.manifest.vm.uuid, name, record.size_bytes, record.map_height)
            group = groups.setdefault(key, _Versions(record.size_bytes, record.map_height, name, [], []))
            group.roots.append(record.map_root)
            group.points.append(point)
    return list(groups.values())


def _losses_of(
    versions: _Versions, block_bytes: int, load: Load, culprits: Culprits, reached: Reached
) -> Iterator[DiskLoss]:
    blocks = blocks_of(versions.size_bytes, block_bytes)
    if versions.height != height_of(blocks):
        whole = DataRun(0, versions.size_bytes)
        for point in versions.points:
            yield DiskLoss(point_name(point), versions.name, versions.size_bytes, (whole,), (point_key(point),))
        return
    found: dict[int, _Loss] = {}
    walked = lost_blocks(versions.roots, versions.height, blocks, load, lambda name: bool(culprits(name)), reached)
    for lost in walked:
        objects = dict.fromkeys(culprits(lost.name))
        start = lost.first * block_bytes
        end = min((lost.first + lost.blocks) * block_bytes, versions.size_bytes)
        for version in versions_of(lost.versions):
            loss = found.setdefault(version, _Loss([], {}))
            append_range(loss.ranges, start, end)
            loss.objects.update(objects)
    for version, loss in sorted(found.items()):
        point = versions.points[version]
        ranges = tuple(loss.ranges)
        yield DiskLoss(point_name(point), versions.name, versions.size_bytes, ranges, tuple(sorted(loss.objects)))


def append_range(ranges: list[DataRun], start: int, end: int) -> None:
    """Add a range that begins behind the others, or where the last one ends."""
    if ranges and ranges[-1].offset + ranges[-1].length == start:
        ranges[-1] = DataRun(ranges[-1].offset, end - ranges[-1].offset)
    else:
        ranges.append(DataRun(start, end - start))


def shown(record: DiskRecord | FileRecord) -> str:
    """How losses name a disk or a file."""
    return record.target if isinstance(record, DiskRecord) else f"{record.role} {record.name}"
