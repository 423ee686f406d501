"""What hosts, VMs, pools and networks look like to the rest of newhope: values, never libvirt's objects."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from pathlib import Path

from msgspec import Struct


class HostStatus(StrEnum):
    """Whether a host answered when it was last asked."""

    ONLINE = "online"
    STALE = "stale"
    """It answered before, not now: what is shown is from `taken_at`."""
    OFFLINE = "offline"


class VmState(StrEnum):
    """A VM's power state, in libvirt's words made short."""

    RUNNING = "running"
    PAUSED = "paused"
    OFF = "off"
    CRASHED = "crashed"
    OTHER = "other"


class AgentState(StrEnum):
    """Whether the guest agent can be asked."""

    CONNECTED = "connected"
    DISCONNECTED = "disconnected"
    """There is a channel for it, and nobody answers at the guest's end (or the VM is off)."""
    ABSENT = "absent"
    """The VM has no channel for an agent."""


class Disk(Struct, frozen=True):
    """One disk or drive of a VM."""

    target: str
    """The name that the guest sees, unique in the VM: `vda`."""
    device: str
    """`disk`, `cdrom` or `floppy`."""
    source_kind: str
    """libvirt's disk type: `file`, `block`, `network`, `volume`, ..."""
    source: str | None
    """Path on the host, or a printable name; None for an empty drive."""
    format: str
    bus: str
    capacity_bytes: int
    allocation_bytes: int
    read_only: bool = False
    shareable: bool = False
    """Other VMs may write it too."""
    transient: bool = False
    """What its guest writes is thrown away when it stops; `source` is what it starts from."""
    encrypted: bool = False
    """QEMU opens its encryption with a key that libvirt holds as a secret: whoever reads it through QEMU, as a backup
    does, sees what the guest sees."""
    bitmaps_possible: bool = True
    """qcow2 of version 3: the only format whose dirty bitmaps outlive QEMU."""
    backing: tuple[str, ...] = ()
    """Images that this one is a layer over, nearest first, as far as the host tells."""

    @property
    def holds_data(self) -> bool:
        """Whether a recovery point holds it: not a CD or floppy drive, not empty, and QEMU can read it."""
        return self.device in ("disk", "lun") and self.source is not None and not self.out_of_reach

    @property
    def out_of_reach(self) -> str:
        """Why QEMU itself cannot read what the guest has on it; empty where it can."""
        if self.source_kind in ("vhostuser", "vhostvdpa"):
            return f"the guest reads it past QEMU ({self.source_kind})"
        return ""


class Nic(Struct, frozen=True):
    """One network card of a VM."""

    mac: str
    kind: str
    """`network`, `bridge`, `user`, `direct`, ..."""
    source: str | None
    """Name of the network, bridge or device behind it."""
    model: str


class Vm(Struct, frozen=True):
    """A libvirt domain as it was seen."""

    uuid: str
    name: str
    host: str
    state: VmState
    agent: AgentState
    disks: tuple[Disk, ...]
    nics: tuple[Nic, ...]
    vcpus: int
    memory_bytes: int
    arch: str
    machine: str
    """QEMU machine type, for example `pc-q35-7.2`."""
    virt_type: str
    """`kvm` or `qemu` (emulation)."""
    cpu_mode: str
    """`host-passthrough`, `host-model`, `custom`, ... or an empty string."""
    cpu_model: str | None = None
    firmware: str = "bios"
    """`bios` or `efi`."""
    nvram: str | None = None
    tpm: bool = False
    boot_files: tuple[str, ...] = ()
    """Kernel and initial RAM disk on the host, for a VM that libvirt boots directly."""
    host_devices: tuple[str, ...] = ()
    """PCI and USB devices of the host passed through to the VM."""
    tags: tuple[str, ...] = ()
    """Words that its operators gave it in its definition, for the levels' rules."""
    autostart: bool = False
    persistent: bool = True
    managed_save: bool = False
    """It is off, and its memory is kept by libvirt to go on with at the next start (`virsh managedsave`)."""
    job: str | None = None
    """What is at work on the VM now (a backup, a migration, a block job), in words; None if nothing."""


class Pool(Struct, frozen=True):
    """A storage pool of a host."""

    name: str
    kind: str
    path: str | None
    active: bool
    capacity_bytes: int
    available_bytes: int


