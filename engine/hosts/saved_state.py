"""A running VM's memory and devices, kept in a file of the host and brought back from one (libvirt formatsnapshot).

libvirt writes the same kind of file for `virsh save` and for the memory of an external snapshot; the latter leaves the
VM as it is. So a snapshot of nothing but the memory, of a VM that is paused, is what belongs to the disks of a backup
that is begun before it runs on. Its metadata is not kept: nothing of it is left on the host but the file.

Name, UUID and the hardware that the guest sees are part of the file, and a VM can only be brought back with the same.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from engine.errors import Conflict, ExitCode, NewhopeError, NoSpace
from engine.hosts import scratch
from engine.hosts.model import Vm

if TYPE_CHECKING:
    import libvirt

    from engine.hosts.lane import HostLane

SAVE_TIMEOUT_S = 900.0
"""The guest stands still all the while: whoever has so much memory on so slow a disk must back it up another way."""
_OVERHEAD_BYTES = 64 << 20
"""Beside its memory: devices, video memory, and libvirt's own header."""


class MemoryCannotBeKept(NewhopeError):
    """A VM has something whose state libvirt cannot save."""

    exit_code = ExitCode.PREFLIGHT


def refuse_unsavable(vm: Vm, *, files: bool) -> None:
    """Raise MemoryCannotBeKept for a VM that libvirt is known to refuse, before it is touched.

    `files` says whether the files of its host can be read: the memory is one.
    """
    if not files:
        raise MemoryCannotBeKept(
            f"The memory of {vm.name} cannot be kept: libvirt writes it to a file of {vm.host}, which is reached"
            " without a way to its files.",
            next_step=f"make a point without memory (--method hot), or give newhope an SSH login on {vm.host}.",
        )
    if vm.host_devices:
        raise MemoryCannotBeKept(
            f"The memory of {vm.name} on {vm.host} cannot be kept: {', '.join(vm.host_devices)} of the host is passed"
            " through to it, and what is in that device cannot be read.",
            next_step=f"make a point without memory: newhope backup {vm.name} --method hot",
        )


def new_file(lane: HostLane, vm: Vm) -> Path:
    """A name for the file of a running VM's memory, among its scratch files and owned like them.

    Raises ScratchUnusable, NoSpace, HostUnreachable, MissingOnHost.
    """
    domain_id = lane.run(lambda connection: connection.lookupByUUIDString(vm.uuid).ID())
    files = scratch.new_files(scratch.folder_for(lane, domain_id, vm.name), vm.uuid)
    scratch.check_room(lane, files)
    free_bytes = lane.files.free_bytes((files.folder,)).get(files.folder)
    needed_bytes = vm.memory_bytes + _OVERHEAD_BYTES + lane.host.scratch_floor_bytes
    if free_bytes is not None and free_bytes < needed_bytes:
        raise NoSpace(
            f"The scratch folder {files.folder} of host {lane.host.name} has {free_bytes >> 20} MiB free; the memory"
            f" of {vm.name} may take {needed_bytes >> 20} MiB, with what has to stay free.",
            untouched=f"{vm.name} runs on, untouched.",
            next_step=f"free space there, set another scratch folder in [hosts.{lane.host.name}], or use --method hot.",
        )
    return files.scratch("memory")


def save(lane: HostLane, vm: Vm, path: Path) -> None:
    """Write the memory of a paused VM to a new file of the host; it stays paused.

    Raises HostRefused with libvirt's words for what cannot be saved, HostUnreachable if it takes too long.
    """
    snapshot = ElementTree.Element("domainsnapshot")
    ElementTree.SubElement(snapshot, "memory", snapshot="external", file=str(path))
    disks = ElementTree.SubElement(snapshot, "disks")
    for disk in vm.disks:
        ElementTree.SubElement(disks, "disk", name=disk.target, snapshot="no")
    text = ElementTree.tostring(snapshot, encoding="unicode")

    def work(connection: libvirt.virConnect) -> None:
        import libvirt

        connection.lookupByUUIDString(vm.uuid).snapshotCreateXML(
            text, libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_ATOMIC
        )

    lane.run(work, timeout_s=SAVE_TIMEOUT_S)


def definition_in(lane: HostLane, path: str) -> bytes:
    """The definition that a file of saved memory was made with. Raises HostRefused for another kind of file."""

    def work(connection: libvirt.virConnect) -> bytes:
        import libvirt

        return connection.saveImageGetXMLDesc(path, libvirt.VIR_DOMAIN_SAVE_IMAGE_XML_SECURE).encode()

    return lane.run(work)


def bring_back(lane: HostLane, path: str, definition: bytes, uuid: str) -> None:
    """Start a VM from a file of saved memory, paused; disks, networks and files beside it are the definition's.

    Raises Conflict if a VM of that UUID runs, HostRefused with QEMU's own words.
    """

    def work(connection: libvirt.virConnect) -> None:
        import libvirt

        running = [domain.UUIDString() for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)]
        if uuid in running:
            raise Conflict(
                f"A VM with the UUID {uuid} runs on {lane.host.name} already.",
                untouched="It was not touched.",
                next_step="Shut it down first, or bring the VM back without its memory.",
            )
        connection.restoreFlags(path, definition.decode(), libvirt.VIR_DOMAIN_SAVE_PAUSED)

    lane.run(work, timeout_s=SAVE_TIMEOUT_S)
