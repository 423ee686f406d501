"""On which disks a path lies, so that a VM and its backup on the same one are noticed.

1. The path's file system has a device number (`st_dev`; for a path that does not exist, its nearest folder that does),
   or is itself a device, such as a logical volume that a VM has as its disk.
2. The kernel shows a block device of that number under `/sys/dev/block`. A mapped device (LVM, LUKS, RAID) stands for
   all disks below it (`slaves/`), a partition for the disk it is on.
3. File systems without a block device of their own (btrfs, overlay, NFS, ...) are looked up among the mounts; a
   network file system is named by its source, and is not on this machine.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from msgspec import Struct

_FUSE = frozenset({"fuse.ceph", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"})
NETWORK_FILE_SYSTEMS = _FUSE | frozenset(
    {"9p", "afs", "ceph", "cifs", "gfs2", "glusterfs", "lustre", "nfs", "nfs4", "ocfs2", "smb3", "virtiofs"}
)
_DEEPEST = 8


class Backing(Struct, frozen=True):
    """What lies below a path."""

    device: str | None
    """Equal for two paths of one machine that share all their disks; None if it cannot be told."""
    here: bool
    """Whether it is on this machine: no network file system."""


def backing_of(path: Path, *, system: Path = Path("/")) -> Backing:
    """Return what lies below a path; `system` is where `/sys` and `/proc` are."""
    number = _device_number(path)
    if number is None:
        return Backing(None, here=True)
    disks = _disks_below(number, system)
    if disks:
        return Backing(",".join(disks), here=True)
    mounted = _mount_of(number, system)
    if mounted is None:
        return Backing(None, here=True)
    kind, source = mounted
    if kind in NETWORK_FILE_SYSTEMS:
        return Backing(f"{kind} {source}", here=False)
    if kind == "zfs":
        return Backing(f"zfs {source.split('/')[0]}", here=True)
    if source.startswith("/dev/"):
        try:
            disks = _disks_below(_as_number(Path(source).stat().st_rdev), system)
        except OSError:
            disks = ()
        if disks:
            return Backing(",".join(disks), here=True)
    return Backing(f"{kind} {number}", here=True)


def machine_id(file: Path = Path("/etc/machine-id")) -> str | None:
    """Return this machine's id, or None where it has none."""
    try:
        return file.read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _device_number(path: Path) -> str | None:
    for candidate in (path, *path.parents):
        try:
            found = candidate.stat()
        except OSError:
            continue
        return _as_number(found.st_rdev if stat.S_ISBLK(found.st_mode) else found.st_dev)
    return None


def _as_number(device: int) -> str:
    return f"{os.major(device)}:{os.minor(device)}"


def _disks_below(number: str, system: Path) -> tuple[str, ...]:
    block = system / "sys/dev/block" / number
    return tuple(sorted(set(_leaves(block.resolve(), _DEEPEST)))) if block.exists() else ()


def _leaves(block: Path, depth: int) -> list[str]:
    slaves = sorted((block / "slaves").glob("*")) if depth else []
    if slaves:
        return [leaf for slave in slaves for leaf in _leaves(slave.resolve(), depth - 1)]
    return [str(block.parent if (block / "partition").exists() else block)]


def _mount_of(number: str, system: Path) -> tuple[str, str] | None:
    try:
        lines = (system / "proc/self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        before, _, after = line.partition(" - ")
        fields = before.split()
        kind_and_source = after.split()
        if len(fields) > 2 and fields[2] == number and len(kind_and_source) >= 2:
            return kind_and_source[0], _unescape(kind_and_source[1])
    return None


def _unescape(text: str) -> str:
    # The kernel writes blanks and backslashes in mountinfo as octal numbers (proc(5)).
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
