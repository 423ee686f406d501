"""Checkpoints and dirty bitmaps of newhope that no recovery point needs any more.

A checkpoint is needed as long as a committed point names it, in whatever repository: the next backup to that one reads
what was written since. A backup takes the one before away when its own point is committed, so these are what dead jobs,
dropped points and lost repositories leave. Each costs the guest's QEMU memory, and time at each write.

A bitmap without a checkpoint is of no use to anybody: the VM was undefined, or libvirt has lost its records, or died
before it made them. Of a VM that is off they are found in the images, and removed there. Of one that runs the images
tell only of those that an earlier run left; the newest are known from the notes of what was about to be begun
(`vm_notes`). QEMU alone may touch these: libvirt is made to know them again, and deletes them
(`checkpoints.take_away`).

Names of others are never touched. While a backup of any living program runs on the VM, nothing is: its checkpoint is
not committed yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.backup.leftovers import Leftover, LeftoverKind, StillLeft, left_on
from engine.backup.plan import data_disks, tracked_targets
from engine.backup.vm_notes import VmNotes
from engine.errors import NewhopeError
from engine.fleet import Fleet
from engine.hosts import HostLane, backup_job, checkpoints, image
from engine.hosts.checkpoints import CHAIN_DIGITS, KnownCheckpoint
from engine.hosts.model import Disk, Vm, VmState
from engine.hosts.owner import is_dead
from engine.repository import Point

_IN_USE = (VmState.RUNNING, VmState.PAUSED)


def find(lane: HostLane, vm: Vm, fleet: Fleet, notes: VmNotes) -> tuple[Leftover, ...]:
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
    stray = needless_bitmaps(_stray_bitmaps(lane, vm, known), points, chains, all_seen=all_seen)
    begun = [name for name in _begun(vm, known, notes) if name not in stray] if vm.state in _IN_USE else ()
    return (
        *(_checkpoint(vm, name) for name in needless),
        *(_bitmap(vm, name, f"Its disks hold the dirty bitmap {name}, whose checkpoint is gone.") for name in stray),
        *(
            _bitmap(vm, name, f"A backup died when it began the dirty bitmap {name}, which libvirt knows nothing of.")
            for name in begun
        ),
    )


def needless_checkpoints(
    known: Iterable[KnownCheckpoint], points: Sequence[Point], chains: Iterable[str], *, all_seen: bool
) -> tuple[str, ...]:
    """Names of newhope's checkpoints that none of a VM's points names. Pure.

    `chains` are those of the repositories that the points were read from. A checkpoint of another one stays, and one
    of none as long as not all were seen.
    """
    needed = {point.manifest.checkpoint for point in points}
    return _needless((each.name for each in known), needed, chains, all_seen=all_seen)


def needless_bitmaps(
    names: Iterable[str], points: Iterable[Point], chains: Iterable[str], *, all_seen: bool
) -> tuple[str, ...]:
    """Those of bitmaps without a checkpoint that no backup will count from. Pure.

    The next backup to a repository makes libvirt know the bitmap of the newest point there again: a VM that has moved
    brought it along, and left the checkpoint behind (`reading`).
    """
    newest: dict[str, Point] = {}
    for point in sorted(points, key=lambda point: point.manifest.moment):
        if point.manifest.checkpoint is not None:
            newest[point.repository] = point
    needed = {point.manifest.checkpoint for point in newest.values()}
    return _needless(names, needed, chains, all_seen=all_seen)


def _needless(
    names: Iterable[str], needed: set[str | None], chains: Iterable[str], *, all_seen: bool
) -> tuple[str, ...]:
    seen = set(chains)
    return tuple(
        name
        for name in names
        if checkpoints.is_own(name)
        and name not in needed
        and (checkpoints.chain_of(name) in seen or (all_seen and not checkpoints.chain_of(name)))
    )


def put_right(lane: HostLane, vm: Vm, leftover: Leftover, notes: VmNotes) -> str:
    """Delete one; what was done, as a sentence. Raises HostUnreachable, HostRefused, ImageInUse, StillLeft."""
    done = _put_right(lane, vm, leftover)
    notes.end_mark(vm.host, vm.uuid, leftover.name)
    return done


def take_back_begun(lane: HostLane, vm: Vm, notes: VmNotes) -> tuple[str, ...]:
    """Remove the bitmaps that dead processes were about to begin and of which libvirt knows no checkpoint; their names.

    Those that it knows go as checkpoints do. Raises HostUnreachable, HostRefused, ImageInUse, StillLeft.
    """
    left = notes.marks_left(vm.host, vm.uuid)
    begun = _begun(vm, checkpoints.known_checkpoints(lane, vm.uuid), notes) if left else ()
    for name in begun:
        _take_away_bitmaps(lane, vm, name)
    for name in left:
        notes.end_mark(vm.host, vm.uuid, name)
    return begun


def _put_right(lane: HostLane, vm: Vm, leftover: Leftover) -> str:
    name = leftover.name
    if leftover.kind is LeftoverKind.BITMAP:
        _take_away_bitmaps(lane, vm, name)
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


def _take_away_bitmaps(lane: HostLane, vm: Vm, name: str) -> None:
    if vm.state not in _IN_USE:
        _remove_bitmaps(lane, vm, name)
        return
    checkpoints.take_away(lane, vm.uuid, name, tracked_targets(vm))
    if any(name in _bitmaps(lane, disk) for disk in data_disks(vm)):
        raise StillLeft(
            f"The dirty bitmap {name} of {vm.name} is not one that libvirt removes while the VM runs.",
            untouched="The VM runs on; the bitmap costs it some memory, and nothing reads it.",
            next_step="Once it is off: newhope doctor --repair.",
        )


def _remove_bitmaps(lane: HostLane, vm: Vm, name: str) -> None:
    for disk in data_disks(vm):
        if disk.source is not None and name in _bitmaps(lane, disk):
            image.remove_bitmap(disk.source, disk.format, name, files=lane.files)


def _begun(vm: Vm, known: Iterable[KnownCheckpoint], notes: VmNotes) -> tuple[str, ...]:
    """Names of bitmaps that dead processes were about to begin, to which libvirt knows no checkpoint."""
    names = {each.name for each in known}
    return tuple(name for name in notes.marks_left(vm.host, vm.uuid) if name not in names and checkpoints.is_own(name))


def _stray_bitmaps(lane: HostLane, vm: Vm, known: Iterable[KnownCheckpoint]) -> tuple[str, ...]:
    """Names of newhope's bitmaps in the images of a VM, to which libvirt knows no checkpoint."""
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


def _bitmap(vm: Vm, name: str, what: str) -> Leftover:
    return left_on(vm, LeftoverKind.BITMAP, what=what, remedy="Remove it, where it is.", name=name)
