"""The snapshots that a VM has (https://libvirt.org/formatsnapshot.html), as its host keeps them.

A disk's content at an *internal* snapshot lies inside its image, where nobody who reads the disk sees it; that of an
*external* one lies in the layers below, and what the guest sees is read through them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from engine.hosts.lane import HostLane
from engine.hosts.model import Snapshot
from engine.hosts.xml_tree import attribute_of, parse, text_of

if TYPE_CHECKING:
    import libvirt


def snapshots_of(lane: HostLane, uuid: str) -> tuple[Snapshot, ...]:
    """The VM's snapshots, oldest first, without passwords. Raises HostUnreachable, MissingOnHost."""

    def work(connection: libvirt.virConnect) -> list[tuple[str, bool]]:
        found = connection.lookupByUUIDString(uuid).listAllSnapshots()
        return [(snapshot.getXMLDesc(), bool(snapshot.isCurrent())) for snapshot in found]

    read = (read_snapshot(xml, current=current) for xml, current in lane.run(work))
    return tuple(sorted(read, key=lambda each: (each.created, each.name)))


def read_snapshot(xml: str, *, current: bool) -> Snapshot:
    """A snapshot of its description."""
    root = parse(xml)
    kinds = {"internal": list[str](), "external": list[str]()}
    for disk in root.iterfind("disks/disk"):
        kinds.get(disk.get("snapshot", ""), []).append(disk.get("name", ""))
    return Snapshot(
        name=text_of(root, "name") or "",
        parent=text_of(root, "parent/name"),
        created=datetime.fromtimestamp(int(text_of(root, "creationTime") or 0), UTC),
        current=current,
        internal=tuple(kinds["internal"]),
        external=tuple(kinds["external"]),
        memory={"no": "none", None: "none"}.get(kind := attribute_of(root, "memory", "snapshot"), kind or "none"),
        content=xml.encode(),
    )