class Network(Struct, frozen=True):
    """A virtual network of a host."""

    name: str
    active: bool
    forward: str
    """`nat`, `route`, `bridge`, `isolated`, ..."""
    bridge: str | None


class Way(StrEnum):
    """How a host's machine is reached, and so what can be done there besides asking its libvirt."""

    HERE = "this machine"
    SSH = "ssh"
    SSH_WITHOUT_SHELL = "ssh, without a shell"
    TLS = "tls"
    LIBVIRT_ALONE = "libvirt alone"

    @property
    def has_files(self) -> bool:
        """Whether its files can be read and programs be run there."""
        return self in (Way.HERE, Way.SSH)

    @property
    def has_disks(self) -> bool:
        """Whether the disks of its running VMs can be read."""
        return self is not Way.LIBVIRT_ALONE


class HostFacts(Struct, frozen=True):
    """What matters of a host when a VM is to run there."""

    hostname: str
    machine_id: str | None
    """`/etc/machine-id` where it can be read: libvirt's host UUID changes without DMI."""
    local: bool
    """Whether its files are this machine's files."""
    libvirt_version: str
    qemu_version: str
    arch: str
    cpus: int
    cpu_model: str
    memory_bytes: int
    memory_free_bytes: int
    kvm: bool
    machines: tuple[str, ...]
    """Machine types its QEMU offers for its own architecture, aliases included."""
    efi: bool
    tpm: bool
    cpu_modes: tuple[str, ...] = ()
    cpu_models: tuple[str, ...] = ()
    way: Way = Way.HERE
    missing_programs: tuple[str, ...] = ()
    """Programs that newhope would run there and that are not installed."""

    @property
    def runs_qemu_nbd(self) -> bool:
        """Whether disks can be served by a `qemu-nbd` there; on this machine its absence is an error of its own."""
        return self.local or (self.way.has_files and "qemu-nbd" not in self.missing_programs)

    bridges: tuple[str, ...] = ()
    """Bridges that a network card may be plugged into, those of its own networks included."""
    links: tuple[str, ...] | None = None
    """Network devices of its machine, bridges included; None where they cannot be listed."""
    max_vcpus: int = 0
    """Virtual processors that one VM can have there; 0 if it does not say."""
    loaders: tuple[str, ...] = ()
    """Firmware images that it knows."""


class HostSnapshot(Struct, frozen=True):
    """A host as it answered, or why it did not."""

    host: str
    uri: str
    status: HostStatus
    taken_at: datetime
    """When these values were read; for an offline host, when it was tried."""
    reason: str | None = None
    next_step: str | None = None
    facts: HostFacts | None = None
    vms: tuple[Vm, ...] = ()
    pools: tuple[Pool, ...] = ()
    networks: tuple[Network, ...] = ()


class BootFile(Struct, frozen=True):
    """A file beside the disks that a VM needs to start as it was: NVRAM, kernel, initial RAM disk."""

    role: str
    """`nvram`, `tpm`, `kernel`, `initrd`."""
    path: Path
    """Where it lay on the host it came from."""
    content: bytes


class Definition(Struct, frozen=True):
    """A VM's definition as libvirt keeps it: opaque to everyone but `hosts`."""

    live: bytes | None
    """As it ran at the moment; None for a VM that was off."""
    inactive: bytes
    """As it will start the next time; what a restore defines."""


class Snapshot(Struct, frozen=True):
    """A snapshot that a VM has, as libvirt keeps it (formatsnapshot)."""

    name: str
    parent: str | None
    created: datetime
    current: bool
    internal: tuple[str, ...]
    """Targets of disks whose content at the snapshot lies inside the image itself."""
    external: tuple[str, ...]
    """Targets of disks that were given a new layer at the snapshot."""
    memory: str
    """`none`, `internal` or `external`."""
    content: bytes
    """Its description."""


class HostSecret(Struct, frozen=True):
    """A secret of the host (libvirt formatsecret) that a VM's definition needs."""

    uuid: str
    usage: str
    """What it is for: `volume /srv/a.qcow2`."""
    description: bytes
    """How libvirt defines it, without the value."""
    value: bytes | None
    """None where the host does not give it, or nobody asked. Never to be logged."""


class RelatedDefinition(Struct, frozen=True):
    """Something of the host that a VM's definition refers to, as libvirt keeps it."""

    role: str
    """`network`, `pool`, `filter`, or `capabilities` of the host itself."""
    name: str
    content: bytes
