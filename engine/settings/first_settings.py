"""Settings to begin with on this machine.

Three levels, meant to be changed; each VM gets the first one whose patterns match its name:

- `gold`: an hour of data may be lost, a quarter of an hour of downtime is bearable, two repositories hold each
  recovery point. For databases and directories: what others lean on.
- `silver`: four hours and one hour. Every VM that no pattern matches, so that none is forgotten.
- `bronze`: a day and eight hours, shut down for its recovery point. For build machines and test VMs, which can be
  made anew but not at once.
"""

from __future__ import annotations

import re
import socket
from pathlib import Path

from engine.settings.location import default_file, default_state
from engine.settings.model import Host, Level, Method, Repository, Settings

SYSTEM_SOCKETS = (
    Path("/run/libvirt/libvirt-sock"),
    Path("/run/libvirt/virtqemud-sock"),
    Path("/var/run/libvirt/libvirt-sock"),
)

LEVELS = (
    Level(name="gold", rpo_s=3_600, rto_s=900, copies=2, vms=("db-*", "dc-*")),
    Level(name="silver", rpo_s=4 * 3_600, rto_s=3_600, default=True),
    Level(name="bronze", rpo_s=24 * 3_600, rto_s=8 * 3_600, method=Method.COLD, vms=("build-*", "test-*")),
)


def propose(
    repository: Path,
    *,
    file: Path | None = None,
    machine: str | None = None,
    system_sockets: tuple[Path, ...] = SYSTEM_SOCKETS,
) -> Settings:
    """Return settings with this machine as the only host, and a repository on it at `repository`.

    The system daemon is chosen where one of its sockets exists, the user's session otherwise. `machine` is the
    host's name, by default the first part of this machine's own.
    """
    wanted = machine or socket.gethostname().split(".")[0]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", wanted).strip(".-") or "this-machine"
    system = any(path.exists() for path in system_sockets)
    folder = repository.expanduser().absolute()
    return Settings(
        file=(file or default_file()).absolute(),
        hosts=(Host(name=name, uri="qemu:///system" if system else "qemu:///session"),),
        repositories=(Repository(name="main", path=folder),),
        levels=LEVELS,
        state=default_state(),
    )
