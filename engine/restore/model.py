"""What a restore is asked, what it plans, and what it reports."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from engine.fleet import FitnessCheck, HostFitness
from engine.jobs import KnobChange
from engine.repository import Proof
from engine.settings import GuestCheck, format_duration

WATCH_S = 60
"""How long the guest of a test is watched that has no agent, unless somebody says otherwise."""


class MacChoice(StrEnum):
    """What becomes of the network cards' addresses."""

    AUTO = "auto"
    """Kept when the original cannot be running on any host that answers, new otherwise."""
    KEEP = "keep"
    NEW = "new"


class Mode(StrEnum):
    """What becomes of a recovery point."""

    BESIDE = "beside"
    """A new VM beside the original, which is never touched."""
    REPLACE = "replace"
    """A VM in the original's place; the original is switched off and kept aside until somebody commits."""
    DISKS = "disks"
    """Its disks only: volumes are written, nothing is defined."""
    TEST = "test"
    """A new VM that reaches no real network, and is taken away again after a while."""


class UuidChoice(StrEnum):
    """Whether the restored VM is the same VM to everybody who knows VMs by their UUID."""

    AUTO = "auto"
    """Kept when it takes the original's place, new otherwise."""
    KEEP = "keep"
    NEW = "new"


class AtEnd(StrEnum):
    """What is done by itself with a restore that nobody committed when its time is over."""

    COMMIT = "commit"
    UNDO = "undo"


class NetworkMapping(Struct, frozen=True):
    """Where one network card is to be connected."""

    nic: int
    """Its position, from 0."""
    to: str
    """A network's name on the target host, `user` (QEMU's own, needs no network), `none` or `isolated` (unplugged)."""


class DiskTarget(Struct, frozen=True):
    """Where one disk is written. What is left open is decided by `plan`."""

    target: str
    """The disk's name in the guest: `vda`."""
    pool: str = ""
    format: str = ""
    """`raw` or `qcow2`; as it was, if open."""
    device: str = ""
    """An existing block device of the host, which is overwritten; a new volume of the pool, if open."""
    volume: str = ""
    """Name of the new volume; empty for a device."""


class Request(Struct, frozen=True):
    """One restore. What is left open (empty or None) is decided by `plan`, whose plan carries the decided request."""

    repository: str
    vm_uuid: str
    """UUID of the VM the recovery point is of."""
    point_id: str
    to_host: str = ""
    """The fittest host, if open."""
    name: str = ""
    """Name of the restored VM."""
    pool: str = ""
    """Storage pool on the target host for all disks that name no other, and for the files beside them."""
    networks: tuple[NetworkMapping, ...] = ()
    """Cards that are not listed keep the network they had, by name; in a test, they are isolated."""
    macs: MacChoice = MacChoice.AUTO
    start: bool = True
    new_uuid: str = ""
    new_macs: tuple[str, ...] = ()
    """Addresses of the restored cards, in order; empty until they are decided."""
    operator: str = ""
    through_libvirt: bool = False
    """Disks become raw volumes that libvirt writes, because nobody runs qemu-nbd for us there; `plan` decides."""
    salvage: bool = False
    """Restore what is left where data is lost, with zeroes in its place."""
    id: str = ""
    """Eight hex digits that name this one restore, decided by `plan`."""
    mode: Mode = Mode.BESIDE
    uuid: UuidChoice = UuidChoice.AUTO
    format: str = ""
    """`raw` or `qcow2` for all disks that name no other; as each was, if open."""
    disks: tuple[DiskTarget, ...] = ()
    verify: bool = False
    """Read again what was written, before anything is defined."""
    memory: bool | None = None
    """Let it go on from its memory instead of booting. None: where the point has it and its name and UUID are free;
    `plan` decides."""
    power_off: bool = False
    """Cut the power of an original that does not shut down when it is put aside."""
    autostart: bool | None = None
    """Start the VM with its host. None: as the original does, when it takes its place; otherwise not."""
    keep_for_s: int | None = None
    """For how long it can be undone after it ended. None: as the mode has it."""
    at_end: AtEnd | None = None
    """What happens by itself after that time; None: nothing, it waits for an operator."""
    reason: str = ""
    ticket: str = ""
    instant: bool = False
    """Start the VM at once, on layers over the recovery point as this machine serves it, and move its disks to their
    place while it runs."""
    move: bool = True
    """Of an instant restore: move its disks. A VM that does not outlive its proof can stay on what is served."""
    aside: Aside | None = None
    """Decided by `plan` for a restore that takes the original's place: which VM is put aside, and as what."""
    machine: str = ""
    """Machine type that takes the place of the VM's own, which the host may not have; its own, if open."""
    cpu: str = ""
    """CPU that takes the place of the VM's own: `host-model`, `maximum`, or a model's name; its own, if open."""
    accepted: tuple[str, ...] = ()
    """Keys of the warnings that the operator accepted by name. What the restore does does not depend on them."""
    checks: tuple[GuestCheck, ...] | None = None
    """What the guest of a test is asked once its agent answers; what the VM's level asks, if open."""
    watch_s: int = WATCH_S
    """How long the guest of a test is watched that has no agent."""
    proves: bool = False
    """A test that is taken away as soon as it has told what it can."""
    digest: str = ""
    """Of the plan that was shown. A run whose own plan has another one stops before it touches anything."""

    def disk(self, target: str) -> DiskTarget:
        """Where one disk is written, in a decided request."""
        return next(disk for disk in self.disks if disk.target == target)

    @property
    def defines(self) -> bool:
        """Whether a VM is made of the disks."""
        return self.mode is not Mode.DISKS


