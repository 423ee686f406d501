"""Whether there is room for what a restore writes, pool by pool; and whether a device may be written over. Pure.

Needed in a pool are the bytes that are written, or the disks' whole size where the pool makes no sparse volumes; with
what other restores of this machine have yet to write there. A tenth of what is written must remain.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.fleet import FILLS_UP, FULL, RESERVE_PERCENT, CheckState, FitnessCheck, format_bytes, virsh
from engine.hosts.model import HostSnapshot, Pool
from engine.hosts.volumes import holds_files
from engine.repository import Point
from engine.restore.evidence import OtherJob
from engine.restore.model import Request
from engine.restore.steps import BOOT_FILES, MEMORY


def space_checks(
    point: Point, target: HostSnapshot, request: Request, others: Sequence[OtherJob]
) -> list[FitnessCheck]:
    """One check for each pool, and for each device."""
    names = list(dict.fromkeys([request.pool, *(disk.pool for disk in request.disks if disk.pool)]))
    checks: list[FitnessCheck] = []
    for name in names:
        title = "pool" if name == request.pool else f"pool {name}"
        checks += _pool(title, name, point, target, request, others)
    return [*checks, *_devices(target, request)]


def _pool(
    title: str, name: str, point: Point, target: HostSnapshot, request: Request, others: Sequence[OtherJob]
) -> list[FitnessCheck]:
    pool = next((each for each in target.pools if each.name == name), None)
    active = [each for each in target.pools if each.active]
    if pool is None or not pool.active:
        known = ", ".join(each.name for each in active) or "none"
        other = f"choose another: --pool {active[0].name}" if active else f"`{virsh(target)} pool-list --all`"
        return [
            FitnessCheck(
                name=title,
                state=CheckState.FAIL,
                evidence=f"{target.host} has no active pool {name}; active are: {known}",
                remedy=f"`{virsh(target)} pool-start {name}`, or {other}" if pool is not None else other,
                changeable=bool(active),
                meaning="there is nowhere to write to: the restore stops before it writes anything",
            )
        ]
    needed = needed_bytes(point, request, pool)
    reserved = sum(job.to_write_bytes for job in others if (job.host, job.pool) == (target.host, name))
    return [_room(title, pool, target, needed, reserved), *_growth(title, pool, point, request, needed, reserved)]


def needed_bytes(point: Point, request: Request, pool: Pool) -> int:
    """What a decided restore writes into a pool: its disks there, and the files beside them in the first one.

    Of a VM that stays on what is served, only what its guest writes meanwhile takes room.
    """
    sparse = holds_files(pool.kind)
    here = {disk.target for disk in request.disks if disk.pool == pool.name and request.move}
    disks = sum(disk.data_bytes if sparse else disk.size_bytes for disk in point.manifest.disks if disk.target in here)
    if pool.name != request.pool or not request.defines:
        return disks
    roles = (*BOOT_FILES, *((MEMORY,) if request.memory else ()))
    return disks + sum(file.size_bytes for file in point.manifest.files if file.role in roles)


def _room(title: str, pool: Pool, target: HostSnapshot, needed: int, reserved: int) -> FitnessCheck:
    free = pool.available_bytes - reserved
    beside = f", of which other restores will write {format_bytes(reserved)}" if reserved else ""
    evidence = f"{format_bytes(needed)} to write, {format_bytes(pool.available_bytes)} free in pool {pool.name}{beside}"
    larger = [each.name for each in target.pools if each.active and each.available_bytes >= needed and each != pool]
    other = f", or choose another: --pool {larger[0]}" if larger else ""
    room = f"make room in pool {pool.name} on {target.host}{other}"
    if free < needed:
        return FitnessCheck(title, CheckState.FAIL, evidence, room, bool(larger), FULL)
    if free < needed + needed * RESERVE_PERCENT // 100:
        few = f"{evidence}: less than {RESERVE_PERCENT} % of it would remain"
        return FitnessCheck(title, CheckState.WARN, few, room, meaning=FILLS_UP, by_name=True)
    return FitnessCheck(title, CheckState.PASS, evidence)


def _growth(title: str, pool: Pool, point: Point, request: Request, needed: int, reserved: int) -> list[FitnessCheck]:
    """Thin volumes grow when their guest writes, up to the size of the disk."""
    here = {disk.target for disk in request.disks if disk.pool == pool.name}
    whole = sum(disk.size_bytes for disk in point.manifest.disks if disk.target in here)
    left = pool.available_bytes - reserved
    if not holds_files(pool.kind) or whole <= needed or whole <= left or left < needed:
        return []
    evidence = (
        f"its disks take {format_bytes(needed)} now and may grow to {format_bytes(whole)}, and pool {pool.name} has"
        f" {format_bytes(left)}"
    )
    remedy = "watch the pool, or make room in it; a larger one: --pool NAME"
    return [FitnessCheck(title.replace("pool", "growth", 1), CheckState.WARN, evidence, remedy, meaning=FILLS_UP)]


def _devices(target: HostSnapshot, request: Request) -> list[FitnessCheck]:
    checks: list[FitnessCheck] = []
    for device in (disk.device for disk in request.disks if disk.device):
        owners = [vm.name for vm in target.vms if any(disk.source == device for disk in vm.disks)]
        if request.through_libvirt:
            evidence = f"{target.host} runs no qemu-nbd for us, through which alone {device} could be written"
            meaning = "nothing could be written to it"
            checks.append(FitnessCheck("device", CheckState.FAIL, evidence, "choose a pool", meaning=meaning))
        elif owners:
            evidence = f"{device} on {target.host} is a disk of {', '.join(owners)}"
            remedy = "choose another device, or a pool"
            meaning = f"the disk of {', '.join(owners)} would be lost"
            checks.append(FitnessCheck("device", CheckState.FAIL, evidence, remedy, meaning=meaning))
        else:
            evidence = f"all of {device} on {target.host} is overwritten, whatever it holds"
            remedy = f"be sure: `lsblk -f {device}`"
            meaning = "what it holds now is lost for good; no undo brings it back"
            checks.append(FitnessCheck("device", CheckState.WARN, evidence, remedy, meaning=meaning, by_name=True))
    return checks
