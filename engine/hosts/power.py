"""Starting and stopping VMs, and putting their definitions on a host or taking them off.

A clean shutdown is asked for twice: by the guest agent, which is obeyed at once where it answers, then by the ACPI
power button, which a guest may ignore. Nothing here ever turns a refused shutdown into a power cut: that is
`power_off`, and somebody has to ask for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.errors import Conflict
from engine.hosts.errors import (
    NO_DOMAIN,
    OPERATION_INVALID,
    GuestDidNotShutDown,
    MissingOnHost,
)
from engine.hosts.lane import HostLane
from engine.hosts.model import Definition, VmState
from engine.hosts.vm_state import from_libvirt
from engine.hosts.xml_tree import parse, text_of

if TYPE_CHECKING:
    import libvirt

POLL_S = 0.2
_AGENT_TIMEOUT_S = 75.0
"""libvirt itself gives an agent 5 s to say that it is there, and 60 s to obey."""
_START_TIMEOUT_S = 60.0
"""A start waits for locks of the images and for huge memory to be set up."""
_POWER_OFF_TIMEOUT_S = 40.0
"""libvirt itself gives QEMU 15 s to end by SIGTERM and then some by SIGKILL."""


def vm_state(lane: HostLane, uuid: str) -> VmState:
    """The power state now. Raises MissingOnHost."""
    return lane.run(lambda connection: _state(connection.lookupByUUIDString(uuid)))


def was_switched_off(lane: HostLane, uuid: str) -> bool:
    """Whether a VM is off because its guest or somebody wanted it, and not by a crash or a restart of its host.

    Raises MissingOnHost.
    """

    def work(connection: libvirt.virConnect) -> bool:
        import libvirt

        state, reason = connection.lookupByUUIDString(uuid).state()
        wanted = (libvirt.VIR_DOMAIN_SHUTOFF_SHUTDOWN, libvirt.VIR_DOMAIN_SHUTOFF_DESTROYED)
        return state == libvirt.VIR_DOMAIN_SHUTOFF and reason in wanted

    return lane.run(work)


def shut_down(lane: HostLane, uuid: str, *, timeout_s: float) -> None:
    """Ask the guest to shut down and wait until it is off; one that is off already is fine.

    Raises GuestDidNotShutDown after `timeout_s`; the guest may then still shut down later.
    """
    deadline = time.monotonic() + timeout_s
    if vm_state(lane, uuid) is VmState.OFF:
        return
    _raise_if_paused(lane, uuid)
    agent_asked = lane.run(lambda connection: _ask_agent(connection, uuid), timeout_s=_AGENT_TIMEOUT_S)
    if agent_asked and _off_by(lane, uuid, min(deadline, time.monotonic() + timeout_s / 2)):
        return
    lane.run(lambda connection: _press_power_button(connection, uuid))
    if _off_by(lane, uuid, deadline):
        return
    name = lane.run(lambda connection: connection.lookupByUUIDString(uuid).name())
    heard = "its guest agent and the power button" if agent_asked else "the power button (no guest agent answered)"
    raise GuestDidNotShutDown(
        f"VM {name} on {lane.host.name} still runs {timeout_s:.0f} s after it was asked to shut down by {heard}.",
        untouched="It was not powered off; it may still shut down by itself.",
        next_step="Look at its console, shut it down from inside, or choose a hot backup.",
    )


def start(lane: HostLane, uuid: str, *, paused: bool = False, until_we_are_gone: bool = False) -> None:
    """Start a VM that is off; `paused` leaves its CPUs stopped before their first instruction.

    `until_we_are_gone` lets libvirt cut its power when this lane's connection ends, however it does.
    Raises HostRefused with QEMU's own words if it cannot start.
    """

    def work(connection: libvirt.virConnect) -> None:
        import libvirt

        flags = libvirt.VIR_DOMAIN_START_PAUSED if paused else 0
        flags |= libvirt.VIR_DOMAIN_START_AUTODESTROY if until_we_are_gone else 0
        connection.lookupByUUIDString(uuid).createWithFlags(flags)

    lane.run(work, timeout_s=_START_TIMEOUT_S)


def resume(lane: HostLane, uuid: str) -> None:
    """Let a paused VM run; one that runs already is fine."""

    def work(connection: libvirt.virConnect) -> None:
        domain = connection.lookupByUUIDString(uuid)
        if _state(domain) is VmState.PAUSED:
            domain.resume()

    lane.run(work, timeout_s=30.0)


def suspend(lane: HostLane, uuid: str) -> None:
    """Stop a running VM's CPUs, memory kept; one that is paused already is fine."""

    def work(connection: libvirt.virConnect) -> None:
        domain = connection.lookupByUUIDString(uuid)
        if _state(domain) is VmState.RUNNING:
            domain.suspend()

    lane.run(work, timeout_s=30.0)


