"""The small files beside the disks: NVRAM, kernel, initial RAM disk, each a volume of the restored VM's own."""

from __future__ import annotations

from engine.hosts import volumes
from engine.jobs import StepHandle
from engine.restore.made_names import boot_volume
from engine.restore.salvage import file_or_none
from engine.restore.steps import BOOT_FILES, Step
from engine.restore.work import Work


def put(work: Work, step: Step, handle: StepHandle) -> str:
    """Write all of them; one that is there from a run that was cut off is written anew."""
    for file in work.point.manifest.files:
        if file.role not in BOOT_FILES:
            continue
        warnings: list[str] = []
        content = file_or_none(work.reader, file, warnings) if work.request.salvage else work.reader.file(file)
        for text in warnings:
            work.warn(text)
        if content is None:
            continue
        name = boot_volume(work.request, file.role, file.name)
        volumes.delete(work.lane, work.request.pool, name)
        volumes.put_file(work.lane, work.request.pool, name, content)
    return ""


def paths(work: Work) -> dict[str, str]:
    """Where each of them lies, by role."""
    found: dict[str, str] = {}
    for file in work.point.manifest.files:
        if file.role in BOOT_FILES:
            name = boot_volume(work.request, file.role, file.name)
            if volumes.exists(work.lane, work.request.pool, name):
                found[file.role] = volumes.path_of(work.lane, work.request.pool, name)
    return found
