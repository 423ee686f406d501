"""What a repository holds, as values that may leave it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct


class Consistency(StrEnum):
    """What the guest knew of the moment at which its recovery point was made."""

    CRASH = "crash"
    """Nothing: the disks are as after a power cut, all at one moment."""
    FILESYSTEM = "filesystem"
    """Its file systems were frozen: the disks are clean, applications were not asked."""
    OFF = "off"
    """It had shut down cleanly."""
    MEMORY = "memory"
    """Its memory was kept with the disks: brought back with it, it goes on as if nothing had been."""
    FILES = "files"
    """Its files were read one after the other while it ran; each is as it was when its turn came."""


class PointKind(StrEnum):
    """What a recovery point brings back."""

    VM = "vm"
    """A VM as a whole."""
    GUEST = "guest"
    """Chosen files from inside a guest; no VM comes back from it."""


class DiskRecord(Struct, frozen=True, omit_defaults=True):
    """One disk of a recovery point. What is at its default is left out, as in `Manifest`."""

    target: str
    size_bytes: int
    format: str
    """Format it had on its host, which a restore recreates."""
    map_root: str
    """Hex name of the root node of its map; empty for a disk of zeroes."""
    map_height: int
    data_bytes: int
    """Bytes that are not zero blocks."""
    read_reason: str
    """Why it was read as it was: `full: first recovery point`."""
    source: str = ""
    """Where it lay on its host: a path, or a name for people."""
    kind: str = ""
    """What kind of place that was, in libvirt's words: `file`, `block`, `network`, `volume`."""
    encrypted: bool = False
    """Its host kept it encrypted. What is held here is what the guest sees: as secret as the repository keeps it."""
    taken_over_from: str = ""
    """Original id of the point from which what the host called unchanged was taken over; empty if it was read whole."""
    contradicted: str = ""
    """Original id of the point that a look at the disk contradicted, for which it was read whole (`distrust`)."""


class FileRecord(Struct, frozen=True):
    """A small file kept with a recovery point: definition, NVRAM, kernel, ..."""

    role: str
    """`definition-live`, `definition-inactive`, `nvram`, `tpm`, `kernel`, `initrd`, `snapshot`, `checkpoint`, `secret`,
    `secret-value`, `network`, `filter`, `pool`, `host`, `capabilities`, `saved-state`."""
    name: str
    """Path or name it had; for people and for restores."""
    size_bytes: int
    map_root: str
    map_height: int


class SnapshotRecord(Struct, frozen=True, omit_defaults=True):
    """A snapshot that the VM had on its host at the moment. Its description is kept as a file; its content is not."""

    name: str
    created: datetime
    parent: str | None = None
    current: bool = False
    internal: tuple[str, ...] = ()
    """Targets of disks whose content at the snapshot lay inside the image: a recovery point does not hold it."""
    external: tuple[str, ...] = ()
    """Targets of disks that got a layer of their own at the snapshot; a recovery point holds what the guest saw."""
    memory: str = "none"
    """Whether it had the guest's memory: `none`, `internal` or `external`."""


def as_file(record: DiskRecord, name: str) -> FileRecord:
    """The record of a file that was written like a disk, whose target is its role."""
    return FileRecord(record.target, name, record.size_bytes, record.map_root, record.map_height)


def as_disk(record: FileRecord) -> DiskRecord:
    """A file as something that is read like a disk, for one too large for memory; how much of it is zero is unknown."""
    return DiskRecord(
        record.role,
        record.size_bytes,
        "raw",
        record.map_root,
        record.map_height,
        record.size_bytes,
        "written as a file",
    )


class VmFacts(Struct, frozen=True):
    """What of the VM must be known to choose a host before anything is read."""

    name: str
    uuid: str
    host: str
    vcpus: int
    memory_bytes: int
    arch: str
    machine: str
    virt_type: str
    cpu_mode: str
    cpu_model: str | None
    firmware: str
    tpm: bool
    agent: bool
    nics: tuple[str, ...]
    """`kind:source` of each network card, in order."""
    macs: tuple[str, ...]
    host_devices: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    """Words that its operators had given it: its level may hang on them."""


class GuestCommand(Struct, frozen=True):
    """A command that was run in a guest before or after its files were read."""

    command: str
    exit_code: int
    seconds: float
    output: str = ""
    """The end of what it wrote, kept where it failed."""


