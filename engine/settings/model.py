"""The settings as values: what `newhope.toml` says, typed, checked and frozen."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote, urlencode

from msgspec import Struct

DEFAULT_SCRATCH_FLOOR_BYTES = 1 << 30


class Method(StrEnum):
    """How a recovery point's moment is fixed."""

    HOT = "hot"
    """While the guest runs."""
    COLD = "cold"
    """Shut down cleanly, started again at once."""
    PAUSED = "paused"
    """While the guest's CPUs stand still for a moment."""
    MEMORY = "memory"
    """The same, and its memory is kept with the disks, so that a restore goes on where it stood."""


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
    scratch_floor_bytes: int = DEFAULT_SCRATCH_FLOOR_BYTES
    """A hot backup does not begin, and ends, when less than this is free there: others live on that disk."""
    ssh_config: Path | None = None
    """Configuration of ssh to reach it with, instead of the user's own."""
    backups_at_once: int = 1
    """How many of its VMs are backed up side by side at most, when several are asked for in one go."""


class ObjectStorage(Struct, frozen=True):
    """A bucket of S3-compatible storage, and how to get there. Never holds a secret."""

    url: str
    """`s3://BUCKET/PREFIX`."""
    endpoint: str | None = None
    """URL of the server; None means AWS, unless the user's environment names another."""
    region: str | None = None
    profile: str | None = None
    """Section of the user's AWS files that holds the credentials."""


class BandwidthHours(Struct, frozen=True):
    """A limit for some hours of each day, in minutes after local midnight; one that ends first goes over midnight."""

    start: int
    end: int
    """The first minute that does not belong to it; 1440 is midnight."""
    limit: int | None
    """Bytes a second; None for none."""


class Bandwidth(Struct, frozen=True):
    """How fast a repository may be synced: read from, written to."""

    limit: int | None = None
    """Bytes a second when no hours say otherwise; None for no limit."""
    hours: tuple[BandwidthHours, ...] = ()
    """They do not overlap."""


class Repository(Struct, frozen=True):
    """Where recovery points are kept."""

    name: str
    path: Path
    """Its folder. What lies in object storage has none: ask `folder` or `location`, which know both kinds."""
    places: dict[str, str] = {}
    on_host: str | None = None
    """Name of the configured host whose machine keeps this repository, when the operator knows it."""
    object_storage: ObjectStorage | None = None
    """Where it is instead of in a folder."""
    bandwidth: Bandwidth = Bandwidth()
    """What `newhope repo sync` may use of it. Backups and restores are never held back."""
    passphrase_file: Path | None = None
    """File with the passphrase of an encrypted repository."""
    passphrase_command: tuple[str, ...] = ()
    """Program, with arguments, that prints the passphrase."""
    backups_at_once: int = 2
    """How many backups are written to it side by side at most, when several are asked for in one go."""
    allow_plain: bool = False
    """Whether it may take disks that their host keeps encrypted although it is not encrypted itself."""

    @property
    def names_passphrase_source(self) -> bool:
        """Whether the settings say where its passphrase comes from, so that it can only be an encrypted one."""
        return self.passphrase_file is not None or bool(self.passphrase_command)

    @property
    def folder(self) -> Path | None:
        """Its folder, if it is in one."""
        return self.path if self.object_storage is None else None

    @property
    def location(self) -> str:
        """All that is needed to open it: its folder, or the whole address of its bucket."""
        if self.object_storage is None:
            return str(self.path)
        storage = self.object_storage
        values = {"endpoint": storage.endpoint, "region": storage.region, "profile": storage.profile}
        query = urlencode({name: value for name, value in values.items() if value}, safe=":/")
        return quote(storage.url, safe=":/") + (f"?{query}" if query else "")


class Keep(Struct, frozen=True):
    """How many recovery points of a VM are kept: the last ones, and the newest of each hour, day, ... that has one."""

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0


class Rules(Struct, frozen=True):
    """Which VMs something is for: those that any of these is true of."""

    vms: tuple[str, ...] = ()
    """Patterns of names, shell style."""
    hosts: tuple[str, ...] = ()
    """Patterns of the names of the hosts that they are on."""
    tags: tuple[str, ...] = ()
    """Words that they carry in their definition, whole."""


SHUTDOWN_TIMEOUT_S = 180
CHECK_TIME_LIMIT_S = 60