def power_off(lane: HostLane, uuid: str) -> None:
    """Cut a VM's power; one that is off already is fine. QEMU may flush and store its dirty bitmaps first."""

    def work(connection: libvirt.virConnect) -> None:
        import libvirt

        domain = connection.lookupByUUIDString(uuid)
        try:
            domain.destroyFlags(libvirt.VIR_DOMAIN_DESTROY_GRACEFUL)
        except libvirt.libvirtError as error:
            if _state(domain) is VmState.OFF:
                return
            if error.get_error_code() == OPERATION_INVALID:
                raise
            # A QEMU that does not end by SIGTERM: no bitmap is worth a power-off that does not happen.
            domain.destroyFlags(libvirt.VIR_DOMAIN_DESTROY_DEFAULT)

    lane.run(work, timeout_s=_POWER_OFF_TIMEOUT_S)


def define(lane: HostLane, definition: Definition) -> None:
    """Put a VM on the host, off. Raises Conflict if its name or UUID is taken: libvirt would silently redefine.

    Raises HostRefused if the host cannot run such a VM.
    """
    root = parse(definition.inactive)
    name, uuid = text_of(root, "name") or "", text_of(root, "uuid") or ""

    def work(connection: libvirt.virConnect) -> None:
        for taken, by in (
            (_has(connection.lookupByName, name), name),
            (_has(connection.lookupByUUIDString, uuid), uuid),
        ):
            if taken:
                raise Conflict(
                    f"Host {lane.host.name} already has a VM {by}.",
                    untouched="That VM was not touched, and nothing was defined.",
                    next_step="Choose another name, or a new UUID.",
                )
        connection.defineXML(definition.inactive.decode())

    lane.run(work, timeout_s=30.0)


def undefine(lane: HostLane, uuid: str, *, keep_nothing: bool = True) -> None:
    """Take a VM off the host. Its disks stay. One that is not there is fine. Raises HostRefused for one that runs.

    `keep_nothing` removes its NVRAM, TPM state and saved memory too; without it these stay, as far as libvirt lets
    them. Checkpoint and snapshot metadata always goes: without its VM it means nothing.
    """

    def work(connection: libvirt.virConnect) -> None:
        import libvirt

        try:
            domain = connection.lookupByUUIDString(uuid)
        except libvirt.libvirtError as error:
            if error.get_error_code() == NO_DOMAIN:
                return
            raise
        flags = libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        if keep_nothing:
            flags |= libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            tpm = libvirt.VIR_DOMAIN_UNDEFINE_TPM
        else:
            flags |= libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
            tpm = libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM
        try:
            domain.undefineFlags(flags | tpm)
        except libvirt.libvirtError as error:
            # Before 8.9 libvirt knows no TPM flag, and removes the state by itself.
            if error.get_error_code() != libvirt.VIR_ERR_INVALID_ARG:
                raise
            domain.undefineFlags(flags)

    lane.run(work, timeout_s=30.0)


def set_autostart(lane: HostLane, uuid: str, *, on: bool) -> None:
    """Let a VM start with its host, or not."""
    lane.run(lambda connection: connection.lookupByUUIDString(uuid).setAutostart(int(on)))


def name_of(lane: HostLane, uuid: str) -> str | None:
    """The name of the VM that has this UUID on the host; None if none has it."""

    def work(connection: libvirt.virConnect) -> str | None:
        import libvirt

        try:
            return connection.lookupByUUIDString(uuid).name()
        except libvirt.libvirtError as error:
            if error.get_error_code() != NO_DOMAIN:
                raise
            return None

    return lane.run(work)


def _state(domain: libvirt.virDomain) -> VmState:
    return from_libvirt(domain.state()[0])


def _has(lookup: Callable[[str], libvirt.virDomain], key: str) -> bool:
    import libvirt

    try:
        lookup(key)
    except libvirt.libvirtError as error:
        if error.get_error_code() == NO_DOMAIN:
            return False
        raise
    return True


def _raise_if_paused(lane: HostLane, uuid: str) -> None:
    if vm_state(lane, uuid) is not VmState.PAUSED:
        return
    name = lane.run(lambda connection: connection.lookupByUUIDString(uuid).name())
    raise GuestDidNotShutDown(
        f"VM {name} on {lane.host.name} is paused, so it cannot shut down.",
        next_step=f"Resume it first (virsh resume {name}), or power it off.",
    )


def _ask_agent(connection: libvirt.virConnect, uuid: str) -> bool:
    """Ask the agent to shut down; False if there is none that answers."""
    import libvirt

    domain = connection.lookupByUUIDString(uuid)
    try:
        domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT)
    except libvirt.libvirtError as error:
        if error.get_error_code() == NO_DOMAIN:
            raise
        # No agent, a silent one, or one whose guest is frozen: the power button is left.
        return False
    return True


def _press_power_button(connection: libvirt.virConnect, uuid: str) -> None:
    import libvirt

    domain = connection.lookupByUUIDString(uuid)
    try:
        domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
    except libvirt.libvirtError as error:
        # It went off while the question was on its way.
        if error.get_error_code() != OPERATION_INVALID or _state(domain) is not VmState.OFF:
            raise


def _off_by(lane: HostLane, uuid: str, deadline: float) -> bool:
    while True:
        try:
            if vm_state(lane, uuid) is VmState.OFF:
                return True
        except MissingOnHost:
            # A transient VM is gone when it is off.
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
