"""Whether a restore can start its VM before its disks are there. Pure."""

from __future__ import annotations

from engine.fleet import CheckState, FitnessCheck
from engine.hosts.model import HostSnapshot
from engine.hosts.volumes import holds_files
from engine.repository import Point
from engine.restore.model import Request


def instant_checks(point: Point, target: HostSnapshot, request: Request) -> list[FitnessCheck]:
    """Whether the VM can start over the recovery point, as this machine serves it."""
    if not request.instant:
        return []
    against = against_instant(point, target, request)
    if against:
        evidence = f"it cannot start at once: {'; '.join(against)}"
        remedy = "leave --instant out: its disks are written first, and then it starts"
        meaning = "it would be refused, or its guest would lose its disks while it runs"
        return [FitnessCheck("instant start", CheckState.FAIL, evidence, remedy, True, meaning)]
    until = "until its disks are moved" if request.move else "as long as it is there"
    link = "" if target.facts is None or target.facts.local else ", the link between them"
    evidence = f"{until} it needs this machine{link} and repository {request.repository}"
    return [FitnessCheck("instant start", CheckState.PASS, f"{evidence}: without them its guest pauses, and waits")]


def against_instant(point: Point, target: HostSnapshot, request: Request) -> tuple[str, ...]:
    """Everything that forbids it, in words; nothing if it can."""
    facts = target.facts
    kinds = {pool.name: pool.kind for pool in target.pools}
    reasons = {
        "only a VM can be started, and none is asked for": not request.defines,
        "a VM that is not started gains nothing by it": request.defines and not request.start,
        "it has no disk": not point.manifest.disks,
        "its memory belongs to disks that are whole": bool(request.memory),
        "what cannot be read would stop its guest, and is not skipped as a salvage does": request.salvage,
        "its disks are not there to be read again before it starts": request.verify,
        "a device of the host cannot be begun over the point": any(disk.device for disk in request.disks),
        f"{target.host} cannot connect to what this machine serves: newhope has no shell there, only its libvirt": facts
        is not None
        and not facts.way.has_files,
        f"qemu-img, which makes the layers of its disks, is missing on {target.host}": facts is not None
        and not facts.local
        and "qemu-img" in facts.missing_programs,
        "the volumes of its pool are no files": any(
            disk.pool in kinds and not holds_files(kinds[disk.pool]) for disk in request.disks
        ),
    }
    return tuple(reason for reason, holds in reasons.items() if holds)
