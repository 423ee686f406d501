"""What a backup will do, told before it does anything."""

from __future__ import annotations

from msgspec import Struct

from engine.backup.beside_disks import notes_on_disks
from engine.backup.reading import step_to_version_3
from engine.errors import Conflict, ExitCode, NewhopeError, NotFound
from engine.fleet import Fleet, format_bytes
from engine.hosts import HostUnreachable, saved_state
from engine.hosts.model import AgentState, Disk, HostFacts, HostSnapshot, HostStatus, Vm, VmState
from engine.repository import PointKind
from engine.settings import Settings, find_repository
from engine.settings.model import SHUTDOWN_TIMEOUT_S, Method, Repository

MANAGED_SAVE = "it was saved, not shut down: without its memory its disks are as after a power cut"


class Request(Struct, frozen=True):
    """One backup, decided in every detail: the specification of its job."""

    vm_uuid: str
    vm: str
    host: str
    repository: str
    method: Method
    full: bool = False
    """Read every disk whole, whatever the host could tell of changes."""
    shutdown_timeout_s: float = SHUTDOWN_TIMEOUT_S
    """How long a cold backup waits for the guest to shut down."""
    hot_if_ignored: bool = False
    """Whether a guest that has not shut down by then is taken while it runs; otherwise the backup fails."""
    allow_plain: bool = False
    """Keep disks that their host keeps encrypted in a repository that is not."""
    kind: PointKind = PointKind.VM
    """Of kind guest: the files inside it that the settings name, and nothing else."""


class PlainRepository(NewhopeError):
    """Encrypted disks would be kept in a repository that is not encrypted."""

    exit_code = ExitCode.PREFLIGHT


class BackupPlan(Struct, frozen=True):
    """What is shown before a backup starts."""

    vm: str
    host: str
    repository: str
    method: Method
    steps: tuple[str, ...]
    effects: tuple[str, ...]
    """What the guest and its users will notice."""
    warnings: tuple[str, ...]
    """What makes the recovery point less than it could be, or the backup slower."""


def lock_of(request: Request) -> str:
    """The key under which at most one job works on the VM, or inside its guest, at a time."""
    # Files are read beside a backup of the disks: the one waits for nothing that the other holds for long.
    return lock_of_vm(request.vm_uuid) if request.kind is PointKind.VM else f"guest-files:{request.vm_uuid}"


def lock_of_vm(vm_uuid: str) -> str:
    """The same for whatever else works on a VM."""
    return f"vm:{vm_uuid}"


def plan(settings: Settings, fleet: Fleet, request: Request) -> BackupPlan:
    """Plan the backup of one VM as the fleet was last seen.

    Raises `NotFound` when the VM is not on its host any more, `HostUnreachable` when its host is
    silent, `Conflict` when nothing can be read, and `PlainRepository`.
    """
    kept = find_repository(settings, request.repository)
    snapshot, vm = locate(fleet, request)
    refuse_unreadable(vm, snapshot.facts)
    if keeps_memory(vm, request.method):
        saved_state.refuse_unsavable(vm, files=snapshot.facts is None or snapshot.facts.way.has_files)
    view = next((each for each in fleet.repositories if each.name == kept.name), None)
    if view is not None and view.info is not None:
        refuse_plain(vm, request, kept, sealed=view.info.encrypted)
    disks = data_disks(vm)
    moment = _moment(vm, request.method, snapshot.facts)
    return BackupPlan(
        vm=vm.name,
        host=vm.host,
        repository=request.repository,
        method=request.method,
        steps=(
            *moment.steps,
            _beside_step(vm),
            *(_reading_step(disk, request) for disk in disks),
            f"commit the recovery point to {request.repository}",
        ),
        effects=moment.effects,
        warnings=_warnings(vm, request.method),
    )


def _beside_step(vm: Vm) -> str:
    tpm = ", TPM state" if vm.tpm else ""
    return f"keep its definition, NVRAM{tpm} and boot files, snapshots' list, networks and pools, and facts of the host"


