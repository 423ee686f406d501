"""A disk of a running VM that moves to another image while its guest works (libvirt virDomainBlockCopy, QEMU mirror).

1. `begin` starts the copy; from then on what the guest writes goes to both images. Holes stay holes.
2. When `look` says that it is ready, both are equal, and `pivot` lets the VM go on with the new one alone.
3. A read of the old image that fails ends the copy, and nothing else: the VM still has the old image. What is lost is
   the progress, and the copy is begun again.

A guest whose disk stops on errors (`rewrite`, disks over a server) is paused by the first read that fails.
`let_run_again` resumes it once the server is back: QEMU connects anew with the request that fails, so that the first
resume pauses again and a later one holds (QEMU 7.2 without `reconnect-delay`, which libvirt 9.0 cannot say).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement

from msgspec import Struct

from engine.hosts.errors import OPERATION_INVALID
from engine.hosts.lane import HostLane
from engine.hosts.model import Definition, VmState
from engine.hosts.vm_state import from_libvirt
from engine.hosts.xml_tree import attribute_of, parse, to_bytes

if TYPE_CHECKING:
    import libvirt

RESUME_TRIES = 6
_SETTLE_S = 1.5
_BEGIN_TIMEOUT_S = 60.0
_PIVOT_TIMEOUT_S = 120.0
"""The last writes are flushed to the new image, however slow its storage is."""
_BY_IO_ERROR = 5
"""VIR_DOMAIN_PAUSED_IOERROR."""
_POLICIES = ("error_policy", "rerror_policy")


class Moving(Struct, frozen=True):
    """How far the move of a disk is."""

    done_bytes: int
    total_bytes: int
    """Grows with what the guest writes meanwhile."""
    bytes_per_s: int
    """What it may move at most; 0 for no limit."""
    ready: bool


def begin(
    lane: HostLane, uuid: str, target: str, path: str, image_format: str, *, block: bool, bytes_per_s: int
) -> None:
    """Begin to move a disk to an image that is there, at most that fast (0: as fast as it can).

    What that image holds is overwritten. Raises HostRefused, HostUnreachable.
    """
    disk = Element("disk", type="block" if block else "file")
    SubElement(disk, "driver", type=image_format)
    SubElement(disk, "source", {"dev" if block else "file": path})
    description = to_bytes(disk).decode()

    def work(connection: libvirt.virConnect) -> None:
        import libvirt

        # A persistent VM that is switched off in the middle starts with the old image again, and so it shall.
        flags = libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB | libvirt.VIR_DOMAIN_BLOCK_COPY_REUSE_EXT
        limits = {libvirt.VIR_DOMAIN_BLOCK_COPY_BANDWIDTH: bytes_per_s} if bytes_per_s else {}
        connection.lookupByUUIDString(uuid).blockCopy(target, description, limits, flags)

    lane.run(work, timeout_s=_BEGIN_TIMEOUT_S)


def look(lane: HostLane, uuid: str, target: str) -> Moving | None:
    """How far it is; None if no move of this disk is under way. Raises MissingOnHost."""

    def work(connection: libvirt.virConnect) -> Moving | None:
        import libvirt

        domain = connection.lookupByUUIDString(uuid)
        if not domain.isActive():
            return None
        job = domain.blockJobInfo(target, libvirt.VIR_DOMAIN_BLOCK_JOB_INFO_BANDWIDTH_BYTES)
        if not job:
            return None
        # Equal figures do not tell: they are equal before the first block, too.
        mirror = _disk(domain, target).find("mirror")
        return Moving(job["cur"], job["end"], job["bandwidth"], mirror is not None and mirror.get("ready") == "yes")

    return lane.run(work)


def set_speed(lane: HostLane, uuid: str, target: str, bytes_per_s: int) -> None:
    """Let a move that is under way go at most that fast from now on (0: as fast as it can)."""

    def work(connection: libvirt.virConnect) -> None:
        import libvirt

        domain = connection.lookupByUUIDString(uuid)
        domain.blockJobSetSpeed(target, bytes_per_s, libvirt.VIR_DOMAIN_BLOCK_JOB_SPEED_BANDWIDTH_BYTES)

    lane.run(work)


def pivot(lane: HostLane, uuid: str, target: str) -> None:
    """Let the VM go on with the new image alone, now and after its next start. Raises HostRefused if not ready."""

    def work(connection: libvirt.virConnect) -> None:
        import libvirt

        connection.lookupByUUIDString(uuid).blockJobAbort(target, libvirt.VIR_DOMAIN_BLOCK_JOB_ABORT_PIVOT)

    lane.run(work, timeout_s=_PIVOT_TIMEOUT_S)


def give_up(lane: HostLane, uuid: str, target: str) -> None:
    """End a move, and let the VM go on with the old image alone; one that is not under way is fine."""

    def work(connection: libvirt.virConnect) -> None:
        import libvirt

        domain = connection.lookupByUUIDString(uuid)
        try:
            domain.blockJobAbort(target)
        except libvirt.libvirtError as error:
            if error.get_error_code() not in (OPERATION_INVALID, libvirt.VIR_ERR_INVALID_ARG):
                raise

    lane.run(work, timeout_s=_BEGIN_TIMEOUT_S)


def image_of(lane: HostLane, uuid: str, target: str) -> str | None:
    """The path of the image that a disk lies in, now that it runs or else as it would start. Raises MissingOnHost."""

    def work(connection: libvirt.virConnect) -> str | None:
        disk = _disk(connection.lookupByUUIDString(uuid), target)
        return attribute_of(disk, "source", "file") or attribute_of(disk, "source", "dev")

    return lane.run(work)


def stopped_by_error(lane: HostLane, uuid: str) -> bool:
    """Whether the guest is paused because a disk could not be read or written. Raises MissingOnHost."""
    return lane.run(lambda connection: _stopped_by_error(connection.lookupByUUIDString(uuid)))


def let_run_again(lane: HostLane, uuid: str) -> bool:
    """Resume a guest that was stopped by an error of a disk; whether it stays running. One that runs is fine."""

    def attempt(connection: libvirt.virConnect) -> None:
        domain = connection.lookupByUUIDString(uuid)
        if _stopped_by_error(domain):
            domain.resume()

    for _ in range(RESUME_TRIES):
        if not stopped_by_error(lane, uuid):
            return True
        lane.run(attempt)
        time.sleep(_SETTLE_S)
    return not stopped_by_error(lane, uuid)


def take_policies_from(lane: HostLane, uuid: str, original: Definition) -> None:
    """Let disks react to errors as a definition says, from the next start on: while they moved they had to stop."""
    wanted = {attribute_of(disk, "target", "dev"): disk for disk in parse(original.inactive).iterfind("devices/disk")}

    def work(connection: libvirt.virConnect) -> None:
        import libvirt

        domain = connection.lookupByUUIDString(uuid)
        root = parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE))
        for disk in root.iterfind("devices/disk"):
            driver, as_it_was = disk.find("driver"), wanted.get(attribute_of(disk, "target", "dev"))
            if driver is None or as_it_was is None:
                continue
            for policy in _POLICIES:
                driver.attrib.pop(policy, None)
                said = attribute_of(as_it_was, "driver", policy)
                if said is not None:
                    driver.set(policy, said)
        connection.defineXML(to_bytes(root).decode())

    lane.run(work, timeout_s=_BEGIN_TIMEOUT_S)


def _disk(domain: libvirt.virDomain, target: str) -> Element:
    for disk in parse(domain.XMLDesc()).iterfind("devices/disk"):
        if attribute_of(disk, "target", "dev") == target:
            return disk
    return Element("disk")


def _stopped_by_error(domain: libvirt.virDomain) -> bool:
    state, reason = domain.state()
    return from_libvirt(state) is VmState.PAUSED and reason == _BY_IO_ERROR
