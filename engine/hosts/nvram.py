"""Where a VM's UEFI variables lie.

A running VM's definition says it. That of a VM which is off may not: with `firmware='efi'` libvirt before 9.2 picks
path and firmware at each start and keeps neither. It is then asked for the command line that it would start QEMU with.
"""

from __future__ import annotations

import json
import shlex
from copy import deepcopy
from typing import TYPE_CHECKING, cast
from xml.etree.ElementTree import Element

from engine.hosts.domain_xml import nvram_path
from engine.hosts.host_ties import drop
from engine.hosts.xml_tree import attribute_of, parse, to_bytes

if TYPE_CHECKING:
    import libvirt

_NODE = "libvirt-pflash1-storage"
"""libvirt's name for the flash with the variables; that with the program is 0."""


def find_nvram(connection: libvirt.virConnect, uuid: str) -> str | None:
    """The path of the VM's variables, which need not exist yet; None for a VM without, or if nobody tells."""
    import libvirt

    domain = connection.lookupByUUIDString(uuid)
    for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE):
        root = parse(domain.XMLDesc(flags))
        path = nvram_path(root)
        if path is not None:
            return path
        if attribute_of(root, "os", "firmware") != "efi":
            return None
    try:
        command = qemu_command(connection, parse(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)))
    except libvirt.libvirtError:
        # A host that could not start the VM now (no firmware, no such machine) cannot tell how it would.
        return None
    return variables_in(command)


def qemu_command(connection: libvirt.virConnect, domain: Element) -> str:
    """The command line that libvirt would start the VM with, but for its network cards. Raises libvirtError.

    libvirt would open a tap device for each (9.0): a user's own daemon may not, and with a bridge that is down, nobody
    can, though it has nothing to do with what is asked.
    """
    copied = deepcopy(domain)
    devices = copied.find("devices")
    if devices is not None:
        drop(devices, "interface")
    return connection.domainXMLToNative("qemu-argv", to_bytes(copied).decode())


def variables_in(command: str) -> str | None:
    """The variables' path in a QEMU command line as libvirt writes it."""
    for argument in shlex.split(command):
        if not argument.startswith("{") or _NODE not in argument:
            continue
        try:
            node = cast("dict[str, object]", json.loads(argument))
        except ValueError:
            continue
        if node.get("node-name") == _NODE and isinstance(node.get("filename"), str):
            return str(node["filename"])
    return None