class GuestFiles(Struct, frozen=True):
    """What a recovery point of kind guest holds; the entries are in its file of the role `guest-listing`, their content
    one after the other, each from a block of its own on, in its only disk."""

    section: str
    """Name of the section `[guest_files.NAME]` that asked for it."""
    paths: tuple[str, ...]
    """What was asked for, as paths in the guest."""
    entries: int
    """Files, folders, links and whatever else was found there."""
    size_bytes: int
    """Content of all files, without what aligns it to blocks."""
    way: str
    """How it was read, in a sentence."""
    commands: tuple[GuestCommand, ...] = ()
    notes: tuple[str, ...] = ()
    """What the guest said while it read: files that changed or vanished under its hands, ..."""


class Origin(Struct, frozen=True):
    """Which recovery point another one is a copy of: always the first of them, however often it was copied on."""

    repository: str
    """Id of the repository that it was made in."""
    point: str
    """Its id there."""


class Manifest(Struct, frozen=True, omit_defaults=True):
    """A recovery point: the commit, complete by itself. Without an origin it is stored as it was before there were any:
    what is at its default is left out."""

    version: int
    vm: VmFacts
    moment: datetime
    """The one moment of all its disks, UTC."""
    finished: datetime
    method: str
    consistency: Consistency
    consistency_note: str
    """How we know, in one sentence."""
    disks: tuple[DiskRecord, ...]
    files: tuple[FileRecord, ...]
    downtime_s: float
    """Measured time the guest was not running for this point; 0 for a hot one."""
    read_bytes: int
    new_bytes: int
    """Bytes that this point added to the repository."""
    checkpoint: str | None
    """Name of the libvirt checkpoint made at the moment; None where no disk can keep one."""
    writer: str
    """Version of newhope that wrote it."""
    origin: Origin | None = None
    """For a copy that a sync made: of which point. What it cost (`read_bytes`, ...) is then what the first one cost."""
    kind: PointKind = PointKind.VM
    guest_files: GuestFiles | None = None
    """Of a point of kind guest."""
    notes: tuple[str, ...] = ()
    """What it does not hold, or holds otherwise than the host did, one sentence each."""
    snapshots: tuple[SnapshotRecord, ...] = ()
    """The snapshots that the VM had, oldest first."""


class Point(Struct, frozen=True):
    """A manifest and where it is kept."""

    repository: str
    id: str
    """16 hex digits; a prefix of at least four names it on the command line."""
    manifest: Manifest

    @property
    def size_bytes(self) -> int:
        """What a restore has to write: the disks' bytes that are not zero, or the content of a guest's files."""
        if self.manifest.guest_files is not None:
            return self.manifest.guest_files.size_bytes
        return sum(disk.data_bytes for disk in self.manifest.disks)

    @property
    def original_id(self) -> str:
        """What all copies of a point in all repositories have in common: the id that it had where it was made."""
        return self.manifest.origin.point if self.manifest.origin else self.id


class RepositoryInfo(Struct, frozen=True):
    """A repository as a whole."""

    name: str
    path: str
    id: str
    format_version: int
    block_bytes: int
    created: datetime
    points: int
    vms: int
    packs: int
    stored_bytes: int
    blocks: int
    free_bytes: int | None
    """None where it is not known: object storage does not tell."""
    writers: int
    """Leases held now."""
    encrypted: bool = False
    """Whether everything in it is sealed with a key that a passphrase opens."""
    collectors: int = 0
    """Collections at work now: one at most, unless two have just met."""


class DamagedObject(Struct, frozen=True):
    """Something in a repository that failed its checks and was passed over."""

    key: str
    reason: str

    def __str__(self) -> str:
        return f"{self.key}: {self.reason}"


class DataRun(Struct, frozen=True):
    """A range of a disk that holds data; what lies between two runs is zero."""

    offset: int
    length: int


class WriterStats(Struct, frozen=True):
    """What a writer has done so far."""

    read_bytes: int
    """Bytes of disks and files that it was given, zero ranges not counted."""
    new_bytes: int
    """Bytes that it added to the packs."""
    zero_blocks: int
    known_blocks: int
    """Blocks that the repository, or this writer, had stored before."""
    new_blocks: int


class WriterLimits(Struct, frozen=True):
    """What a writer may use."""

    held_buffers: int = 32
    """Block buffers that all its producers together may hold at once."""
    pack_bytes: int = 64 << 20
    """Size at which a pack is full."""
    index_every_blocks: int = 65536
    """After how many new blocks an index file is written: what a writer that dies has stored up to then is not lost."""
    streams: int = 1
    """Packs that are made durable at once: of several requests to a far bucket each has a part of the line."""
    lease_s: float = 15 * 60.0
    """How long others respect a writer that shows no sign of life."""
