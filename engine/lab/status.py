"""How a lab is doing, as values."""

from __future__ import annotations

from msgspec import Struct

from engine.hosts import HostLane, agent, model, take_snapshot
from engine.lab import daemon
from engine.lab.hosts_up import lane_to
from engine.lab.layout import HostLayout


class GuestStatus(Struct, frozen=True):
    """One VM of a practice host, restored ones included."""

    name: str
    state: str
    agent: str
    """`answers`, `silent`, `off` with its VM, or `none` for a VM without the channel."""


class HostStatus(Struct, frozen=True):
    """One practice host."""

    name: str
    state: str
    """`running`, `silent` (its process lives and does not answer) or `down`."""
    pid: int | None
    qemu_pids: tuple[int, ...]
    uri: str
    guests: tuple[GuestStatus, ...] = ()


class LabStatus(Struct, frozen=True):
    """A whole lab."""

    folder: str
    settings_file: str
    acceleration: str
    hosts: tuple[HostStatus, ...]


def host_status(host: HostLayout) -> HostStatus:
    """Look at one practice host; a dead one is a row, not an error."""
    process = daemon.running(host)
    guests: tuple[GuestStatus, ...] = ()
    state = "down"
    if process is not None:
        with lane_to(host) as lane:
            snapshot = take_snapshot(lane)
            state = "running" if snapshot.status is model.HostStatus.ONLINE else "silent"
            guests = tuple(_guest_status(lane, vm) for vm in sorted(snapshot.vms, key=lambda vm: vm.name))
    return HostStatus(
        name=host.name,
        state=state,
        pid=process.pid if process else None,
        qemu_pids=tuple(qemu.pid for qemu in daemon.qemu_processes(host)),
        uri=host.uri,
        guests=guests,
    )


def _guest_status(lane: HostLane, vm: model.Vm) -> GuestStatus:
    if vm.agent is model.AgentState.ABSENT:
        told = "none"
    elif vm.state is not model.VmState.RUNNING:
        told = "off"
    else:
        told = "answers" if agent.ping(lane, vm.uuid, timeout_s=1) else "silent"
    return GuestStatus(name=vm.name, state=vm.state.value, agent=told)
