"""The settings as values: what `newhope.toml` says, typed, checked and frozen."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from msgspec import Struct


class Method(StrEnum):
    """How a recovery point's moment is fixed."""

    HOT = "hot"
    COLD = "cold"


class Host(Struct, frozen=True):
    """A hypervisor that libvirt manages."""

    name: str
    uri: str
    """libvirt connection URI."""
    places: dict[str, str] = {}
    """What this host depends on, by kind: `site`, `rack`, `power`, `switch`, `disk`, ..."""
    pool: str | None = None
    """Storage pool that restored disks go to when the operator names none."""
    scratch: Path | None = None
    """Folder on the host, writable by its QEMU, for backup sockets and scratch files."""


class Repository(Struct, frozen=True):
    """Where recovery points are kept."""

    name: str
    path: Path
    places: dict[str, str] = {}
    on_host: str | None = None
    """Name of the configured host whose machine keeps this repository, when the operator knows it."""


class Keep(Struct, frozen=True):
    """How many recovery points of a VM are kept: the last ones, and the newest of each hour, day, ... that has one."""

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0


class Level(Struct, frozen=True):
    """A set of recovery requirements and the VMs it is for."""

    name: str
    rpo_s: int
    """Acceptable data loss, in seconds."""
    rto_s: int
    """Tolerance for downtime, in seconds."""
    method: Method = Method.HOT
    copies: int = 1
    """How many repositories must hold the newest recovery point."""
    vms: tuple[str, ...] = ()
    """Name patterns (shell style) of the VMs this level is for; the first level in the file that matches wins."""
    default: bool = False
    """Whether VMs that no pattern matches get this level."""
    keep: Keep | None = None
    """Which recovery points are kept; None keeps all."""


class Settings(Struct, frozen=True):
    """Everything one `newhope.toml` says."""

    file: Path
    hosts: tuple[Host, ...]
    repositories: tuple[Repository, ...]
    levels: tuple[Level, ...]
    state: Path
    """Folder for the job journal and caches of this machine. Nothing in it is needed for a restore."""