class Aside(Struct, frozen=True):
    """The original, and what it is called while it is kept aside."""

    host: str
    uuid: str
    name: str
    kept_name: str
    kept_uuid: str
    runs: bool
    """Whether it ran when the plan was made, and has to be shut down."""


class PlannedStep(Struct, frozen=True):
    """One step of a restore, as it is shown before and journaled during the run."""

    title: str
    host: str
    detail: str
    size_bytes: int
    """Bytes to write; 0 for a step that moves nothing."""
    undo: str
    """How it is undone when a later step fails, or later on request."""
    key: str = ""
    """What the restore journal calls it: `write:vda`."""
    path: str = ""
    """What it makes or changes on the host, where that is a path."""
    expected_s: float | None = None
    """Seconds that it should take, from what was measured on this host; None if nothing was yet."""
    no_return: bool = False
    """What it overwrites cannot be brought back by its undo."""


class RestorePlan(Struct, frozen=True):
    """Everything that a restore will do, and whether it may."""

    request: Request
    """The request with every open question decided; running it does exactly what the plan shows."""
    vm: str
    """Name the VM had."""
    moment: datetime
    consistency: str
    source_host: str
    steps: tuple[PlannedStep, ...]
    checks: tuple[FitnessCheck, ...]
    command: str
    """The `newhope` command that does the same."""
    untouched: str
    """What the restore leaves as it is."""
    hosts: tuple[HostFitness, ...] = ()
    """Every host that was to choose from, the fittest first, if none was named."""

    @property
    def blocked(self) -> bool:
        """Whether a failed check forbids to run it."""
        return any(check.state == "fail" for check in self.checks)

    @property
    def size_bytes(self) -> int:
        """Bytes to write."""
        return sum(step.size_bytes for step in self.steps if not step.key.startswith("verify"))

    @property
    def interrupts(self) -> bool:
        """Whether it takes something away from somebody: a running original, or what a device holds."""
        return self.request.aside is not None or any(disk.device for disk in self.request.disks)

    @property
    def undo_window(self) -> str:
        """For how long it can be undone, in words."""
        request = self.request
        if request.proves:
            return "it is taken away by itself when it has told what it can"
        if request.keep_for_s is not None:
            then = f", then: {request.at_end.value}" if request.at_end is not None else ", and after that"
            return f"for {format_duration(request.keep_for_s)} after its end{then}"
        if request.aside is not None:
            return "until it is committed: newhope restores"
        if request.instant:
            return "until its disks are moved; once it runs, only by `newhope restores undo`"
        return "while it runs; what is whole stays"

    @property
    def expected_s(self) -> float | None:
        """Seconds that all of it should take; None if that is not known of a step that moves bytes."""
        if any(step.expected_s is None for step in self.steps if step.size_bytes):
            return None
        return sum(step.expected_s or 0.0 for step in self.steps)


