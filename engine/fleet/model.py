"""The fleet as one value: what was seen, when, and what could not be seen, with why."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from engine.hosts.model import HostSnapshot
from engine.repository.model import DamagedObject, Point, RepositoryInfo
from engine.repository.proofs import ProofMark
from engine.repository.verify_state import VerifiedLast


class RepositoryView(Struct, frozen=True):
    """A configured repository as it was found, or why it was not."""

    name: str
    path: str
    reachable: bool
    reason: str | None = None
    next_step: str | None = None
    info: RepositoryInfo | None = None
    device: str | None = None
    """The disks below it, in a form that is equal for two paths on the same disks of one machine; None if unknown."""
    machine_id: str | None = None
    """Machine whose disks hold it; None if that is unknown or elsewhere (a network file system)."""
    damaged: tuple[DamagedObject, ...] = ()
    """What failed its checks while it was looked into; a damaged recovery point is not among the fleet's points."""
    proofs: tuple[ProofMark, ...] = ()
    """Every proof that is kept in it."""
    verified: VerifiedLast | None = None
    """The newest verification of it that came to its end."""


class DiskDevice(Struct, frozen=True):
    """What lies below a VM's disk whose host shares this machine's files."""

    host: str
    source: str
    """Path as in the VM's disk."""
    device: str
    """As in `RepositoryView.device`."""


class Fleet(Struct, frozen=True):
    """Every host, VM and recovery point, gathered side by side."""

    taken_at: datetime
    snapshots: tuple[HostSnapshot, ...]
    """One for each configured host, in the order of the settings."""
    repositories: tuple[RepositoryView, ...]
    """One for each configured repository, in the order of the settings."""
    points: tuple[Point, ...]
    """All recovery points of the repositories that could be reached, newest first. A VM comes back from each."""
    disk_devices: tuple[DiskDevice, ...] = ()
    guest_points: tuple[Point, ...] = ()
    """Recovery points of files from inside guests, newest first. They protect no VM, so they are not among `points`."""
