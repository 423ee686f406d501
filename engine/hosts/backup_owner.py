"""Whose a running backup job is, as far as its files tell: libvirt does not know, and allows one a VM. Pure.

Sources of the names: virtnbdbackup `common.py` (socket `/var/tmp/virtnbdbackup.PID`) and `virt/client.py` (scratch
files `backup.ABCDE.vda`); VDSM `virt/backup.py` (socket in `/run/vdsm/backup`).
"""

from __future__ import annotations

import re
from pathlib import Path

from engine.hosts import scratch
from engine.hosts.backup_xml import RunningBackup

_VIRTNBDBACKUP_SOCKET = re.compile(r"virtnbdbackup\.(\d+)")
_VIRTNBDBACKUP_SCRATCH = re.compile(r"backup\.[A-Z0-9]{5}\.\w+")
_VDSM = (Path("/run/vdsm"), Path("/var/run/vdsm"))


def owner_in_words(job: RunningBackup) -> str:
    """Who has begun it: `by virtnbdbackup, process 77 of its machine`; of an unknown one, where it can be seen."""
    if job.socket is not None:
        ours = scratch.owner_of(job.socket)
        if ours is not None:
            return f"by newhope, {ours}"
        theirs = _VIRTNBDBACKUP_SOCKET.fullmatch(job.socket.name)
        if theirs is not None:
            return f"by virtnbdbackup, process {theirs[1]} of the machine it runs on"
        if any(job.socket.is_relative_to(folder) for folder in _VDSM):
            return "by oVirt (VDSM)"
    if any(_VIRTNBDBACKUP_SCRATCH.fullmatch(path.name) for path in job.scratch):
        return "by virtnbdbackup"
    if job.socket is not None:
        return f"by another program, which reads it at {job.socket}"
    if job.targets:
        return f"by another program, into {job.targets[0]}"
    return "by another program"
