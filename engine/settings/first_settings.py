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
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import structs

from engine.settings.find import repository_at
from engine.settings.location import default_file, default_state
from engine.settings.model import Host, Level, Method, Settings

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
    place: Path | str,
    *,
    hosts: Sequence[Host] = (),
    file: Path | None = None,
    machine: str | None = None,
    system_sockets: tuple[Path, ...] = SYSTEM_SOCKETS,
) -> Settings:
    """Return settings with these hosts, or this machine as the only one, and a repository at `place`.

    `place` is a folder or an `s3://` address (`repository_at`). Of this machine the system daemon is chosen where one
    of its sockets exists, the user's session otherwise; it is called `machine`, by default the first part of its own
    name. Raises `NotFound` for an address that cannot be understood.
    """
    address = str(place) if "://" in str(place) else str(Path(place).expanduser())
    system = any(path.exists() for path in system_sockets)
    here = Host(name=_host_name(machine or socket.gethostname()), uri=f"qemu:///{'system' if system else 'session'}")
    return Settings(
        file=(file or default_file()).absolute(),
        hosts=tuple(hosts) or (here,),
        repositories=(structs.replace(repository_at(address), name="main"),),
        levels=LEVELS,
        state=default_state(),
    )


def named_host(text: str) -> Host:
    """The host that `NAME=URI` or `URI` says; without a name it is called after the machine in the URI, or this one."""
    named = re.match(r"([A-Za-z0-9._-]+)=(.+)", text)
    if named is not None:
        return Host(name=named[1], uri=named[2])
    try:
        machine = urlsplit(text).hostname
    except ValueError:
        # Reading the settings says what is wrong with it.
        machine = None
    return Host(name=_host_name(machine or socket.gethostname()), uri=text)


def _host_name(machine: str) -> str:
    """A name that settings can hold, from that of a machine; an address stays whole."""
    first = machine if re.fullmatch(r"[0-9.]+|.*:.*", machine) else machine.split(".")[0]
    return re.sub(r"[^A-Za-z0-9._-]+", "-", first).strip(".-") or "this-machine"