def _reading_step(disk: Disk, request: Request) -> str:
    whole = request.full or not disk.bitmaps_possible
    what = "all of it, but for holes" if whole else "what was written since the last point, or all if nobody can tell"
    return f"read {disk.target} ({disk.format}, {format_bytes(disk.capacity_bytes)}): {what}"


def data_disks(vm: Vm) -> tuple[Disk, ...]:
    """The disks that a recovery point holds: all that QEMU can read, but for CD and floppy drives and empty ones."""
    return tuple(disk for disk in vm.disks if disk.holds_data)


def tracked_targets(vm: Vm) -> tuple[str, ...]:
    """Targets of those that can keep a dirty bitmap."""
    return tuple(disk.target for disk in data_disks(vm) if disk.bitmaps_possible)


def can_be_opened(vm: Vm, *, files: bool) -> bool:
    """Whether the images of a VM that is off can be got at without QEMU; `files` says whether its host's files can."""
    return files and all(disk.source_kind != "network" for disk in data_disks(vm))


def keeps_memory(vm: Vm, method: Method) -> bool:
    """Whether the recovery point will hold the guest's memory."""
    return method is Method.MEMORY and vm.state in (VmState.RUNNING, VmState.PAUSED)


def refuse_if_busy(vm: Vm) -> None:
    """Raise `Conflict` if something else is at work on the VM."""
    if vm.job is not None:
        raise Conflict(
            f"{vm.name} on {vm.host} is busy: {vm.job}.",
            untouched="Neither the VM nor that work was touched.",
            next_step=f"wait until it has ended, then back up {vm.name} again; newhope vms shows what is at work.",
        )


def refuse_unreadable(vm: Vm, facts: HostFacts | None) -> None:
    """Raise `Conflict` for a VM whose disks cannot be read from here."""
    if not data_disks(vm):
        raise Conflict(
            f"{vm.name} on {vm.host} has no disk to back up.",
            next_step="newhope vms --json shows its drives; attach a disk, or leave this VM out.",
        )
    if facts is None or facts.way.has_files:
        return
    untouched = f"{vm.name} and its earlier recovery points are as they were."
    if not facts.way.has_disks:
        raise Conflict(
            f"The disks of {vm.name} are on {vm.host}, whose uri brings libvirt's words and nothing else.",
            untouched=untouched,
            next_step=f"reach {vm.host} with qemu+ssh://user@HOST/system; see the README, Hosts over the network.",
        )


def refuse_plain(vm: Vm, request: Request, kept: Repository, *, sealed: bool) -> None:
    """Raise `PlainRepository` if disks that their host keeps encrypted would be kept for everyone to read."""
    bare = [disk.target for disk in data_disks(vm) if disk.encrypted]
    if sealed or not bare or request.allow_plain or kept.allow_plain:
        return
    raise PlainRepository(
        f"{vm.name} on {vm.host} has encrypted disks ({', '.join(bare)}), and the repository {kept.name} is not"
        " encrypted: what the guest sees would lie there for everyone who can read it.",
        untouched="Nothing was read, and the VM was not touched.",
        next_step="choose an encrypted repository (--repository; newhope repo init makes one), or accept it:"
        f" --allow-plain this time, allow_plain = true in [repositories.{kept.name}] for good.",
    )


def locate(fleet: Fleet, request: Request) -> tuple[HostSnapshot, Vm]:
    """Where the VM is. Raises `NotFound`, `HostUnreachable`."""
    for snapshot in fleet.snapshots:
        if snapshot.host != request.host:
            continue
        if snapshot.status is not HostStatus.ONLINE:
            raise HostUnreachable(
                request.host,
                snapshot.reason or "no answer",
                untouched=f"{request.vm} and its earlier recovery points are as they were.",
                next_step=snapshot.next_step or f"newhope hosts shows when {request.host} answers again.",
            )
        for vm in snapshot.vms:
            if vm.uuid == request.vm_uuid:
                return snapshot, vm
    raise NotFound(
        f"{request.vm} is not on {request.host} any more.",
        next_step="newhope vms shows every VM and where it is.",
    )


