"""What newhope is doing to a VM that has to be undone: a note in the VM's own metadata, written before the act.

A process that freezes a guest, stops it or shuts it down may be killed in the middle, and its machine with it. The note
is kept by the VM's host, so whoever comes next, from wherever, can tell a guest that newhope has stopped from one that
its owner wanted so. There is one at a time for a VM:

    <newhope-work:work xmlns:newhope-work="urn:newhope:work" act="paused" owner="MACHINE-PID-START" domain="7"
                       began="1764306000"/>

What ends with the running VM (frozen, paused) is noted in the running VM only, and goes with it; a shutdown in its
persistent definition, too. `domain` is libvirt's number of the running VM, which a new start changes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from msgspec import Struct

from engine.hosts.errors import NO_DOMAIN, OPERATION_INVALID
from engine.hosts.owner import Owner, read_mark
from engine.hosts.xml_tree import parse

if TYPE_CHECKING:
    import libvirt

    from engine.hosts.lane import HostLane

NAMESPACE = "urn:newhope:work"
_PREFIX = "newhope-work"
_NO_METADATA = 80


class Act(StrEnum):
    """What was begun, and has to be undone."""

    FROZEN = "frozen"
    """Its file systems are held still: thaw them."""
    PAUSED = "paused"
    """It ran, and its CPUs were stopped: let it run."""
    SHUT_DOWN = "shut-down"
    """It ran, and was asked to shut down: start it, or let it run if it was started paused."""
    STARTED = "started"
    """It was off, and was started paused: cut its power."""


class VmNote(Struct, frozen=True):
    """One note: what was begun, by whom, on which run of the VM, and when."""

    act: Act
    owner: Owner
    domain_id: int
    """-1 for a VM that was off."""
    began: datetime


def write(lane: HostLane, vm_uuid: str, note: VmNote) -> None:
    """Put the note in the place of any other of the VM. Raises HostUnreachable, HostRefused, MissingOnHost."""
    element = ElementTree.Element(
        "work",
        act=note.act.value,
        owner=note.owner.mark,
        domain=str(note.domain_id),
        began=str(int(note.began.timestamp())),
    )
    _set(lane, vm_uuid, ElementTree.tostring(element, encoding="unicode"), persistent=note.act is Act.SHUT_DOWN)


def erase(lane: HostLane, vm_uuid: str) -> None:
    """Take the VM's note away; without one, or without the VM, nothing happens. Raises HostUnreachable, HostRefused."""
    _set(lane, vm_uuid, None, persistent=True)


def read(domain: libvirt.virDomain) -> VmNote | None:
    """The VM's note; None if there is none, or it cannot be understood."""
    import libvirt

    # The running VM's comes first: a shutdown's is in both places, all others only there.
    for where in (libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG):
        try:
            return _understood(domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NAMESPACE, where))
        except libvirt.libvirtError as error:
            # No note, a VM that is off and has no live definition, or one that is transient and has no other.
            if error.get_error_code() not in (_NO_METADATA, OPERATION_INVALID, libvirt.VIR_ERR_INVALID_ARG):
                raise
    return None


def _understood(text: str) -> VmNote | None:
    element = parse(text)
    machine, _, process = element.get("owner", "").partition("-")
    pid, _, start = process.partition("-")
    try:
        return VmNote(
            act=Act(element.get("act", "")),
            owner=read_mark(machine, pid, start),
            domain_id=int(element.get("domain", "")),
            began=datetime.fromtimestamp(int(element.get("began", "")), UTC),
        )
    except ValueError:
        return None


def _set(lane: HostLane, vm_uuid: str, element: str | None, *, persistent: bool) -> None:
    def work(connection: libvirt.virConnect) -> None:
        import libvirt

        try:
            domain = connection.lookupByUUIDString(vm_uuid)
        except libvirt.libvirtError as error:
            if element is None and error.get_error_code() == NO_DOMAIN:
                return
            raise
        live = libvirt.VIR_DOMAIN_AFFECT_LIVE if domain.isActive() else 0
        kept = domain.isPersistent() and (persistent or not live)
        config = libvirt.VIR_DOMAIN_AFFECT_CONFIG if kept else 0
        kind = libvirt.VIR_DOMAIN_METADATA_ELEMENT
        if element is not None:
            domain.setMetadata(kind, element, _PREFIX, NAMESPACE, live | config)
            return
        for where in (each for each in (live, config) if each):
            try:
                domain.setMetadata(kind, None, _PREFIX, NAMESPACE, where)
            except libvirt.libvirtError as error:
                # To take away what is not there is an error since libvirt 10.
                if error.get_error_code() != _NO_METADATA:
                    raise

    lane.run(work)
