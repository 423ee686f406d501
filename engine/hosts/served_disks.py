"""A VM's disks that a server of this machine gives it over NBD: the socket on its host to which QEMU may connect.

QEMU often runs as a user of its own. The socket is given to that user, in a folder that both may enter, and nobody else
can connect. Who QEMU runs as, libvirt says in its capabilities (the security model `dac`); a session daemon runs QEMU
as its own user, whom the daemon's socket belongs to.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from engine.errors import ExitCode, NewhopeError
from engine.hosts import scratch
from engine.hosts.lane import HostLane
from engine.hosts.uri import is_system
from engine.hosts.xml_tree import parse, text_of

if TYPE_CHECKING:
    import libvirt

_SYSTEM_FOLDER = Path("/run/newhope")
_IDS = re.compile(r"\+?(\d+):\+?(\d+)")


class QemuOutOfReach(NewhopeError):
    """QEMU runs as another user than newhope, who may not give it anything."""

    exit_code = ExitCode.PREFLIGHT


def socket_for(lane: HostLane, name: str) -> Path:
    """The socket of a server of that name on the host, always the same; its folder is made.

    Raises HostUnreachable, and QemuOutOfReach for a path that is too long.
    """
    folder = _folder(lane)
    path = folder / f"newhope-{name}.nbd"
    if len(os.fsencode(path)) > scratch.LONGEST_SOCKET_PATH_BYTES:
        raise QemuOutOfReach(
            f"The folder {folder} is too deep for a socket.",
            next_step=f'set a shorter one, scratch = "/path", in [hosts.{lane.host.name}] of newhope.toml.',
        )
    return path


def owner_of_socket(lane: HostLane) -> tuple[int, int] | None:
    """User and group that QEMU connects as; None if it is the user that we are on the host.

    Raises QemuOutOfReach where we cannot give them the socket, HostUnreachable.
    """
    found = lane.run(_configured_user) or _user_of_daemon(lane)
    me = lane.files.user_id()
    if found is None or found[0] == me:
        return None
    if me != 0:
        raise QemuOutOfReach(
            f"QEMU on {lane.host.name} runs as user {found[0]}, who may not read what {scratch.the_user(lane)} serves.",
            next_step=f"{_as_root(lane)}, or restore without --instant.",
        )
    return found


def _folder(lane: HostLane) -> Path:
    if lane.host.scratch is not None:
        return lane.host.scratch
    socket = parse_qs(urlsplit(lane.host.uri).query).get("socket")
    if is_system(lane.host.uri):
        done = lane.files.run(["install", "-d", "-m", "711", "--", str(_SYSTEM_FOLDER)])
        if done.exit_status != 0:
            raise QemuOutOfReach(
                f"The folder {_SYSTEM_FOLDER}, from which QEMU would read, cannot be made on {lane.host.name}"
                f" ({' '.join(done.complaints.split())}).",
                next_step=f"{_as_root(lane)}, set scratch in [hosts.{lane.host.name}] of newhope.toml to a folder that"
                " QEMU's user and this one may use, or restore without --instant.",
            )
        return _SYSTEM_FOLDER
    if socket:
        return Path(socket[0]).parent
    folder = scratch.own_folder(lane)
    lane.files.make_private(folder)
    return folder


def _as_root(lane: HostLane) -> str:
    return "run newhope as root there" if lane.reach.local else "name root in its uri"


def _configured_user(connection: libvirt.virConnect) -> tuple[int, int] | None:
    for model in parse(connection.getCapabilities()).iterfind("host/secmodel"):
        if text_of(model, "model") == "dac":
            found = _IDS.fullmatch(text_of(model, "baselabel") or "")
            if found is not None:
                return int(found[1]), int(found[2])
    return None


def _user_of_daemon(lane: HostLane) -> tuple[int, int] | None:
    socket = parse_qs(urlsplit(lane.host.uri).query).get("socket")
    if not socket:
        return None
    told = lane.files.run(["stat", "-c", "%u:%g", "--", socket[0]])
    found = _IDS.fullmatch(told.output.decode(errors="replace").strip())
    return (int(found[1]), int(found[2])) if found is not None else None