class CommandCheck(Struct, frozen=True, tag="command"):
    """A program in the guest must end with exit status 0."""

    name: str
    words: tuple[str, ...] = ()
    """Program and arguments, started as they are."""
    line: str = ""
    """A line for the guest's shell, instead of `words`."""
    time_limit_s: int = CHECK_TIME_LIMIT_S
    """How long it may take to succeed, with every further attempt."""

    @property
    def what(self) -> str:
        """What is checked, in words."""
        return f"`{self.line or ' '.join(self.words)}` succeeds"


class PortCheck(Struct, frozen=True, tag="port"):
    """Something in the guest must listen on a TCP port."""

    name: str
    port: int
    time_limit_s: int = CHECK_TIME_LIMIT_S

    @property
    def what(self) -> str:
        """What is checked, in words."""
        return f"something listens on TCP port {self.port}"


class FileCheck(Struct, frozen=True, tag="file"):
    """A file must be there in the guest."""

    name: str
    path: str
    min_size_bytes: int | None = None
    max_age_s: int | None = None
    """How long before the recovery point's moment it may have been written last."""
    time_limit_s: int = CHECK_TIME_LIMIT_S

    @property
    def what(self) -> str:
        """What is checked, in words."""
        return f"{self.path} is there"


GuestCheck = CommandCheck | PortCheck | FileCheck
"""What is asked of a guest that was booted to prove a recovery point."""


class Level(Struct, frozen=True):
    """A set of recovery requirements and the VMs it is for."""

    name: str
    rpo_s: int
    """Acceptable data loss, in seconds."""
    rto_s: int
    """Tolerance for downtime, in seconds."""
    method: Method = Method.HOT
    shutdown_timeout_s: int = SHUTDOWN_TIMEOUT_S
    """How long a cold backup waits for a guest to shut down."""
    hot_if_ignored: bool = False
    """Whether a guest that ignores its shutdown is backed up while it runs, instead of not at all."""
    copies: int = 1
    """How many repositories must hold the newest recovery point."""
    vms: tuple[str, ...] = ()
    """Name patterns (shell style) of the VMs this level is for; the first level in the file that matches wins."""
    hosts: tuple[str, ...] = ()
    """Name patterns of hosts whose VMs this level is for."""
    tags: tuple[str, ...] = ()
    """Tags of the VMs this level is for."""
    default: bool = False
    """Whether VMs that no rule matches get this level."""
    keep: Keep | None = None
    """Which recovery points are kept; None keeps all."""
    prove_every_s: int | None = None
    """How old the last proof of a VM may get; None: only when it is asked for."""
    checks: tuple[GuestCheck, ...] = ()
    """What a guest is asked that is booted to prove a recovery point."""

    @property
    def rules(self) -> Rules:
        """Which VMs this level is for, apart from being the default."""
        return Rules(self.vms, self.hosts, self.tags)


class GuestFilesSection(Struct, frozen=True):
    """Files that are kept from inside the guests of some VMs."""

    DEFAULT_LIMIT_BYTES: ClassVar[int] = 1 << 30
    DEFAULT_TIME_LIMIT_S: ClassVar[int] = 600

    name: str
    rules: Rules
    """Which VMs it is for."""
    paths: tuple[str, ...]
    """Files and folders in the guest, absolute."""
    exclude: tuple[str, ...] = ()
    """Patterns, shell style, of names (`*.tmp`) or whole paths (`/etc/ssl/*`); what lies below is left out as well."""
    before: tuple[str, ...] = ()
    """Commands for the guest's shell, run before the files are read; one that fails ends the backup."""
    after: tuple[str, ...] = ()
    """Commands that are run afterwards, whatever came of it; one that fails is a warning."""
    every_s: int | None = None
    """How old the newest such recovery point may get; None: only when it is asked for."""
    limit_bytes: int = DEFAULT_LIMIT_BYTES
    """More than this is not kept: a folder that grew without notice must not fill the repository."""
    time_limit_s: int = DEFAULT_TIME_LIMIT_S
    """How long each command may take."""


class Settings(Struct, frozen=True):
    """Everything one `newhope.toml` says."""

    file: Path
    hosts: tuple[Host, ...]
    repositories: tuple[Repository, ...]
    levels: tuple[Level, ...]
    state: Path
    """Folder for the job journal and caches of this machine. Nothing in it is needed for a restore."""
    exclude: Rules = Rules()
    """VMs that are not to be protected, whatever the levels say."""
    guest_files: tuple[GuestFilesSection, ...] = ()
    """Which files are kept from inside which guests; the first that is for a VM wins."""