class DoneStep(Struct, frozen=True):
    """One step of a report."""

    title: str
    seconds: float
    note: str


class LostRange(Struct, frozen=True):
    """A range of a restored disk that holds zeroes because its data is lost."""

    disk: str
    offset: int
    length: int


class RestoredDisk(Struct, frozen=True):
    """One disk as it was written."""

    target: str
    path: str
    format: str
    size_bytes: int
    data_bytes: int
    map_root: str
    """The name of the root of its map in the repository: a hash over all of its content."""
    recognised_bytes: int = 0
    """Of an interrupted restore: what was there already, found by reading it."""
    block: bool = False
    """Whether it lies on a block device rather than in a file."""
    verified: bool = False
    """Whether every byte was read again after it was written, and was right."""
    overlay: str = ""
    """Of an instant restore, until the disk is in its place: the layer over the recovery point that the VM uses."""

    @property
    def used(self) -> tuple[str, str]:
        """Path and format of what the VM has as this disk now."""
        return (self.overlay, "qcow2") if self.overlay else (self.path, self.format)


class LevelAchieved(Struct, frozen=True):
    """What the VM's level asks of a restore; what was achieved is in the report beside it."""

    name: str
    rpo_s: int | None
    rto_s: int | None


class RestoreReport(Struct, frozen=True):
    """What came of a restore."""

    vm: str
    restored_as: str
    uuid: str
    host: str
    point: str
    moment: datetime
    started: datetime
    finished: datetime
    operator: str
    steps: tuple[DoneStep, ...]
    checks: tuple[FitnessCheck, ...]
    size_bytes: int
    agent_answered_s: float | None
    """Seconds from its start until the guest agent answered; None if it was not started, has none, or was silent."""
    command: str
    accepted: tuple[str, ...] = ()
    """Keys of the warnings among the checks that the operator accepted by name."""
    warnings: tuple[str, ...] = ()
    """What the operator should look at although the restore succeeded."""
    lost: tuple[LostRange, ...] = ()
    """Of a salvage: what is zero in the restored disks, and was not in the original's."""
    id: str = ""
    repository: str = ""
    mode: Mode = Mode.BESIDE
    reason: str = ""
    ticket: str = ""
    disks: tuple[RestoredDisk, ...] = ()
    level: LevelAchieved | None = None
    downtime_s: float | None = None
    """From when the original went off, or the restore began if it was off already, until the new VM answered or,
    without an agent, was started; None where the original was not replaced."""
    resumed: int = 0
    """How often the restore was interrupted and went on."""
    keep_until: datetime | None = None
    """Until when it can be undone."""
    at_end: AtEnd | None = None
    knobs: tuple[KnobChange, ...] = ()
    """What was set while it ran: paused, how fast, before whom, with how many streams."""
    proof: Proof | None = None
    """Of a test: what it says of its point."""

    @property
    def data_loss_s(self) -> float:
        """Seconds before the restore began of which nothing came back."""
        return (self.started - self.moment).total_seconds()

    @property
    def sentence(self) -> str:
        """What came of it, in one sentence."""
        took_s = (self.finished - self.started).total_seconds()
        whole = ", without what is lost" if self.lost else ""
        if self.mode is Mode.DISKS:
            return f"The disks of {self.vm} are restored{whole} on {self.host} in {took_s:.0f} s"
        answered = self.agent_answered_s
        proof = f"; its agent answered {answered:.1f} s after its start" if answered is not None else ""
        return f"{self.vm} is restored{whole} as {self.restored_as} on {self.host} in {took_s:.0f} s{proof}"
