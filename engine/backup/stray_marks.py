"""Checkpoints and dirty bitmaps of newhope that no recovery point needs any more.

A checkpoint is needed as long as a committed point names it, in whatever repository: the next backup to that one reads
what was written since. A backup takes the one before away when its own point is committed, so these are what dead jobs,
dropped points and lost repositories leave. Each costs the guest's QEMU memory, and time at each write.

A bitmap without a checkpoint is of no use to anybody: the VM was undefined, or libvirt has lost its records. Only
images at rest are looked into, and changed: QEMU alone may touch one in use.

Names of others are never touched. While a backup of any living program runs on the VM, nothing is: its checkpoint is
not committed yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.backup.leftovers import Leftover, LeftoverKind, left_on
from engine.backup.plan import data_disks
from engine.errors import NewhopeError
from engine.fleet import Fleet
from engine.hosts import HostLane, backup_job, checkpoints, image
from engine.hosts.checkpoints import CHAIN_DIGITS, KnownCheckpoint
from engine.hosts.model import Disk, Vm, VmState
from engine.hosts.owner import is_dead
from engine.repository import Point


def find(lane: HostLane, vm: Vm, fleet: Fleet) -> tuple[Leftover, ...]:
    """Marks of a VM that nobody needs. Raises HostUnreachable, HostRefused, MissingOnHost."""
    known = checkpoints.known_checkpoints(lane, vm.uuid)
    # Asked after that: a job that began in between has its checkpoint among the known ones already.
    work = backup_job.look(lane, vm.uuid)
    if work.job is not None and (work.job_owner is None or not is_dead(work.job_owner, lane)):
        return ()
    sound = [view for view in fleet.repositories if view.reachable and not view.damaged]
    chains = {view.info.id[:CHAIN_DIGITS] for view in sound if view.info is not None}
    all_seen = len(sound) == len(fleet.repositories)
    points = [point for point in fleet.points if point.manifest.vm.uuid == vm.uuid]
    needless = needless_checkpoints(known, points, chains, all_seen=all_seen)
    stray = _stray_bitmaps(lane, vm, known) if vm.state is VmState.OFF else ()
    return (*(_checkpoint(vm, name) for name in needless), *(_bitmap(vm, name) for name in stray))


def needless_checkpoints(
    known: Iterable[KnownCheckpoint], points: Sequence[Point], chains: Iterable[str], *, all_seen: bool
) -> tuple[str, ...]:
    """Names of newhope's checkpoints that none of a VM's points names. Pure.

    `chains` are those of the repositories that the points were read from. A checkpoint of another one stays, and one
    of none as long as not all were seen.
    """
    needed = {point.manifest.checkpoint for point in points}
    seen = set(chains)
    return tuple(
        each.name
        for each in known
        if checkpoints.is_own(each.name)
        and each.name not in needed
        and (checkpoints.chain_of(each.name) in seen or (all_seen and not checkpoints.chain_of(each.name)))
    )


def put_right(lane: HostLane, vm: Vm, leftover: Leftover) -> str:
    """Delete one; what was done, as a sentence. Raises HostUnreachable, HostRefused, ImageInUse."""
    name = leftover.name
    if leftover.kind is LeftoverKind.BITMAP:
        _remove_bitmaps(lane, vm, name)
        return f"Removed the dirty bitmap {name} from the disks of {vm.name}."
    if not checkpoints.delete(lane, vm.uuid, name):
        _delete_at_rest(lane, vm, name)
    return f"Deleted the checkpoint {name} of {vm.name}."


def _delete_at_rest(lane: HostLane, vm: Vm, name: str) -> None:
    """The same for a VM that is off, whose bitmaps libvirt does not reach.

    They go first: a checkpoint without bitmaps is found again, and forgotten then.
    """
    _remove_bitmaps(lane, vm, name)
    checkpoints.forget(lane, vm.uuid, name)


def _remove_bitmaps(lane: HostLane, vm: Vm, name: str) -> None:
    for disk in data_disks(vm):
        if disk.source is not None and name in _bitmaps(lane, disk):
            image.remove_bitmap(disk.source, disk.format, name, files=lane.files)


def _stray_bitmaps(lane: HostLane, vm: Vm, known: Iterable[KnownCheckpoint]) -> tuple[str, ...]:
    """Names of newhope's bitmaps in the images of a VM that is off, to which libvirt knows no checkpoint."""
    names = {each.name for each in known}
    found = {name for disk in data_disks(vm) for name in _bitmaps(lane, disk)}
    return tuple(sorted(name for name in found - names if checkpoints.is_own(name)))


def _bitmaps(lane: HostLane, disk: Disk) -> tuple[str, ...]:
    """Names of the bitmaps in an image; none where it cannot be looked into."""
    if disk.source is None or not disk.bitmaps_possible or not lane.files.reachable:
        return ()
    try:
        return tuple(each.name for each in image.info(disk.source, disk.format, files=lane.files).bitmaps)
    except NewhopeError:
        return ()


def _checkpoint(vm: Vm, name: str) -> Leftover:
    return left_on(
        vm,
        LeftoverKind.CHECKPOINT,
        what=f"No recovery point needs the checkpoint {name}.",
        remedy="Delete it with its dirty bitmaps; what later ones have recorded stays.",
        name=name,
    )


def _bitmap(vm: Vm, name: str) -> Leftover:
    return left_on(
        vm,
        LeftoverKind.BITMAP,
        what=f"Its disks hold the dirty bitmap {name}, whose checkpoint is gone.",
        remedy="Remove it from the images.",
        name=name,
    )
