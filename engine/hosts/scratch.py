"""Where a backup job's socket and scratch files lie on a host, and whose they are.

The name of every file says who made it, so that what a killed process left can be told from what a living one uses:

    newhope-MACHINE-PID-START-VM-RANDOM.sock      the NBD server of the job
    newhope-MACHINE-PID-START-VM-RANDOM.vda       what the guest has overwritten of vda since the moment

MACHINE-PID-START is the mark of the process (`owner`), VM the start of the VM's UUID.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from msgspec import Struct

from engine.errors import ExitCode, NewhopeError, NoSpace
from engine.hosts.owner import Owner, is_dead, read_mark, this_process
from engine.hosts.uri import is_system
from engine.settings.byte_size import format_size

if TYPE_CHECKING:
    from engine.hosts.lane import HostLane

LONGEST_SOCKET_PATH_BYTES = 107
_SYSTEM_FOLDER = Path("/var/lib/libvirt/qemu")
_SHORT_NAME_CHARACTERS = 20
_ANY_VM = "0" * 8

_NAME = re.compile(r"newhope-([0-9a-f]{6})-([0-9a-f]+)-([0-9a-f]+)-([0-9a-f]{8})-[0-9a-f]{4}\.\w+")


class ScratchUnusable(NewhopeError):
    """The folder for backup sockets and scratch files cannot be used."""

    exit_code = ExitCode.PREFLIGHT


class ScratchRoom(Struct, frozen=True):
    """Where the backup jobs of a host keep their files, as it is now."""

    folder: Path
    free_bytes: int | None
    """None if nobody tells."""
    trouble: str = ""
    """Why a job would fail there, as a sentence."""
    next_step: str = ""


class ScratchFiles(Struct, frozen=True):
    """The files of one backup job, by path on the host."""

    folder: Path
    prefix: str

    @property
    def socket(self) -> Path:
        """Where the job's NBD server listens."""
        return self.folder / f"{self.prefix}.sock"

    def scratch(self, target: str) -> Path:
        """Where the old content of the disk `target` goes."""
        return self.folder / f"{self.prefix}.{target}"


def new_files(folder: Path, vm_uuid: str) -> ScratchFiles:
    """Names for a new job's files, with this process as their owner."""
    return ScratchFiles(folder, f"newhope-{this_process().mark}-{vm_uuid[:8]}-{secrets.token_hex(2)}")


def owner_of(path: Path) -> Owner | None:
    """Who made a scratch file or socket; None if it is not newhope's."""
    found = _NAME.fullmatch(path.name)
    return read_mark(found.group(1), found.group(2), found.group(3)) if found else None


def folder_for(lane: HostLane, domain_id: int, vm_name: str) -> Path:
    """The folder of a VM's backup jobs on its host.

    The host's `scratch` from the settings, if there is one. Otherwise:

    - System mode: `/var/lib/libvirt/qemu/domain-ID-NAME`, the VM's own folder of libvirt. QEMU's user owns it, AppArmor
      and SELinux let this VM's QEMU make sockets in it and nobody else's, and libvirt clears it away with the VM.
    - Session mode with `socket=` in the URI: the folder of that socket, which the daemon's user owns, whoever that is.
    - Session mode otherwise: `$XDG_CACHE_HOME/newhope/scratch` of the host's user, whose QEMU it is; made when it is
      missing. Not `$XDG_RUNTIME_DIR`: that is memory, and scratch files can grow to the size of the disks.
    """
    if lane.host.scratch is not None:
        return lane.host.scratch
    if is_system(lane.host.uri):
        # libvirt's virDomainDefGetShortName
        return _SYSTEM_FOLDER / f"domain-{domain_id}-{vm_name[:_SHORT_NAME_CHARACTERS]}"
    socket = parse_qs(urlsplit(lane.host.uri).query).get("socket")
    if socket:
        return Path(socket[0]).parent
    return own_folder(lane)


def own_socket(lane: HostLane, vm_uuid: str) -> Path:
    """A name on the host for a socket of a program that newhope itself starts there: for `image.serve`.

    It lies in the host's `scratch` from the settings if newhope's user may write there, else in a private folder of it.
    Raises ScratchUnusable if none of these is near enough to the root for a socket.
    """
    candidates = [new_files(folder, vm_uuid) for folder in _socket_folders(lane)]
    for files in candidates:
        if len(os.fsencode(files.socket)) <= LONGEST_SOCKET_PATH_BYTES:
            if files.folder != lane.host.scratch:
                lane.files.make_private(files.folder)
            return files.socket
    raise _too_deep(lane, candidates[0])


def _socket_folders(lane: HostLane) -> tuple[Path, ...]:
    """Where newhope's own sockets may lie, the best first. The last is for users whose home has a long path."""
    configured = lane.host.scratch
    found = [configured] if configured is not None and lane.files.may_write(configured) else []
    found.append(own_folder(lane))
    if lane.reach.local:
        runtime = "/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR", "")
        found += [Path(runtime) / "newhope"] if runtime.startswith("/") else []
    return tuple(found)


def _too_deep(lane: HostLane, files: ScratchFiles) -> ScratchUnusable:
    return ScratchUnusable(
        f"The scratch folder {files.folder} of host {lane.host.name} is too deep: a socket in it has a path of "
        f"{len(os.fsencode(files.socket))} bytes, and {LONGEST_SOCKET_PATH_BYTES} fit.",
        next_step=f'Set a shorter one, scratch = "/path", in [hosts.{lane.host.name}] of newhope.toml.',
    )


