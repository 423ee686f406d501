"""How each disk is to be read: whole, or only what was written since an earlier recovery point.

A recovery point is complete by itself, however it was read; this decides only what the reading costs. The host's dirty
bitmap is believed where nothing speaks against it, and each disk for itself:

1. The parent is the newest recovery point of the VM in the same repository whose checkpoint the host still knows. For a
   VM that was restored it may be the point it was restored from: the restore began a bitmap before the first start. Of
   one that has moved the checkpoint stayed behind: the host is made to know it again if QEMU has the bitmaps
   (`checkpoint_left_behind`).
2. Checkpoints of other programs since then make the bitmaps doubtful: nobody knows what those did to them.
3. A disk that is new, smaller than it was or of another format, or whose image cannot keep a bitmap, is read whole.
   Of one that has grown the part behind its old end is read too, for no bitmap calls that dirty.
4. The host has the last word: where it has lost a bitmap (QEMU was killed, the image was edited), it says so when the
   moment is fixed (`hosts.pull_backup`).
5. What is believed all the same is sampled while it is copied (`changed_blocks`).

Pure: values in, values out.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from engine.fleet import format_bytes
from engine.hosts.checkpoints import KnownCheckpoint, is_own
from engine.hosts.model import Disk, Vm
from engine.repository import DiskRecord, Point


class DiskReading(Struct, frozen=True):
    """How one disk is to be read, and why."""

    target: str
    reason: str
    """Kept in the recovery point."""
    since: str | None = None
    """The checkpoint whose bitmap tells what was written; None to read all."""
    parent: DiskRecord | None = None
    """What the disk held at that checkpoint."""
    parent_point: str = ""
    """Original id of the recovery point with that checkpoint."""
    contradicted: str = ""
    """Original id of the point that a look at the disk has contradicted, for which it is read whole."""


class ReadingPlan(Struct, frozen=True):
    """How the disks of one VM are to be read."""

    disks: tuple[DiskReading, ...]
    parent: Point | None = None
    """The recovery point that parts are taken over from; None if every disk is read whole."""

    @property
    def since(self) -> dict[str, str]:
        """The checkpoint that is asked for, by target."""
        return {each.target: each.since for each in self.disks if each.since is not None}

    def of(self, target: str) -> DiskReading:
        """How one disk is to be read."""
        return next(each for each in self.disks if each.target == target)


def plan_reading(
    vm: Vm, disks: Iterable[Disk], points: Sequence[Point], known: Sequence[KnownCheckpoint]
) -> ReadingPlan:
    """How each of a VM's disks is to be read, given its recovery points in one repository and its checkpoints."""
    ours = {checkpoint.name: checkpoint for checkpoint in known if is_own(checkpoint.name)}
    newest_first = sorted(points, key=lambda point: point.manifest.moment, reverse=True)
    found = _parent(newest_first, ours)
    if found is None:
        own = [point for point in newest_first if point.manifest.vm.uuid == vm.uuid]
        why = _without_parent(vm, own)
        # That a disk can never keep one says more than that there is none.
        reasons = ((disk, _why_no_bitmaps(disk) if own and not disk.bitmaps_possible else why) for disk in disks)
        return ReadingPlan(tuple(_whole(disk, reason) for disk, reason in reasons))
    parent, checkpoint = found
    foreign = [each for each in known if not is_own(each.name) and each.created >= checkpoint.created]
    if foreign:
        why = f"another program has made the checkpoint {foreign[0].name} since {_named(parent)}"
        return read_whole(disks, why)
    readings = tuple(_reading(disk, parent, checkpoint) for disk in disks)
    return ReadingPlan(readings, parent if any(each.since is not None for each in readings) else None)


def checkpoint_left_behind(vm: Vm, points: Sequence[Point], known: Sequence[KnownCheckpoint]) -> KnownCheckpoint | None:
    """The checkpoint of the newest point that has one, if the host does not know it; its bitmaps may be there yet."""
    newest = max(
        (point for point in points if point.manifest.checkpoint is not None),
        key=lambda point: point.manifest.moment,
        default=None,
    )
    name = newest.manifest.checkpoint if newest is not None else None
    if newest is None or name is None or not is_own(name) or any(each.name == name for each in known):
        return None
    at_the_moment = {record.target for record in newest.manifest.disks}
    disks = tuple(disk.target for disk in vm.disks if disk.bitmaps_possible and disk.target in at_the_moment)
    return KnownCheckpoint(name, newest.manifest.moment, disks)


