"""newhope's own checkpoints of a VM: the marks from which dirty bitmaps count (libvirt formatcheckpoint).

Every name is used once: a bitmap may outlive its checkpoint, and a second one of that name would be refused. Only
checkpoints whose name has our form are ever deleted; others belong to somebody else's backups.

A VM that is backed up to several repositories has a checkpoint for each: the last part of its name, the *chain*, says
for which, so that the one does not take away what the other counts from.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from msgspec import Struct

from engine.hosts import backup_xml
from engine.hosts.errors import CHECKPOINT_INCONSISTENT, NO_DOMAIN_CHECKPOINT, HostRefused
from engine.hosts.xml_tree import parse, text_of

if TYPE_CHECKING:
    import libvirt

    from engine.hosts.lane import HostLane

DELETE_TIMEOUT_S = 60.0
_RESTORED = "restored by newhope from "

CHAIN_DIGITS = 8

_OWN_NAME = re.compile(r"newhope-\d{8}T\d{6}Z-[0-9a-f]{6}(?:-([0-9a-f]{8}))?")


class KnownCheckpoint(Struct, frozen=True):
    """A checkpoint that the host knows of a VM, whoever made it."""

    name: str
    created: datetime
    disks: tuple[str, ...]
    """Targets of the disks on which a bitmap counts from it."""
    restored_from: str = ""
    """For one that a restore began: `VM-UUID@POINT`, the recovery point whose content the disks had then."""


def new_name(now: datetime | None = None, *, chain: str = "", mark: str = "") -> str:
    """A name for a new checkpoint, never used before: `newhope-20261122T081300Z-a1b2c3`, with its chain at the end.

    `chain` is 8 hexadecimal digits that tell one repository from another; "" belongs to none. `mark` is 6 of them in
    place of random ones, for who must find the same name again.
    """
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    name = f"newhope-{moment:%Y%m%dT%H%M%SZ}-{mark or secrets.token_hex(3)}"
    return f"{name}-{chain}" if chain else name


def chain_of(name: str) -> str:
    """The chain that a name of ours belongs to; "" for none."""
    found = _OWN_NAME.fullmatch(name)
    return (found.group(1) or "") if found else ""


def is_own(name: str) -> bool:
    """Whether a checkpoint of that name is newhope's."""
    return _OWN_NAME.fullmatch(name) is not None


def own_checkpoints(lane: HostLane, uuid: str) -> tuple[str, ...]:
    """Names of newhope's checkpoints of a VM, oldest first. Raises HostUnreachable, MissingOnHost."""

    return tuple(sorted(each.name for each in known_checkpoints(lane, uuid) if is_own(each.name)))


def known_checkpoints(lane: HostLane, uuid: str) -> tuple[KnownCheckpoint, ...]:
    """All checkpoints of a VM, ours and others', oldest first. Raises HostUnreachable, MissingOnHost."""

    def read(connection: libvirt.virConnect) -> list[str]:
        domain = connection.lookupByUUIDString(uuid)
        return [checkpoint.getXMLDesc() for checkpoint in domain.listAllCheckpoints()]

    found = (_known(parse(description)) for description in lane.run(read))
    return tuple(sorted(found, key=lambda each: (each.created, each.name)))


def description(lane: HostLane, uuid: str, name: str) -> bytes | None:
    """What libvirt needs to know a checkpoint again (REDEFINE), without the VM in it; None if it is gone."""

    def read(connection: libvirt.virConnect) -> bytes | None:
        import libvirt

        try:
            checkpoint = connection.lookupByUUIDString(uuid).checkpointLookupByName(name)
            return checkpoint.getXMLDesc(libvirt.VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN).encode()
        except libvirt.libvirtError as error:
            if error.get_error_code() == NO_DOMAIN_CHECKPOINT:
                return None
            raise

    return lane.run(read)


def describe_restored(lane: HostLane, uuid: str, name: str, disks: Iterable[str], restored_from: str) -> None:
    """Tell the host of a checkpoint whose bitmaps were put into a VM's images before it first started.

    `restored_from` is `VM-UUID@POINT`. Disks that are not named have no bitmap. A VM that has it already is fine.
    (libvirt formatcheckpoint, VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE.) Raises HostUnreachable, HostRefused.
    """
    tracked = frozenset(disks)

    def work(connection: libvirt.virConnect) -> None:
        import libvirt

        domain = connection.lookupByUUIDString(uuid)
        root = ElementTree.Element("domaincheckpoint")
        ElementTree.SubElement(root, "name").text = name
        ElementTree.SubElement(root, "description").text = f"{_RESTORED}{restored_from}"
        ElementTree.SubElement(root, "creationTime").text = str(int(datetime.now(UTC).timestamp()))
        entries = ElementTree.SubElement(root, "disks")
        for disk in parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)).iterfind("devices/disk/target"):
            target = disk.get("dev", "")
            if target in tracked:
                ElementTree.SubElement(entries, "disk", name=target, checkpoint="bitmap", bitmap=name)
            else:
                ElementTree.SubElement(entries, "disk", name=target, checkpoint="no")
        text = ElementTree.tostring(root, encoding="unicode")
        domain.checkpointCreateXML(text, libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE)

    lane.run(work)


