"""What kind of file system a folder is on, as the kernel says (proc_pid_mountinfo(5))."""

from __future__ import annotations

import os
import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")


def file_system_of(folder: Path, mounts: Path = MOUNTS) -> str | None:
    """Type of the file system that a folder is on, such as `ext4`; None if it cannot be told."""
    try:
        path = os.path.realpath(folder)
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return None
    found: tuple[int, str] | None = None
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or not kind:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        within = path == point or path.startswith(point.rstrip("/") + "/")
        # Of mounts over one another the last one listed is on top.
        if within and (found is None or len(point) >= found[0]):
            found = len(point), kind[0]
    return found[1] if found else None
