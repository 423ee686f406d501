"""What can be seen of a running guest from outside: whether it computes, uses its disks, paints on its screen."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from msgspec import Struct

from engine.hosts.lane import HostLane
from engine.hosts.model import VmState
from engine.hosts.vm_state import from_libvirt

if TYPE_CHECKING:
    import libvirt

_TIMEOUT_S = 30.0
_PIECE_BYTES = 256 * 1024
_NANOSECONDS = 1_000_000_000


class Vitals(Struct, frozen=True):
    """A guest at one moment; the counters begin at nothing with every start."""

    state: VmState
    cpu_s: float = 0.0
    disk_read_bytes: int = 0
    disk_written_bytes: int = 0
    screen: str = ""
    """Equal for equal screens; empty if it has none."""


def vitals(lane: HostLane, uuid: str) -> Vitals:
    """How a guest is now. Raises MissingOnHost, HostUnreachable."""

    def work(connection: libvirt.virConnect) -> Vitals:
        import libvirt

        domain = connection.lookupByUUIDString(uuid)
        state = from_libvirt(domain.state()[0])
        if state is not VmState.RUNNING:
            return Vitals(state)
        try:
            # An empty path stands for all disks (virDomainBlockStats).
            _, read_bytes, _, written_bytes, _ = domain.blockStats("")
            cpu_ns = domain.info()[4]
        except libvirt.libvirtError:
            # It went off between the questions, or its QEMU is busy: the state is told, the rest is not known.
            return Vitals(from_libvirt(domain.state()[0]))
        return Vitals(state, cpu_ns / _NANOSECONDS, read_bytes, written_bytes, _screen(connection, domain))

    return lane.run(work, timeout_s=_TIMEOUT_S)


def _screen(connection: libvirt.virConnect, domain: libvirt.virDomain) -> str:
    """What its first screen shows, as a hash; empty where no picture can be had (virDomainScreenshot)."""
    import libvirt

    stream = connection.newStream()
    try:
        domain.screenshot(stream, 0)
    except libvirt.libvirtError:
        return ""
    digest = hashlib.sha256()
    try:
        while piece := stream.recv(_PIECE_BYTES):
            digest.update(piece)
        stream.finish()
    except libvirt.libvirtError:
        return ""
    return digest.hexdigest()
