"""The five volumes of a recovery point, each with its size: what an operator counts when a host is gone.

Host configuration, VM definition, virtual disks, virtual networks, saved state: every disk and file of a manifest
belongs to one of them, by its role, so that nothing that is kept goes uncounted. A role that this version does not know
yet counts to the VM definition: a VM came with it.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from engine.repository.model import Manifest


class VolumeKind(StrEnum):
    """Which of the five, in the order in which a host is built up again."""

    HOST_CONFIGURATION = "host configuration"
    VM_DEFINITION = "VM definition"
    VIRTUAL_DISKS = "virtual disks"
    VIRTUAL_NETWORKS = "virtual networks"
    SAVED_STATE = "saved state"


class Volume(Struct, frozen=True):
    """One of the five volumes."""

    kind: VolumeKind
    size_bytes: int
    """What it holds and a restore brings back: of disks, what is not zero."""
    parts: tuple[str, ...]
    """What is in it: roles of files, targets of disks; each once."""


_OF_ROLE = {
    "host": VolumeKind.HOST_CONFIGURATION,
    "capabilities": VolumeKind.HOST_CONFIGURATION,
    "pool": VolumeKind.HOST_CONFIGURATION,
    "network": VolumeKind.VIRTUAL_NETWORKS,
    "filter": VolumeKind.VIRTUAL_NETWORKS,
    "saved-state": VolumeKind.SAVED_STATE,
}


def five_volumes(manifest: Manifest) -> tuple[Volume, ...]:
    """All five, also those of which the recovery point has nothing."""
    found = [
        *((VolumeKind.VIRTUAL_DISKS, disk.data_bytes, disk.target) for disk in manifest.disks),
        *((volume_of(file.role), file.size_bytes, file.role) for file in manifest.files),
    ]
    return tuple(
        Volume(
            kind,
            sum(size_bytes for of, size_bytes, _ in found if of is kind),
            tuple(dict.fromkeys(part for of, _, part in found if of is kind)),
        )
        for kind in VolumeKind
    )


def volume_of(role: str) -> VolumeKind:
    """The volume that a file of this role belongs to."""
    return _OF_ROLE.get(role, VolumeKind.VM_DEFINITION)
