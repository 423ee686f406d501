"""Making a practice guest's disks: ext4 with content, without root and without mounting anything."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from engine.errors import MissingPackage, NewhopeError
from engine.lab.guests import MIB, DiskPlan, GuestPlan

_PAYLOAD_BYTES = 3 * MIB


class DiskNotMade(NewhopeError):
    """A program that makes disks failed."""


def make(guest: GuestPlan, disk: DiskPlan, path: Path) -> None:
    """Make the disk's image at `path`, sparse, with an ext4 that holds what the guest expects on it."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix="making-") as scratch:
        content = Path(scratch) / "content"
        content.mkdir()
        if disk.label == "data":
            _write_content(guest, content)
        raw = Path(scratch) / "raw"
        with raw.open("wb") as image:
            image.truncate(disk.size_bytes)
        # Without lazy initialisation the guest's kernel would write inode tables for minutes, seen as changed blocks.
        options = "root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0,nodiscard"
        _run("mke2fs", "-q", "-F", "-t", "ext4", "-L", disk.label, "-E", options, "-d", str(content), str(raw))
        if disk.format == "raw":
            raw.replace(path)
        else:
            _run("qemu-img", "convert", "-f", "raw", "-O", disk.format, str(raw), str(path))


def _write_content(guest: GuestPlan, folder: Path) -> None:
    payload = os.urandom(_PAYLOAD_BYTES)
    (folder / "name").write_text(f"{guest.name}\n")
    (folder / "payload").write_bytes(payload)
    (folder / "payload.sha256").write_text(f"{hashlib.sha256(payload).hexdigest()}  payload\n")
    if guest.history_lines:
        first_second = int(time.time()) - guest.history_lines
        lines = (f"{n} {first_second + n} {guest.name} 00000000\n" for n in range(1, guest.history_lines + 1))
        (folder / "journal").write_text("".join(lines))
        (folder / "boots").write_text("1\n")


_PACKAGES = {"mke2fs": ("e2fsprogs", "e2fsprogs"), "qemu-img": ("qemu-utils", "qemu-img")}


def _run(name: str, *arguments: str) -> None:
    program = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        debian, fedora = _PACKAGES[name]
        raise MissingPackage(
            f"The lab makes its disks with {name}, which is not installed.",
            next_step=f"Install it: `apt-get install {debian}` on Debian and Ubuntu, `dnf install {fedora}` on Fedora.",
        )
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise DiskNotMade(
            f"{name} could not make a practice disk: {done.stderr.strip()}",
            next_step="Look whether the lab's folder has space (`df`), then run `newhope lab reset`.",
        )