class _Moment(Struct, frozen=True):
    """One way to fix a recovery point's moment."""

    steps: tuple[str, ...]
    effects: tuple[str, ...]


_OFF = _Moment(
    ("open its images read-only, as they lie on the host",),
    ("it stays off; it cannot be started until its disks are read",),
)
_OFF_AND_OPENED_BY_QEMU = _Moment(
    ("start it without its CPUs, for its images cannot be opened from here, and fix the moment of all disks",),
    ("it does not run, and is off again when its disks are read",),
)
_PAUSED = _Moment(("fix the moment of all disks while it stays paused",), ("it stays paused",))
_PAUSED_WITH_MEMORY = _Moment(
    ("write its memory to a file of the host, fix the moment of all disks, while it stays paused", "read its memory"),
    ("it stays paused",),
)
_STANDING_STILL = _Moment(
    ("pause it, fix the moment of all disks, let it run",),
    ("it stands still for a moment, usually less than a second, and does not know it",),
)
_WITH_MEMORY = _Moment(
    ("pause it, write its memory to a file of the host, fix the moment of all disks, let it run", "read its memory"),
    (
        "it stands still until its memory is written to a disk of its host: the longer, the more it uses",
        "brought back on a host where its name and UUID are free, it goes on where it stood",
    ),
)
_COLD = _Moment(
    (
        "shut it down cleanly through the guest agent, or its power button",
        "start it paused, fix the moment of all disks, let it run",
    ),
    (
        "its users lose it for the time of a reboot: it shuts down, then boots again at once",
        "the copy goes on beside the running guest",
    ),
)
_FROZEN = _Moment(
    ("freeze its file systems, fix the moment of all disks, thaw",),
    ("its writes wait while it is frozen, usually less than a second; it keeps running",),
)
_AS_IT_RUNS = _Moment(("fix the moment of all disks",), ("none: it keeps running",))


def _moment(vm: Vm, method: Method, facts: HostFacts | None) -> _Moment:
    if vm.state in (VmState.OFF, VmState.CRASHED):
        return _OFF if can_be_opened(vm, files=facts is None or facts.way.has_files) else _OFF_AND_OPENED_BY_QEMU
    if vm.state is VmState.PAUSED:
        return _PAUSED_WITH_MEMORY if method is Method.MEMORY else _PAUSED
    methods = {Method.COLD: _COLD, Method.PAUSED: _STANDING_STILL, Method.MEMORY: _WITH_MEMORY}
    if method in methods:
        return methods[method]
    return _FROZEN if vm.agent is AgentState.CONNECTED else _AS_IT_RUNS


def _warnings(vm: Vm, method: Method) -> tuple[str, ...]:
    warnings: list[str] = []
    if vm.job is not None:
        warnings.append(f"{vm.job} is at work on it: unless that is what a dead job of newhope left, this will refuse")
    if vm.state is VmState.CRASHED:
        warnings.append("it crashed: its disks are as the crash left them")
    if method is Method.MEMORY and not keeps_memory(vm, method):
        warnings.append("it is off and has no memory to be kept")
    if method is Method.PAUSED and vm.state is VmState.RUNNING:
        warnings.append("its file systems are not frozen: the disks will be as after a power cut (crash-consistent)")
    if method is Method.HOT and vm.state is VmState.RUNNING and vm.agent is not AgentState.CONNECTED:
        absent = vm.agent is AgentState.ABSENT
        why = "it has no channel for a guest agent" if absent else "its guest agent is silent"
        warnings.append(f"{why}: the disks will be as after a power cut (crash-consistent)")
    warnings.extend(
        f"{disk.target} is qcow2 of version 2, which keeps no dirty bitmap: it is read whole each time; with the"
        f" VM off, {step_to_version_3(disk)} changes that"
        for disk in data_disks(vm)
        if disk.format == "qcow2" and not disk.bitmaps_possible
    )
    if vm.managed_save:
        warnings.append(MANAGED_SAVE)
    warnings.extend(notes_on_disks(vm.disks))
    return tuple(warnings)
