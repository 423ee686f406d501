"""A VM kept aside while another one takes its name and UUID, and put back exactly as it was.

libvirt changes no UUID and renames no VM that has checkpoints, so the VM is taken off the host, files kept, and defined
again under its other name:

1. `look` reads everything that a removal of the definition loses: the definition with its secrets, whether it starts
   with its host, checkpoints and snapshots with their order. The caller makes that durable before the next call.
2. `set_aside` removes the definition (disks, NVRAM and TPM state stay) and defines the VM under the other name and
   UUID. It is off, does not start with its host, and its disks are the same files. The state of its TPM, which goes by
   UUID, is copied, so that a VM that gets its UUID may have another.
3. `put_back` does the reverse; checkpoints and snapshots are described to libvirt again.

Both can be called again from wherever an earlier call was cut off. Facts: libvirt `virDomainUndefineFlags`,
`VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE`, `VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from engine.errors import Conflict
from engine.hosts import tpm_state
from engine.hosts.host_file import read_file
from engine.hosts.lane import HostLane
from engine.hosts.model import BootFile
from engine.hosts.nvram import find_nvram
from engine.hosts.power import name_of, undefine
from engine.hosts.xml_tree import parse, to_bytes

if TYPE_CHECKING:
    import libvirt

_TIMEOUT_S = 60.0


class KeptOriginal(Struct, frozen=True):
    """A VM as the host knew it before it was put aside. It may hold secrets."""

    uuid: str
    name: str
    definition: bytes
    autostart: bool
    checkpoints: tuple[bytes, ...] = ()
    """Their descriptions, parents first."""
    snapshots: tuple[bytes, ...] = ()
    nvram: str | None = None
    """Where its UEFI variables lie, which its definition need not say."""
    tpm: str | None = None
    """Where the state of its emulated TPM lies."""


def look(lane: HostLane, uuid: str) -> KeptOriginal:
    """Everything of a VM that is lost with its definition. Raises MissingOnHost, HostRefused."""

    def work(connection: libvirt.virConnect) -> KeptOriginal:
        import libvirt

        domain = connection.lookupByUUIDString(uuid)
        secure = libvirt.VIR_DOMAIN_XML_SECURE | libvirt.VIR_DOMAIN_XML_INACTIVE
        topological = libvirt.VIR_DOMAIN_CHECKPOINT_LIST_TOPOLOGICAL
        snapshots = libvirt.VIR_DOMAIN_SNAPSHOT_LIST_TOPOLOGICAL
        return KeptOriginal(
            uuid=uuid,
            name=domain.name(),
            definition=domain.XMLDesc(secure).encode(),
            autostart=bool(domain.autostart()),
            checkpoints=tuple(each.getXMLDesc(0).encode() for each in domain.listAllCheckpoints(topological)),
            snapshots=tuple(
                each.getXMLDesc(libvirt.VIR_DOMAIN_SNAPSHOT_XML_SECURE).encode()
                for each in domain.listAllSnapshots(snapshots)
            ),
            nvram=find_nvram(connection, uuid),
        )

    kept = lane.run(work, timeout_s=_TIMEOUT_S)
    state = tpm_state.read(lane, uuid)
    return kept if state is None else replace(kept, tpm=str(state.path))


def set_aside(lane: HostLane, kept: KeptOriginal, name: str, uuid: str) -> None:
    """Let a VM that is off be known by another name and UUID; one that is already is fine. Raises HostRefused."""
    if name_of(lane, uuid) != name:
        undefine(lane, kept.uuid, keep_nothing=False)
        lane.run(lambda connection: connection.defineXML(_renamed(kept, name, uuid)), timeout_s=_TIMEOUT_S)
    if kept.tpm is not None and tpm_state.path_of(lane, uuid) != Path(kept.tpm):
        state = read_file(lane, Path(kept.tpm))
        tpm_state.put(lane, uuid, BootFile("tpm", Path(kept.tpm), state))


def put_back(lane: HostLane, kept: KeptOriginal, uuid: str) -> None:
    """Let the VM be known as it was; `uuid` is the one that it has while it is aside. Raises HostRefused, Conflict."""

    def work(connection: libvirt.virConnect) -> None:
        import libvirt

        domain = connection.defineXML(kept.definition.decode())
        for description in kept.checkpoints:
            domain.checkpointCreateXML(description.decode(), libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE)
        for description in kept.snapshots:
            domain.snapshotCreateXML(description.decode(), libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE)
        domain.setAutostart(int(kept.autostart))

    if uuid != kept.uuid:
        taken = name_of(lane, kept.uuid)
        if taken is not None and taken != kept.name:
            raise Conflict(
                f"{kept.name} cannot be put back on {lane.host.name}: its UUID is {taken}'s now.",
                untouched="It stays aside, with all its disks.",
                next_step=f"take {taken} away first, then undo the restore again: newhope restores.",
            )
    # Its definition goes, the state of its TPM stays, so that whoever is cut off here finds it the next time.
    undefine(lane, uuid, keep_nothing=False)
    lane.run(work, timeout_s=_TIMEOUT_S)
    aside = _tpm_aside(kept, uuid)
    if kept.tpm is not None and aside is not None:
        tpm_state.put(lane, kept.uuid, BootFile("tpm", Path(kept.tpm), read_file(lane, aside)))
        if lane.files.reachable:
            lane.files.remove((aside,))


def _tpm_aside(kept: KeptOriginal, uuid: str) -> Path | None:
    """Where the copy of its TPM's state lies; None if it needed none."""
    if kept.tpm is None or kept.uuid not in kept.tpm or uuid == kept.uuid:
        return None
    return Path(kept.tpm.replace(kept.uuid, uuid))


def _renamed(kept: KeptOriginal, name: str, uuid: str) -> str:
    root = parse(kept.definition)
    for tag, text in (("name", name), ("uuid", uuid)):
        element = root.find(tag)
        if element is not None:
            element.text = text
    for entry in root.iterfind("sysinfo/system/entry[@name='uuid']"):
        # libvirt refuses a definition whose SMBIOS says another UUID.
        if (entry.text or "").strip() == kept.uuid:
            entry.text = uuid
    nvram = root.find("os/nvram")
    if kept.nvram is not None and nvram is not None and not nvram.text:
        nvram.text = kept.nvram
    return to_bytes(root).decode()
