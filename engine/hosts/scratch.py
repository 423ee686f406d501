"""Where a backup job's socket and scratch files lie on a host, and whose they are.

The name of every file says who made it, so that what a killed process left can be told from what a living one uses:

    newhope-MACHINE-PID-START-VM-RANDOM.sock      the NBD server of the job
    newhope-MACHINE-PID-START-VM-RANDOM.vda       what the guest has overwritten of vda since the moment

MACHINE is the start of the machine's id, PID and START (clock ticks since boot, `/proc/PID/stat`) one process of it, in
hexadecimal; VM is the start of the VM's UUID.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from msgspec import Struct

from engine.errors import ExitCode, NewhopeError, NoSpace
from engine.hosts import uri
from engine.settings.model import Host

SPACE_FLOOR_BYTES = 256 << 20
"""A job is not begun with less room: a full scratch folder ends the backup, and hurts what shares the disk."""

LONGEST_SOCKET_PATH_BYTES = 107
_SYSTEM_FOLDER = Path("/var/lib/libvirt/qemu")
_SHORT_NAME_CHARACTERS = 20

_NAME = re.compile(r"newhope-([0-9a-f]{6})-([0-9a-f]+)-([0-9a-f]+)-([0-9a-f]{8})-[0-9a-f]{4}\.\w+")


class ScratchUnusable(NewhopeError):
    """The folder for backup sockets and scratch files cannot be used."""

    exit_code = ExitCode.PREFLIGHT


class Owner(Struct, frozen=True):
    """The process that made a scratch file."""

    machine: str
    pid: int
    start_ticks: int

    @property
    def here(self) -> bool:
        """Whether it was a process of this machine."""
        return self.machine == _machine()

    @property
    def dead(self) -> bool:
        """Whether it is known to have ended; of another machine's processes nothing is known."""
        return self.here and _start_ticks(self.pid) != self.start_ticks

    def __str__(self) -> str:
        return f"process {self.pid} of this machine" if self.here else "a process on another machine"


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
    pid = os.getpid()
    start = _start_ticks(pid) or 0
    return ScratchFiles(folder, f"newhope-{_machine()}-{pid:x}-{start:x}-{vm_uuid[:8]}-{secrets.token_hex(2)}")


def owner_of(path: Path) -> Owner | None:
    """Who made a scratch file or socket; None if it is not newhope's."""
    found = _NAME.fullmatch(path.name)
    return Owner(found.group(1), int(found.group(2), 16), int(found.group(3), 16)) if found else None


def folder_for(host: Host, domain_id: int, vm_name: str) -> Path:
    """The folder of a VM's backup jobs on its host.

    The host's `scratch` from the settings, if there is one. Otherwise:

    - System mode: `/var/lib/libvirt/qemu/domain-ID-NAME`, the VM's own folder of libvirt. QEMU's user owns it, AppArmor
      and SELinux let this VM's QEMU make sockets in it and nobody else's, and libvirt clears it away with the VM.
    - Session mode with `socket=` in the URI: the folder of that socket, which the daemon's user owns, whoever that is.
    - Session mode otherwise: `$XDG_CACHE_HOME/newhope/scratch` of this user, whose QEMU it is; made when it is missing.
      Not `$XDG_RUNTIME_DIR`: that is memory, and scratch files can grow to the size of the disks.
    """
    if host.scratch is not None:
        return host.scratch
    parts = urlsplit(host.uri)
    if parts.path == "/system":
        # libvirt's virDomainDefGetShortName
        return _SYSTEM_FOLDER / f"domain-{domain_id}-{vm_name[:_SHORT_NAME_CHARACTERS]}"
    socket = parse_qs(parts.query).get("socket")
    if socket:
        return Path(socket[0]).parent
    return _cache_home() / "newhope" / "scratch"


def scratch_folder(host: Host) -> Path:
    """A folder for sockets that this process makes itself, near the host's disks: for `image.serve`.

    The host's `scratch` from the settings if this user may write there, otherwise a private folder of this user.
    """
    if host.scratch is not None and uri.is_local(host.uri) and os.access(host.scratch, os.W_OK | os.X_OK):
        return host.scratch
    folder = _cache_home() / "newhope" / "scratch"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def check_room(host: Host, files: ScratchFiles) -> None:
    """Raise ScratchUnusable or NoSpace if a job with these files is bound to fail. Makes the default session folder."""
    length = len(os.fsencode(files.socket))
    if length > LONGEST_SOCKET_PATH_BYTES:
        raise ScratchUnusable(
            f"The scratch folder {files.folder} of host {host.name} is too deep: a socket in it has a path of {length} "
            f"bytes, and {LONGEST_SOCKET_PATH_BYTES} fit.",
            next_step=f'Set a shorter one, scratch = "/path", in [hosts.{host.name}] of newhope.toml.',
        )
    if not uri.is_local(host.uri):
        return
    if host.scratch is None and files.folder.is_relative_to(_cache_home()):
        files.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        free_bytes = shutil.disk_usage(files.folder).free
    except FileNotFoundError:
        raise ScratchUnusable(
            f"The scratch folder {files.folder} of host {host.name} does not exist.",
            next_step="Make it, owned by the user that QEMU runs as on that host (often libvirt-qemu or qemu).",
        ) from None
    except PermissionError:
        raise ScratchUnusable(
            f"This user may not enter the scratch folder {files.folder} of host {host.name}.",
            next_step="Run newhope as root, or set scratch in "
            f"[hosts.{host.name}] of newhope.toml to a folder that both QEMU's user and this user may use.",
        ) from None
    if free_bytes < SPACE_FLOOR_BYTES:
        raise NoSpace(
            f"The scratch folder {files.folder} of host {host.name} has {free_bytes >> 20} MiB free, "
            f"less than the {SPACE_FLOOR_BYTES >> 20} MiB that a hot backup wants to begin.",
            next_step=f"Free space there, or set another scratch folder in [hosts.{host.name}] of newhope.toml.",
        )


def remove(paths: tuple[Path, ...]) -> None:
    """Remove a job's files where they can be reached; after a job that ends well libvirt and QEMU have done so."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError:
            # Somebody else's folder, or another machine's: nothing more can be done from here.
            continue


def abandoned(folder: Path, vm_uuid: str) -> tuple[Path, ...]:
    """Files of a VM's jobs in a folder of this machine whose owner is dead."""
    try:
        names = sorted(folder.iterdir())
    except OSError:
        return ()
    return tuple(
        path
        for path in names
        if (owner := owner_of(path)) is not None and owner.dead and f"-{vm_uuid[:8]}-" in path.name
    )


def _machine() -> str:
    for source in ("/etc/machine-id", "/proc/sys/kernel/random/boot_id"):
        try:
            text = Path(source).read_text().strip()
        except OSError:
            continue
        if len(text) >= 6:
            return text[:6]
    return "000000"


def _start_ticks(pid: int) -> int | None:
    """When a process started; None for one that is not there, or that only waits to be buried."""
    try:
        # The program's name, in parentheses, may hold spaces and parentheses itself.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] == b"Z" else int(fields[19])


def _cache_home() -> Path:
    configured = os.environ.get("XDG_CACHE_HOME", "")
    return Path(configured) if configured.startswith("/") else Path.home() / ".cache"
