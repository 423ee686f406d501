"""What a restore is asked, what it plans, and what it reports."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from engine.fleet import FitnessCheck


class MacChoice(StrEnum):
    """What becomes of the network cards' addresses."""

    AUTO = "auto"
    """Kept when the original cannot be running on any host that answers, new otherwise."""
    KEEP = "keep"
    NEW = "new"


class NetworkMapping(Struct, frozen=True):
    """Where one network card is to be connected."""

    nic: int
    """Its position, from 0."""
    to: str
    """A network's name on the target host, `user` (QEMU's own, needs no network) or `none` (unplugged)."""


class Request(Struct, frozen=True):
    """One restore. What is left open (empty or None) is decided by `plan`, whose plan carries the decided request."""

    repository: str
    vm_uuid: str
    """UUID of the VM the recovery point is of; the restored VM gets its own."""
    point_id: str
    to_host: str
    name: str = ""
    """Name of the restored VM."""
    pool: str = ""
    """Storage pool on the target host for all disks."""
    networks: tuple[NetworkMapping, ...] = ()
    """Cards that are not listed keep the network they had, by name."""
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


class PlannedStep(Struct, frozen=True):
    """One step of a restore, as it is shown before and journaled during the run."""

    title: str
    host: str
    detail: str
    size_bytes: int
    """Bytes to write; 0 for a step that moves nothing."""
    undo: str
    """How it is undone when a later step fails."""


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

    @property
    def blocked(self) -> bool:
        """Whether a failed check forbids to run it."""
        return any(check.state == "fail" for check in self.checks)

    @property
    def size_bytes(self) -> int:
        """Bytes to write."""
        return sum(step.size_bytes for step in self.steps)


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
    warnings: tuple[str, ...] = ()
    """What the operator should look at although the restore succeeded."""
    lost: tuple[LostRange, ...] = ()
    """Of a salvage: what is zero in the restored disks, and was not in the original's."""

    @property
    def sentence(self) -> str:
        """What came of it, in one sentence."""
        took_s = (self.finished - self.started).total_seconds()
        answered = self.agent_answered_s
        proof = f"; its agent answered {answered:.1f} s after its start" if answered is not None else ""
        whole = ", without what is lost" if self.lost else ""
        return f"{self.vm} is restored{whole} as {self.restored_as} on {self.host} in {took_s:.0f} s{proof}"