def check_room(lane: HostLane, files: ScratchFiles) -> None:
    """Raise ScratchUnusable or NoSpace if a job with these files is bound to fail. Makes the default session folder."""
    host = lane.host
    _require_short(lane, files)
    if not lane.files.reachable:
        return
    if host.scratch is None and files.folder == own_folder(lane):
        lane.files.make_private(files.folder)
    _require_usable(lane, files.folder)
    _require_floor(lane, files.folder, lane.files.free_bytes((files.folder,)).get(files.folder))


def room_on(lane: HostLane) -> ScratchRoom | None:
    """The folder of a host's backup jobs, looked at without changing anything; None if the host shows no files.

    In system mode without `scratch` each VM that runs has a folder of its own: what is looked at is the one above.
    Raises HostUnreachable.
    """
    if not lane.files.reachable:
        return None
    shared = _shared_folder(lane)
    folder = shared or _SYSTEM_FOLDER
    # What is missing is in the file system of what is above it.
    free = lane.files.free_bytes((folder, *folder.parents))
    free_bytes = next((free[each] for each in (folder, *folder.parents) if each in free), None)
    try:
        if shared is not None:
            _require_short(lane, new_files(folder, _ANY_VM))
        # The private folder is made by the first backup.
        if folder != own_folder(lane) or folder in free:
            _require_usable(lane, folder)
        _require_floor(lane, folder, free_bytes)
    except (ScratchUnusable, NoSpace) as trouble:
        return ScratchRoom(folder, free_bytes, trouble.what, trouble.next_step)
    return ScratchRoom(folder, free_bytes)


def _shared_folder(lane: HostLane) -> Path | None:
    """The folder of all backup jobs of a host; None where each VM has its own."""
    if lane.host.scratch is None and is_system(lane.host.uri):
        return None
    return folder_for(lane, 0, "")


def _require_short(lane: HostLane, files: ScratchFiles) -> None:
    if len(os.fsencode(files.socket)) > LONGEST_SOCKET_PATH_BYTES:
        raise _too_deep(lane, files)


def _require_usable(lane: HostLane, folder: Path) -> None:
    host = lane.host
    try:
        lane.files.require_usable(folder)
    except FileNotFoundError:
        raise ScratchUnusable(
            f"The scratch folder {folder} of host {host.name} does not exist.",
            next_step="Make it, owned by the user that QEMU runs as on that host (often libvirt-qemu or qemu).",
        ) from None
    except PermissionError:
        raise ScratchUnusable(
            f"{the_user(lane).capitalize()} may not enter the scratch folder {folder} of host {host.name}.",
            next_step=f"{into_group_of_qemu(lane)} Another folder is set with scratch in [hosts.{host.name}] of "
            "newhope.toml.",
        ) from None


def _require_floor(lane: HostLane, folder: Path, free_bytes: int | None) -> None:
    host = lane.host
    if free_bytes is not None and free_bytes < host.scratch_floor_bytes:
        raise NoSpace(
            f"The scratch folder {folder} of host {host.name} has {free_bytes >> 20} MiB free, "
            f"less than the floor of {format_size(host.scratch_floor_bytes)}.",
            next_step="Free space there, or set another scratch folder, or a lower scratch_floor, in "
            f"[hosts.{host.name}] of newhope.toml.",
        )


def abandoned(lane: HostLane, folder: Path, vm_uuid: str) -> tuple[Path, ...]:
    """Files of a VM's jobs in a folder of the host whose owner is dead."""
    return tuple(path for path in _of_the_dead(lane, folder) if _vm_of(path) == vm_uuid[:8])


def abandoned_of_no_vm(lane: HostLane, vm_uuids: Iterable[str]) -> tuple[Path, ...]:
    """Files whose owner is dead, in folders of the host that VMs share, of jobs of none of these VMs."""
    if not lane.files.reachable:
        return ()
    here = {uuid[:8] for uuid in vm_uuids}
    folders = {folder for folder in (_shared_folder(lane), *_socket_folders(lane)) if folder is not None}
    return tuple(path for folder in sorted(folders) for path in _of_the_dead(lane, folder) if _vm_of(path) not in here)


def _of_the_dead(lane: HostLane, folder: Path) -> Iterator[Path]:
    try:
        names = lane.files.names(folder) if lane.files.reachable else ()
    except OSError:
        return
    for name in names:
        owner = owner_of(folder / name)
        if owner is not None and is_dead(owner, lane):
            yield folder / name


def _vm_of(path: Path) -> str:
    """The start of the UUID of the VM that a file of ours is for."""
    found = _NAME.fullmatch(path.name)
    return found.group(4) if found else ""


def clear_sockets(lane: HostLane, vm_uuid: str) -> None:
    """Remove the sockets that dead processes made for a VM with `own_socket`."""
    if not lane.files.reachable:
        return
    for folder in _socket_folders(lane):
        left = [path for path in abandoned(lane, folder, vm_uuid) if path.suffix == ".sock"]
        if left:
            lane.files.remove(left)


def the_user(lane: HostLane) -> str:
    """Who we are on the host, in the middle of a sentence."""
    return "this user" if lane.reach.local else "the user of its uri"


def into_group_of_qemu(lane: HostLane) -> str:
    """How somebody comes to use the sockets that QEMU's user makes, wherever they lie: a sentence."""
    how = "(libvirt-qemu on Debian and Ubuntu, qemu elsewhere: `usermod -aG libvirt-qemu USER`)"
    if lane.reach.local:
        return f"Run newhope on that host as root; or put this user into the group of its QEMU {how} and log in anew."
    return f"Name root in the uri of {lane.host.name}; or put the user of the uri into the group of its QEMU {how}."


def own_folder(lane: HostLane) -> Path:
    """The private folder of newhope's user on the host."""
    return lane.files.cache_home() / "newhope" / "scratch"
