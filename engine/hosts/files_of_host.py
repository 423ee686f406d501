"""Files of a host, wherever it is: read, listed, removed, measured; and small programs run beside them.

A lane has them as `lane.files`. There are three kinds:

- of this machine: `LocalFiles`;
- of a machine that is reached over SSH, as its login sees them (`files_over_ssh`);
- of a host that gives us libvirt and nothing else (TLS, or SSH without a shell): `NoFiles`. Whoever needs files asks
  `reachable` first and takes libvirt's own way, which is slower, or says what cannot be done.

What a file system refuses is an OSError of the usual kind (FileNotFoundError, PermissionError, ...), for a remote host
as well; a link that breaks is HostUnreachable.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from engine.errors import ExitCode, NewhopeError
from engine.hosts import tied_process

RUN_TIMEOUT_S = 60.0
PROGRAMS = ("qemu-nbd", "qemu-img")
"""What is run on a host besides its libvirt and a shell."""

_MACHINE_ID = Path("/etc/machine-id")


class FilesOutOfReach(NewhopeError):
    """The host gives us libvirt, but neither its files nor a shell."""

    exit_code = ExitCode.PREFLIGHT


class ProgramHangs(NewhopeError):
    """A program that only looks at something said nothing for too long."""


class Ran(Struct, frozen=True):
    """What came of a program."""

    exit_status: int
    output: bytes
    complaints: str


class HostFiles(Protocol):
    """Files of one host. Any thread may use them."""

    @property
    def reachable(self) -> bool:
        """Whether there is anything to be asked at all. Raises HostUnreachable."""
        ...

    def read(self, path: Path) -> bytes:
        """The content of a small file. Raises OSError."""
        ...

    def heads(self, paths: Iterable[Path], count: int) -> Mapping[Path, bytes]:
        """The first bytes of many files; those that cannot be read are left out."""
        ...

    def names(self, folder: Path) -> tuple[str, ...]:
        """What lies in a folder, by name. Raises OSError."""
        ...

    def remove(self, paths: Iterable[Path]) -> None:
        """Remove what can be removed; what is not there, or is somebody else's, stays without a word."""
        ...

    def make_private(self, folder: Path) -> None:
        """Make a folder and those above it, for this user alone, unless it is there. Raises OSError."""
        ...

    def free_bytes(self, folders: Iterable[Path]) -> Mapping[Path, int]:
        """What an ordinary user may still write to the file system of each folder; unknown ones are left out."""
        ...

    def require_usable(self, folder: Path) -> None:
        """Raise FileNotFoundError or PermissionError if the folder cannot be entered."""
        ...

    def may_write(self, folder: Path) -> bool:
        """Whether files can be made in a folder."""
        ...

    def is_device(self, path: Path) -> bool:
        """Whether a path is a device rather than a file; of what is not there, it is not."""
        ...

    def cache_home(self) -> Path:
        """Where this user's programs on the host keep what can be made again."""
        ...

    def machine_id(self) -> str | None:
        """`/etc/machine-id`, where there is one: libvirt's host UUID changes without DMI."""
        ...

    def user_id(self) -> int | None:
        """Number of the user that we are on the host, to whom files must belong that we write; None if nobody tells."""
        ...

    def missing_programs(self) -> tuple[str, ...]:
        """Which of `PROGRAMS` are not installed."""
        ...

    def start_ticks(self, pid: int) -> int | None:
        """When a process of the machine started; None for one that is not there, or that only waits to be buried."""
        ...

    def run(self, command: Sequence[str], *, timeout_s: float = RUN_TIMEOUT_S) -> Ran:
        """Run a program that only looks. Raises MissingPackage, ProgramHangs."""
        ...


