"""Names of the volumes that a restore makes, beside those that its decided disks have."""

from __future__ import annotations

from pathlib import Path

from engine.repository import Manifest
from engine.restore.host_note import note_name
from engine.restore.journal import MadeVolume
from engine.restore.model import Request
from engine.restore.steps import BOOT_FILES, Step, StepKind


def boot_volume(request: Request, role: str, name: str) -> str:
    """Name of the volume that a file beside the disks becomes."""
    return f"{request.name}-{request.id}-{role}-{Path(name).name}"


def overlay_volume(request: Request, target: str) -> str:
    """Name of the layer over the recovery point through which an instant restore has a disk."""
    return f"{request.name}-{request.id}-{target}.layer.qcow2"


def memory_volume(request: Request) -> str:
    """Name of the volume that the guest's memory is put into."""
    return f"{request.name}-{request.id}-memory"


def made_volumes(manifest: Manifest, request: Request) -> tuple[MadeVolume, ...]:
    """Every volume that a decided restore makes, and the step that makes it."""
    note = MadeVolume(Step(StepKind.NOTE).key, request.pool, note_name(request.id))
    kind = StepKind.OVERLAY if request.instant else StepKind.WRITE
    disks = [
        MadeVolume(Step(kind, disk.target).key, disk.pool, name)
        for disk in request.disks
        if not disk.device
        for name in (disk.volume, *((overlay_volume(request, disk.target),) if request.instant else ()))
    ]
    files = [
        MadeVolume(Step(StepKind.BOOT_FILES).key, request.pool, boot_volume(request, file.role, file.name))
        for file in manifest.files
        if file.role in BOOT_FILES and request.defines
    ]
    memory = [MadeVolume(Step(StepKind.MEMORY).key, request.pool, memory_volume(request))] if request.memory else []
    return (note, *disks, *files, *memory)