def _known(description: Element) -> KnownCheckpoint:
    said = text_of(description, "description") or ""
    return KnownCheckpoint(
        name=text_of(description, "name") or "",
        created=datetime.fromtimestamp(int(text_of(description, "creationTime") or 0), UTC),
        disks=tuple(
            disk.get("name", "") for disk in description.iterfind("disks/disk") if disk.get("checkpoint") == "bitmap"
        ),
        restored_from=said.removeprefix(_RESTORED) if said.startswith(_RESTORED) else "",
    )


def know_again(
    lane: HostLane, uuid: str, name: str, *, created: datetime, targets: Iterable[str]
) -> KnownCheckpoint | None:
    """Make the host know one of newhope's checkpoints whose bitmaps a running VM has brought along; None if it has not.

    A migration takes the bitmaps with it and leaves the checkpoint behind, and so does somebody who takes a VM's
    definition off its host and puts it back. libvirt asks QEMU whether each bitmap is there and consistent
    (virDomainCheckpointCreateXML, `REDEFINE_VALIDATE`); disks that lack it are left out.
    Raises HostUnreachable, MissingOnHost.
    """
    left = tuple(targets)
    while left:
        description = backup_xml.checkpoint_again(name, created, left)
        try:
            lane.run(partial(_define_again, uuid=uuid, description=description))
        except HostRefused as refused:
            # Refused for another reason, or without a name: nothing is lost but the time that a full read takes.
            lacking = {target for target in left if f"'{target}'" in refused.text}
            if refused.code != CHECKPOINT_INCONSISTENT or not lacking:
                return None
            left = tuple(target for target in left if target not in lacking)
        else:
            return KnownCheckpoint(name, created, left)
    return None


def _define_again(connection: libvirt.virConnect, *, uuid: str, description: str) -> None:
    import libvirt

    flags = libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE | libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE_VALIDATE
    connection.lookupByUUIDString(uuid).checkpointCreateXML(description, flags)


def delete(lane: HostLane, uuid: str, name: str) -> bool:
    """Delete one of newhope's checkpoints with its bitmaps; whether it is gone.

    What it had recorded goes to the checkpoint before it, so nothing is lost for that one. If a bitmap has vanished
    (QEMU was killed, the image was converted), libvirt can only forget the checkpoint, which is done. A VM that is off
    keeps it: libvirt cannot reach the bitmap then, so it waits for a later call. One that is gone already is fine.
    Raises HostUnreachable, HostRefused, MissingOnHost (no such VM), and ValueError for a name that is not newhope's.
    """
    if not is_own(name):
        raise ValueError(f"{name} is not a checkpoint of newhope")

    def carry_out(connection: libvirt.virConnect) -> bool:
        import libvirt

        domain = connection.lookupByUUIDString(uuid)
        try:
            checkpoint = domain.checkpointLookupByName(name)
            checkpoint.delete()
        except libvirt.libvirtError as error:
            code = error.get_error_code()
            if code == NO_DOMAIN_CHECKPOINT:
                return True
            if not domain.isActive():
                return False
            if not _bitmap_gone(code, str(error)):
                raise
            domain.checkpointLookupByName(name).delete(libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
        return True

    return lane.run(carry_out, timeout_s=DELETE_TIMEOUT_S)


def take_away(lane: HostLane, uuid: str, name: str, targets: Iterable[str]) -> bool:
    """Delete one of newhope's checkpoints of a running VM with its bitmaps, also one that libvirt does not know.

    A daemon that died between QEMU's bitmaps and its own record, or whose records were lost, leaves bitmaps that only
    their name finds: it is made to know them again (`know_again`), which changes nothing in the guest, and deletes them
    then. `targets` are the disks that may have one. Bitmaps that are inconsistent it does not take while the VM runs.
    Returns and raises as `delete` does.
    """
    if not is_own(name):
        raise ValueError(f"{name} is not a checkpoint of newhope")
    if all(each.name != name for each in known_checkpoints(lane, uuid)):
        know_again(lane, uuid, name, created=datetime.now(UTC), targets=targets)
    return delete(lane, uuid, name)


def forget(lane: HostLane, uuid: str, name: str) -> None:
    """Let libvirt forget one of newhope's checkpoints whose bitmaps are gone, also of a VM that is off.

    One that it does not know is fine. Raises as `delete` does.
    """
    if not is_own(name):
        raise ValueError(f"{name} is not a checkpoint of newhope")

    def carry_out(connection: libvirt.virConnect) -> None:
        import libvirt

        try:
            checkpoint = connection.lookupByUUIDString(uuid).checkpointLookupByName(name)
            checkpoint.delete(libvirt.VIR_DOMAIN_CHECKPOINT_DELETE_METADATA_ONLY)
        except libvirt.libvirtError as error:
            if error.get_error_code() != NO_DOMAIN_CHECKPOINT:
                raise

    lane.run(carry_out, timeout_s=DELETE_TIMEOUT_S)


def _bitmap_gone(code: int | None, text: str) -> bool:
    # libvirt 9.0 says so with code 1, which stands for many things.
    return code == CHECKPOINT_INCONSISTENT or ("bitmap" in text and "not found" in text)
