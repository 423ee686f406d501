"""VMs of a few hundred kilobytes, for tests and measurements that need many or some of their own.

None has an operating system; what one does that is started is a program of a few bytes at the begin of its disk.
"""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path

from engine.hosts import HostLane
from engine.lab import Lab
from engine.lab.layout import layout_of

MIB = 1024 * 1024
WRITES = bytes.fromhex("b82e0e cd10 fbf4 ebf7")
"""Writes a dot on the screen at each tick of the clock, for as long as it lives: int 10h, then `hlt`."""
GOES_OFF = bytes.fromhex("b91200 fbf4 e2fc ba0406 b80020 ef ebfe")
"""Waits a second, then switches its machine off: SLP_EN to the PM1a control register (ACPI 4.8.3.2) where SeaBIOS has
it, at port 604h."""


def make_lab_settings(lab: Lab, more: str) -> Path:
    """A second settings file beside the lab's, with something added."""
    file = lab.folder / "more.toml"
    file.write_text(f"{lab.settings_file.read_text()}\n{more}\n")
    return file


def define(
    lab: Lab, lane: HostLane, name: str, *, tags: str = "", start: bool = False, program: bytes = b"", devices: str = ""
) -> str:
    """Define a VM with one small disk on the lane's host, empty or with a program to boot; answers its UUID."""
    number = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{lab.folder}/{lane.host.name}/{name}"))
    disk = layout_of(lab.folder).host(lane.host.name).pool / f"{name}.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, str(8 * MIB)], check=True)
    if program:
        sector = disk.with_suffix(".boot")
        sector.write_bytes(program.ljust(510, b"\0") + b"\x55\xaa")
        subprocess.run(
            ["qemu-io", "-f", "qcow2", "-c", f"write -s {sector} 0 512", disk], check=True, capture_output=True
        )
        sector.unlink()
    disk.chmod(0o666)
    metadata = f"<metadata><n:tags xmlns:n='urn:newhope:tags'>{tags}</n:tags></metadata>" if tags else ""
    definition = (
        f"<domain type='qemu'><name>{name}</name><uuid>{number}</uuid>{metadata}<memory unit='MiB'>32</memory>"
        "<vcpu>1</vcpu><os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features><devices>"
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{disk}'/>"
        f"<target dev='vda' bus='virtio'/></disk>{devices}<memballoon model='none'/></devices></domain>"
    )

    def work(connection: object) -> None:
        domain = connection.defineXML(definition)  # pyright: ignore[reportAttributeAccessIssue]
        if start:
            domain.create()

    lane.run(work)
    return number