def read_whole(disks: Iterable[Disk], why: str) -> ReadingPlan:
    """Every disk is read whole, for one reason."""
    return ReadingPlan(tuple(_whole(disk, why) for disk in disks))


def whole(reading: DiskReading, why: str) -> DiskReading:
    """The same disk, to be read whole after all."""
    return DiskReading(reading.target, _full(why))


def distrusted(reading: DiskReading, what: str) -> DiskReading:
    """The same disk, to be read whole because a sample showed that its bitmap had missed a write."""
    why = f"full, for the dirty bitmap was wrong: {what}"
    return DiskReading(reading.target, why, contradicted=reading.parent_point)


def is_doubtful(disk: DiskRecord) -> bool:
    """Whether a disk was read whole because its dirty bitmap had missed a write."""
    return bool(disk.contradicted)


def step_to_version_3(disk: Disk) -> str:
    """The command that lets an old qcow2 image keep dirty bitmaps (qemu-img(1), "amend")."""
    return f"qemu-img amend -f qcow2 -o compat=1.1 {shlex.quote(disk.source or '')}"


def _parent(newest_first: Sequence[Point], ours: Mapping[str, KnownCheckpoint]) -> tuple[Point, KnownCheckpoint] | None:
    """The recovery point to count from, and the checkpoint that began at it."""
    for point in newest_first:
        if point.manifest.checkpoint is not None and point.manifest.checkpoint in ours:
            return point, ours[point.manifest.checkpoint]
    for checkpoint in ours.values():
        for point in newest_first:
            if checkpoint.restored_from == f"{point.manifest.vm.uuid}@{point.id}":
                return point, checkpoint
    return None


def _without_parent(vm: Vm, newest_first: Sequence[Point]) -> str:
    if not newest_first:
        return "it has no earlier recovery point in this repository"
    newest = newest_first[0]
    if newest.manifest.vm.host != vm.host:
        return f"{_named(newest)} was made on {newest.manifest.vm.host}, and its checkpoint did not come along"
    if all(point.manifest.checkpoint is None for point in newest_first):
        return "no earlier recovery point left a checkpoint"
    return f"{vm.host} does not know the checkpoint of an earlier recovery point any more"


def _reading(disk: Disk, parent: Point, checkpoint: KnownCheckpoint) -> DiskReading:
    record = next((each for each in parent.manifest.disks if each.target == disk.target), None)
    if not disk.bitmaps_possible:
        return _whole(disk, _why_no_bitmaps(disk))
    if record is None:
        return _whole(disk, f"it is new since {_named(parent)}")
    # What a restore had written is the recovery point's content, whatever the format of the image.
    if record.format != disk.format and not checkpoint.restored_from:
        return _whole(disk, f"its format was {record.format} at {_named(parent)}")
    if record.size_bytes > disk.capacity_bytes:
        return _whole(disk, f"its size was {record.size_bytes} bytes at {_named(parent)}, and is {disk.capacity_bytes}")
    if disk.target not in checkpoint.disks:
        return _whole(disk, f"no dirty bitmap was begun on it at {_named(parent)}")
    grown = disk.capacity_bytes - record.size_bytes
    more = f", and the {format_bytes(grown)} that it has grown by" if grown else ""
    return DiskReading(
        disk.target, f"what was written since {_named(parent)}{more}", checkpoint.name, record, parent.original_id
    )


def _why_no_bitmaps(disk: Disk) -> str:
    if disk.format == "qcow2":
        return (
            "its image is qcow2 of version 2, which keeps no dirty bitmap;"
            f" with the VM off, {step_to_version_3(disk)} makes it one that does"
        )
    return f"an image of this kind ({disk.format}) keeps no dirty bitmap"


def _whole(disk: Disk, why: str) -> DiskReading:
    return DiskReading(disk.target, _full(why))


def _full(why: str) -> str:
    return f"full: {why}"


def _named(point: Point) -> str:
    return f"{point.manifest.vm.name}@{point.id[:8]}"