class LocalFiles:
    """The files of this machine."""

    @property
    def reachable(self) -> bool:
        """They are."""
        return True

    def read(self, path: Path) -> bytes:
        """See HostFiles."""
        return path.read_bytes()

    def heads(self, paths: Iterable[Path], count: int) -> Mapping[Path, bytes]:
        """See HostFiles."""
        found: dict[Path, bytes] = {}
        for path in paths:
            try:
                with path.open("rb") as file:
                    found[path] = file.read(count)
            except OSError:
                continue
        return found

    def names(self, folder: Path) -> tuple[str, ...]:
        """See HostFiles."""
        return tuple(sorted(path.name for path in folder.iterdir()))

    def remove(self, paths: Iterable[Path]) -> None:
        """See HostFiles."""
        for path in paths:
            try:
                path.unlink(missing_ok=True)
            except OSError:
                # Somebody else's folder: nothing more can be done from here.
                continue

    def make_private(self, folder: Path) -> None:
        """See HostFiles."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def free_bytes(self, folders: Iterable[Path]) -> Mapping[Path, int]:
        """See HostFiles."""
        found: dict[Path, int] = {}
        for folder in folders:
            try:
                found[folder] = shutil.disk_usage(folder).free
            except OSError:
                continue
        return found

    def require_usable(self, folder: Path) -> None:
        """See HostFiles."""
        # What libvirt makes for its QEMU may be entered without being listed, and that is enough for a socket.
        (folder / ".").stat()

    def may_write(self, folder: Path) -> bool:
        """See HostFiles."""
        return os.access(folder, os.W_OK | os.X_OK)

    def is_device(self, path: Path) -> bool:
        """See HostFiles."""
        try:
            mode = path.stat().st_mode
        except OSError:
            return False
        return stat.S_ISBLK(mode) or stat.S_ISCHR(mode)

    def cache_home(self) -> Path:
        """See HostFiles."""
        configured = os.environ.get("XDG_CACHE_HOME", "")
        return Path(configured) if configured.startswith("/") else Path.home() / ".cache"

    def machine_id(self) -> str | None:
        """See HostFiles."""
        try:
            return _MACHINE_ID.read_text().strip() or None
        except OSError:
            return None

    def user_id(self) -> int | None:
        """See HostFiles."""
        return os.geteuid()

    def missing_programs(self) -> tuple[str, ...]:
        """See HostFiles."""
        return tuple(program for program in PROGRAMS if shutil.which(program) is None)

    def start_ticks(self, pid: int) -> int | None:
        """See HostFiles."""
        try:
            return ticks_in(Path(f"/proc/{pid}/stat").read_bytes())
        except OSError:
            return None

    def run(self, command: Sequence[str], *, timeout_s: float = RUN_TIMEOUT_S) -> Ran:
        """See HostFiles."""
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False
            )
        except FileNotFoundError:
            raise tied_process.missing(command[0]) from None
        except subprocess.TimeoutExpired:
            raise hangs(command, timeout_s) from None
        return Ran(done.returncode, done.stdout, done.stderr.decode(errors="replace"))


class NoFiles:
    """The files of a host that gives us none; every question but the first is refused, in words."""

    def __init__(self, host: str, why: str) -> None:
        self._host = host
        self._why = why

    @property
    def reachable(self) -> bool:
        """They are not."""
        return False

    def read(self, path: Path) -> bytes:
        """See HostFiles."""
        raise self._refusal(f"read {path}")

    def heads(self, paths: Iterable[Path], count: int) -> Mapping[Path, bytes]:
        """None."""
        return {}

    def names(self, folder: Path) -> tuple[str, ...]:
        """See HostFiles."""
        raise self._refusal(f"list {folder}")

    def remove(self, paths: Iterable[Path]) -> None:
        """Nothing can be removed, and what is left is libvirt's to clear away."""

    def make_private(self, folder: Path) -> None:
        """See HostFiles."""
        raise self._refusal(f"make {folder}")

    def free_bytes(self, folders: Iterable[Path]) -> Mapping[Path, int]:
        """Nothing is known."""
        return {}

    def require_usable(self, folder: Path) -> None:
        """Nobody here can tell; QEMU will."""

    def may_write(self, folder: Path) -> bool:
        """Not we."""
        return False

    def is_device(self, path: Path) -> bool:
        """Nobody tells."""
        return False

    def cache_home(self) -> Path:
        """See HostFiles."""
        raise self._refusal("find this user's folders")

    def machine_id(self) -> str | None:
        """Nobody tells."""
        return None

    def user_id(self) -> int | None:
        """Nobody tells."""
        return None

    def missing_programs(self) -> tuple[str, ...]:
        """None that would be run."""
        return ()

    def start_ticks(self, pid: int) -> int | None:
        """See HostFiles."""
        raise self._refusal(f"look at process {pid}")

    def run(self, command: Sequence[str], *, timeout_s: float = RUN_TIMEOUT_S) -> Ran:
        """See HostFiles."""
        raise self._refusal(f"run {command[0]}")

    def _refusal(self, what: str) -> FilesOutOfReach:
        return FilesOutOfReach(
            f"newhope cannot {what} on host {self._host}: {self._why}.",
            next_step="Reach it with qemu+ssh://user@HOST/system and a login that has a shell; see the README, Hosts.",
        )


def hangs(command: Sequence[str], timeout_s: float) -> ProgramHangs:
    """The error for a program that said nothing for too long."""
    return ProgramHangs(
        f"{command[0]} said nothing for {timeout_s:.0f} s about {command[-1]}.",
        next_step="Check that the storage of the image answers.",
    )


def ticks_in(status: bytes) -> int | None:
    """The start of a process as its `/proc/PID/stat` tells it, in clock ticks since boot; None for a zombie."""
    # The program's name, in parentheses, may hold spaces and parentheses itself.
    fields = status.rpartition(b")")[2].split()
    return None if not fields or fields[0] == b"Z" else int(fields[19])
