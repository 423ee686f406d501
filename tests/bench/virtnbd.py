"""virtnbdbackup as a peer for restores: a backup of disks by themselves, and the command that writes them again.

It wants a libvirt that knows the VM. A VM that is off is read from its images and written to new ones without a
hypervisor, so that libvirt's own test driver, told of the VM by a file, is enough; nothing of the data goes through it.
The qemu-nbd through which it writes is no child of its process: the CPU of its rows is without that.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

_VM = "bench"
_OFF = 5


def fill(folder: Path, disks: Mapping[str, Path]) -> Path:
    """Back qcow2 images up, each under the name that the VM has for it; where the backup lies. Not measured."""
    described, backup = folder / "libvirt.xml", folder / "backup"
    devices = "".join(
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{path}'/>"
        f"<target dev='{target}' bus='virtio'/></disk>"
        for target, path in disks.items()
    )
    described.write_text(
        "<node><domain type='test' xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>"
        f"<test:runstate>{_OFF}</test:runstate><name>{_VM}</name><memory>65536</memory><vcpu>1</vcpu>"
        f"<os><type>hvm</type></os><devices>{devices}</devices></domain></node>"
    )
    command = ["virtnbdbackup", "-U", f"test://{described}", "-d", _VM, "-l", "copy", "-n"]
    subprocess.run(
        [*command, "-f", folder / "virtnbdbackup.sock", "-o", backup], check=True, capture_output=True, text=True
    )
    return backup


def restore(backup: Path, folder: Path, disk: str) -> list[str]:
    """The command that writes one disk of a backup to a qcow2 image in a folder of its own below `folder`."""
    command = ["virtnbdrestore", "-U", "test:///default", "-n", "-i", str(backup), "-d", disk]
    # Two at once need sockets, folders and logs of their own.
    own = [f"{folder}/{disk}.sock", "-o", f"{folder}/{disk}", "-L", f"{folder}/{disk}.log"]
    return [*command, "-f", *own]


def version() -> str:
    """That of virtnbdbackup, of which virtnbdrestore is a part."""
    return subprocess.run(["virtnbdbackup", "--version"], check=True, capture_output=True, text=True).stdout.split()[-1]
