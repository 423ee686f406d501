"""The state of a VM's emulated TPM: keys and counters, without which a guest's disk encryption asks for a recovery key.

libvirt keeps it in a folder named after the VM's UUID and offers nothing to fetch or bring it; the place follows from
where the host keeps UEFI variables (libvirt 9.0: `/var/lib/libvirt/swtpm` of a system daemon, and `qemu/swtpm` of a
user's own):

1. A definition may name the place itself (`<source>`, libvirt 10.10).
2. Otherwise the host is asked where it would put the variables of a VM that does not exist, and that tells its folder.
3. Reading goes the way of every small file (`host_file`). Writing goes through a pool that exists for a moment, so
   that the daemon itself makes folder and file, as the user it is.

A restored VM has a UUID of its own, so its state has a folder of its own: put there before its first start, for
libvirt makes a new TPM where there is none. What swtpm writes is complete at any time (it replaces the file whole).
"""

from __future__ import annotations

import uuid
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import Conflict
from engine.hosts.errors import HostRefused, MissingOnHost
from engine.hosts.host_file import read_file
from engine.hosts.lane import HostLane
from engine.hosts.model import BootFile
from engine.hosts.nvram import variables_in
from engine.hosts.volumes import upload
from engine.hosts.xml_tree import attribute_of, parse, text_of

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    import libvirt

_FILES = {"2.0": "tpm2/tpm2-00.permall", "1.2": "tpm1.2/tpm-00.permall"}
_SYSTEM_FOLDER = Path("/var/lib/libvirt/swtpm")
_TIMEOUT_S = 60.0
_PROBE = (
    "<domain type='{kind}'><name>newhope-probe</name><memory>1024</memory>"
    "<os><type arch='{arch}' machine='{machine}'>hvm</type>"
    "<loader readonly='yes' type='pflash'>/newhope/code.fd</loader><nvram template='/newhope/vars.fd'/></os>"
    "<features><acpi/></features></domain>"
)


def read(lane: HostLane, uuid: str) -> BootFile | None:
    """The state of the VM's emulated TPM as it is now; None for a VM without one, or that never ran.

    Raises MissingOnHost (no such VM), HostRefused, OSError.
    """
    path = lane.run(lambda connection: _path_of(connection, uuid))
    if path is None:
        return None
    try:
        return BootFile(role="tpm", path=path, content=read_file(lane, path))
    except (MissingOnHost, FileNotFoundError):
        return None
    except HostRefused as refused:
        if "No such file or directory" not in refused.text:
            raise
        return None


def put(lane: HostLane, uuid: str, state: BootFile, *, instead_of: bytes | None = None) -> Path:
    """Give the VM of that UUID, which is defined and has never run, the state of another; where it lies then.

    Raises Conflict where there is another state already, unless that is `instead_of`, which is kept elsewhere: it is
    somebody's. The same one is left as it is.
    """
    there = read(lane, uuid)
    if there is not None and there.content == state.content:
        return there.path
    if there is not None and there.content != instead_of:
        raise Conflict(
            f"There is a TPM state at {there.path} on {lane.host.name} already, and it is another one.",
            untouched="It was left as it is.",
            next_step="Move it away if no VM needs it, or restore under a new UUID.",
        )

    def work(connection: libvirt.virConnect) -> Path:
        import libvirt

        path = _path_of(connection, uuid)
        if path is None:
            raise ValueError(f"The VM {uuid} has no emulated TPM.")
        pool = connection.storagePoolCreateXML(_pool_xml(path.parent), libvirt.VIR_STORAGE_POOL_CREATE_WITH_BUILD)
        try:
            if there is not None:
                pool.storageVolLookupByName(path.name).delete()
            volume = pool.createXML(_volume_xml(path.name, len(state.content)))
            try:
                upload(connection, volume, state.content)
            except BaseException:
                volume.delete()
                raise
        finally:
            pool.destroy()
        return path

    return lane.run(work, timeout_s=_TIMEOUT_S)


def path_of(lane: HostLane, uuid: str) -> Path | None:
    """Where the VM's state lies, or will; None for a VM without an emulated TPM. Raises MissingOnHost."""
    return lane.run(lambda connection: _path_of(connection, uuid))


def place_for(connection: libvirt.virConnect, domain: Element) -> Path | None:
    """Folder that the state of a VM of this definition gets, defined or not; None for a VM without an emulated TPM,
    or if the host does not tell. Within a lane's work; raises libvirt's error."""
    if domain.find("devices/tpm/backend[@type='emulator']") is None:
        return None
    try:
        return _folder(connection, domain) / (text_of(domain, "uuid") or "")
    except OSError:
        return None


def _path_of(connection: libvirt.virConnect, uuid: str) -> Path | None:
    domain = parse(connection.lookupByUUIDString(uuid).XMLDesc())
    backend = domain.find("devices/tpm/backend[@type='emulator']")
    if backend is None:
        return None
    file = _FILES.get(backend.get("version", "2.0"), _FILES["2.0"])
    named = attribute_of(backend, "source", "path")
    if named is not None:
        return Path(named) if attribute_of(backend, "source", "type") == "file" else Path(named) / Path(file).name
    return _folder(connection, domain) / uuid / file


def _folder(connection: libvirt.virConnect, domain: Element) -> Path:
    """Where the host keeps the states of all its VMs."""
    if connection.getURI().endswith("/system"):
        return _SYSTEM_FOLDER
    kind = attribute_of(domain, "os/type", "arch") or "x86_64"
    probe = _PROBE.format(
        kind=domain.get("type", "qemu"),
        arch=kind,
        machine=attribute_of(domain, "os/type", "machine") or "q35",
    )
    variables = variables_in(connection.domainXMLToNative("qemu-argv", probe))
    if variables is None:
        raise OSError("the host does not tell where it keeps the states of emulated TPMs")
    return Path(variables).parent.parent / "swtpm"


def _pool_xml(folder: Path) -> str:
    return (
        f"<pool type='dir'><name>newhope-tpm-{uuid.uuid4()}</name>"
        f"<target><path>{escape(str(folder), quote=False)}</path>"
        "<permissions><mode>0700</mode></permissions></target></pool>"
    )


def _volume_xml(name: str, size_bytes: int) -> str:
    return (
        f"<volume><name>{escape(name, quote=False)}</name><capacity unit='bytes'>{size_bytes}</capacity>"
        "<target><format type='raw'/><permissions><mode>0600</mode></permissions></target></volume>"
    )
