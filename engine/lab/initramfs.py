"""The root file system of every practice guest: busybox, the agent and its libraries, kernel modules, our scripts.

One archive serves all guests. Equal parts give equal bytes, so a cache can hold it.
"""

from __future__ import annotations

import io
from importlib.resources import files

from engine.lab.cpio import CpioWriter
from engine.lab.guest_parts import GuestParts

MODULES = (
    "virtio_pci",
    "virtio_blk",
    "virtio_scsi",
    "sd_mod",
    "virtio_console",
    "virtio_net",
    "virtio_rng",
    "crc32c_generic",
    "ext4",
    "button",
    "evdev",
    "efivarfs",
)
"""What a guest loads, besides what these depend on: disks, agent channel, network card, entropy, ext4, power button,
and the variables of its firmware, if that is UEFI."""

_SCRIPTS = {
    "init": "init",
    "journal": "usr/bin/journal",
    "journal-writer": "usr/sbin/journal-writer",
    "shutdown": "sbin/shutdown",
    "power-button": "etc/acpi/PWRF/00000080",
}


_HOOKS_FOLDER = "etc/qemu/fsfreeze-hook.d"


def build(parts: GuestParts) -> bytes:
    """Write the archive, uncompressed: under emulation unpacking it would cost more than reading it."""
    sink = io.BytesIO()
    archive = CpioWriter(sink)
    for folder in ("dev", "proc", "sys", "run", "tmp", "data", "etc", "root", "var/log", "var/run", _HOOKS_FOLDER):
        archive.folder(folder)
    archive.character_device("dev/console", 5, 1)
    archive.character_device("dev/null", 1, 3, 0o666)
    _add_busybox(archive, parts)
    for module in parts.modules:
        archive.file(f"lib/modules/{module.name}.ko", module.content)
    archive.file("lib/modules/order", "".join(f"{module.name}.ko\n" for module in parts.modules).encode())
    for library in parts.libraries:
        archive.file(library.path, library.content, 0o755)
    archive.file("usr/sbin/qemu-ga", parts.agent, 0o755)
    for name, path in _SCRIPTS.items():
        archive.file(path, guest_script(name), 0o755)
    archive.file("etc/qemu/fsfreeze-hook", freeze_hook(), 0o755)
    archive.file("etc/os-release", guest_script("os-release"))
    archive.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
    archive.file("etc/group", b"root:x:0:\n")
    archive.close()
    return sink.getvalue()


def guest_script(name: str) -> bytes:
    """Content of one of the files in `engine/lab/guest`."""
    return (files("engine.lab") / "guest" / name).read_bytes()


def freeze_hook() -> bytes:
    """What the agent of a guest runs at freeze and thaw: the same that newhope recommends for guests of one's own."""
    return (files("engine.hosts") / "hooks" / "fsfreeze-hook").read_bytes()


def _add_busybox(archive: CpioWriter, parts: GuestParts) -> None:
    archive.file("bin/busybox", parts.busybox, 0o755)
    # The commands are links made here, not by `busybox --install` at boot: emulated, that takes a second.
    for applet in parts.busybox_commands:
        archive.link(f"bin/{applet}", "busybox")
