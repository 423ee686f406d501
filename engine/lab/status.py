"""How a lab is doing, as values."""

from __future__ import annotations

import libvirt
from msgspec import Struct

from engine.lab import daemon
from engine.lab.layout import HostLayout
from engine.lab.libvirt_calls import HostSilent, agent_answers, connection, has_agent_channel

_STATES = {
    libvirt.VIR_DOMAIN_RUNNING: "running",
    libvirt.VIR_DOMAIN_PAUSED: "paused",
    libvirt.VIR_DOMAIN_SHUTDOWN: "shutting down",
    libvirt.VIR_DOMAIN_SHUTOFF: "off",
    libvirt.VIR_DOMAIN_CRASHED: "crashed",
}


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
    state = "down" if process is None else "running"
    if process is not None:
        try:
            with connection(host.uri) as opened:
                domains = sorted(opened.listAllDomains(), key=lambda domain: domain.name())
                guests = tuple(_guest_status(domain) for domain in domains)
        except (HostSilent, libvirt.libvirtError):
            state = "silent"
    return HostStatus(
        name=host.name,
        state=state,
        pid=process.pid if process else None,
        qemu_pids=tuple(qemu.pid for qemu in daemon.qemu_processes(host)),
        uri=host.uri,
        guests=guests,
    )


def _guest_status(domain: libvirt.virDomain) -> GuestStatus:
    state = _STATES.get(domain.state()[0], "other")
    if not has_agent_channel(domain):
        agent = "none"
    elif state != "running":
        agent = "off"
    else:
        agent = "answers" if agent_answers(domain, timeout_s=1) else "silent"
    return GuestStatus(name=domain.name(), state=state, agent=agent)
