"""VMs of a few hundred kilobytes, for tests and measurements that need many or some of their own; none boots."""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path

from engine.hosts import HostLane
from engine.lab import Lab
from engine.lab.layout import layout_of

MIB = 1024 * 1024


def make_lab_settings(lab: Lab, more: str) -> Path:
    """A second settings file beside the lab's, with something added."""
    file = lab.folder / "more.toml"
    file.write_text(f"{lab.settings_file.read_text()}\n{more}\n")
    return file


def define(lab: Lab, lane: HostLane, name: str, *, tags: str = "", start: bool = False) -> str:
    """Define a VM with one small empty disk on the lane's host; answers its UUID."""
    number = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{lab.folder}/{lane.host.name}/{name}"))
    disk = layout_of(lab.folder).host(lane.host.name).pool / f"{name}.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, str(8 * MIB)], check=True)
    disk.chmod(0o666)
    metadata = f"<metadata><n:tags xmlns:n='urn:newhope:tags'>{tags}</n:tags></metadata>" if tags else ""
    definition = (
        f"<domain type='qemu'><name>{name}</name><uuid>{number}</uuid>{metadata}<memory unit='MiB'>32</memory>"
        "<vcpu>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os><devices>"
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{disk}'/>"
        "<target dev='vda' bus='virtio'/></disk><memballoon model='none'/></devices></domain>"
    )

    def work(connection: object) -> None:
        domain = connection.defineXML(definition)  # pyright: ignore[reportAttributeAccessIssue]
        if start:
            domain.create()

    lane.run(work)
    return number
