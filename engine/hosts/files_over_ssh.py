"""Files of another machine, as its SSH login sees them: each question is one short program there.

Only what every Linux host has is used: a POSIX shell and coreutils. Many files are asked about at once, because a
question costs a round trip.
"""

from __future__ import annotations

import errno
import itertools
import os
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from engine.errors import MissingPackage
from engine.hosts.errors import unreachable
from engine.hosts.files_of_host import RUN_TIMEOUT_S, Ran, hangs, ticks_in
from engine.hosts.ssh_connection import SshConnection
from engine.hosts.ssh_hello import Login
from engine.hosts.tied_process import PACKAGES

_AT_ONCE = 200
_NOT_FOUND = 127
_LARGEST_BYTES = 1 << 30
_ERRORS = {
    "No such file or directory": errno.ENOENT,
    "Permission denied": errno.EACCES,
    "Not a directory": errno.ENOTDIR,
    "Is a directory": errno.EISDIR,
    "No space left on device": errno.ENOSPC,
    "Read-only file system": errno.EROFS,
}


class FilesOverSsh:
    """See `files_of_host.HostFiles`."""

    def __init__(self, host: str, login: Login, connection: Callable[[], SshConnection]) -> None:
        self._host = host
        self._login = login
        self._connection = connection

    @property
    def reachable(self) -> bool:
        """They are."""
        return True

    def read(self, path: Path) -> bytes:
        """See HostFiles."""
        done = self._ask('exec head -c "$1" -- "$2"', str(_LARGEST_BYTES + 1), str(path))
        if done.exit_status != 0:
            raise _os_error(done.complaints, path)
        if len(done.output) > _LARGEST_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
        return done.output

    def heads(self, paths: Iterable[Path], count: int) -> Mapping[Path, bytes]:
        """See HostFiles."""
        found: dict[Path, bytes] = {}
        for some in _some_at_once(paths):
            said = self._ask('n=$1; shift; exec head -v -c "$n" -- "$@"', str(count), *map(str, some)).output
            found |= heads_in(said, some, count)
        return found

    def names(self, folder: Path) -> tuple[str, ...]:
        """See HostFiles."""
        done = self._ask('exec ls -1A -- "$1"', str(folder))
        if done.exit_status != 0:
            raise _os_error(done.complaints, folder)
        return tuple(os.fsdecode(done.output).splitlines())

    def remove(self, paths: Iterable[Path]) -> None:
        """See HostFiles."""
        for some in _some_at_once(paths):
            self._ask('exec rm -f -- "$@"', *map(str, some))

    def make_private(self, folder: Path) -> None:
        """See HostFiles."""
        done = self._ask('umask 077; exec mkdir -p -- "$1"', str(folder))
        if done.exit_status != 0:
            raise _os_error(done.complaints, folder)

    def free_bytes(self, folders: Iterable[Path]) -> Mapping[Path, int]:
        """See HostFiles."""
        found: dict[Path, int] = {}
        for some in _some_at_once(folders):
            said = self._ask("exec stat -f -c '%a %S %n' -- \"$@\"", *map(str, some)).output
            for line in os.fsdecode(said).splitlines():
                blocks, block_bytes, name = line.split(" ", 2)
                found[Path(name)] = int(blocks) * int(block_bytes)
        return found

    def require_usable(self, folder: Path) -> None:
        """See HostFiles."""
        done = self._ask('exec stat -- "$1/." >/dev/null', str(folder))
        if done.exit_status != 0:
            raise _os_error(done.complaints, folder)

    def may_write(self, folder: Path) -> bool:
        """See HostFiles."""
        return self._ask('[ -d "$1" ] && [ -w "$1" ] && [ -x "$1" ]', str(folder)).exit_status == 0

    def is_device(self, path: Path) -> bool:
        """See HostFiles."""
        return self._ask('[ -b "$1" ] || [ -c "$1" ]', str(path)).exit_status == 0

    def cache_home(self) -> Path:
        """See HostFiles."""
        return self._login.cache

    def machine_id(self) -> str | None:
        """See HostFiles."""
        return self._login.machine_id

    def user_id(self) -> int | None:
        """See HostFiles."""
        return self._login.user_id

    def missing_programs(self) -> tuple[str, ...]:
        """See HostFiles."""
        return self._login.missing_programs

    def start_ticks(self, pid: int) -> int | None:
        """See HostFiles."""
        return ticks_in(self._ask('exec cat "/proc/$1/stat"', str(pid)).output)

    def run(self, command: Sequence[str], *, timeout_s: float = RUN_TIMEOUT_S) -> Ran:
        """See HostFiles."""
        try:
            done = self._sh('exec "$@"', command, timeout_s)
        except subprocess.TimeoutExpired:
            raise hangs(command, timeout_s) from None
        if done.exit_status == _NOT_FOUND:
            raise missing_on(self._host, command[0])
        return done

    def _ask(self, script: str, *arguments: str) -> Ran:
        try:
            return self._sh(script, arguments, RUN_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise unreachable(self._host, f"a look at its files took more than {RUN_TIMEOUT_S:.0f} s") from None

    def _sh(self, script: str, arguments: Sequence[str], timeout_s: float) -> Ran:
        command = ["sh", "-c", f"LC_ALL=C; export LC_ALL; {script}", "sh", *arguments]
        done = self._connection().run(command, timeout_s=timeout_s)
        return Ran(done.returncode, done.stdout, done.stderr.decode(errors="replace"))


def missing_on(host: str, program: str) -> MissingPackage:
    """The error for a program that a host lacks."""
    package = PACKAGES.get(program, program)
    return MissingPackage(
        f"The program {program} is not installed on host {host}.",
        next_step=f"Install the package {package} on {host}; newhope hosts {host} looks again.",
    )


def heads_in(said: bytes, paths: Sequence[Path], count: int) -> Mapping[Path, bytes]:
    """What `head -v -c COUNT` printed, by file; it leaves out those that it cannot read.

    Each begins with `==> NAME <==` in a line of its own, and a blank line stands between two of them. The contents may
    look like anything, so names are looked for only where one can stand.
    """
    found: dict[Path, bytes] = {}
    rest = said
    for path in paths:
        title = b"==> " + os.fsencode(path) + b" <==\n"
        if found and rest.startswith(b"\n" + title):
            rest = rest[1:]
        if not rest.startswith(title):
            continue
        rest = rest[len(title) :]
        content = rest[:count]
        # A file may be shorter than what was asked for.
        following = rest.find(b"\n==> ", 0, count + 5)
        if following >= 0:
            content = rest[:following]
        found[path] = content
        rest = rest[len(content) :]
    return found


def _some_at_once(paths: Iterable[Path]) -> Iterable[tuple[Path, ...]]:
    remaining = iter(paths)
    while some := tuple(itertools.islice(remaining, _AT_ONCE)):
        yield some


def _os_error(complaints: str, path: Path) -> OSError:
    for words, number in _ERRORS.items():
        if words in complaints:
            return OSError(number, os.strerror(number), str(path))
    said = complaints.strip().splitlines()
    return OSError(errno.EIO, said[-1] if said else "no reason given", str(path))
