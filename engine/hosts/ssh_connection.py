"""One SSH connection of the system's `ssh`, kept open, through which sockets are forwarded and programs are run.

1. `open` starts `ssh -M -N` (a control master, ssh_config(5) `ControlMaster`) as a tied process: it ends with this
   process, however that ends. Its control socket appears when the login has succeeded; when it fails, what ssh prints
   says why.
2. `forward` makes a socket in a private folder whose other end is a socket on the host, `forward_back` the opposite;
   `start` runs a program there. These are further `ssh` processes that speak to the first one, which takes a hundredth
   of a second.
3. `close` ends the master, and with it every forward and program.

The folder lies where paths are short (a Unix socket's has at most 107 bytes, and ssh needs 17 of them for itself). It
is named for this process, so that the next one finds, and removes, what a killed one left.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from engine.hosts import tied_process
from engine.hosts.errors import HostUnreachable, unreachable
from engine.hosts.files_of_host import LocalFiles
from engine.hosts.ssh_login import CONNECT_TIMEOUT_S, SshLogin, forward_argument

CONTROL_TIMEOUT_S = 20.0
_END_TIMEOUT_S = 5.0
_POLL_S = 0.01
_LONGEST_FOLDER_BYTES = 107 - len("/newhope-ssh-ffffffff-ffffffffffff-xxxxxxxx/control.0123456789abcdef0")
_FOLDER_NAME = re.compile(r"newhope-ssh-([0-9a-f]+)-([0-9a-f]+)-\w+")
_SSH_FAILED = 255
"""Exit status of `ssh` when the trouble was its own (ssh(1))."""


class SshConnection:
    """A connection to one host. Any thread may use it; whoever opens it closes it."""

    def __init__(self, host: str, login: SshLogin) -> None:
        self._host = host
        self._login = login
        self._lock = threading.Lock()
        """Guards the count of forwards; never held while something is asked."""
        self._forwards = 0
        self._folder = private_folder()
        self._control = self._folder / "control"
        self._log = self._folder / "log"
        self._master: subprocess.Popen[bytes] | None = None

    def open(self) -> None:
        """Log in. Raises HostUnreachable, MissingPackage; then nothing is left."""
        try:
            with self._log.open("wb") as log:
                self._master = tied_process.start(
                    [
                        self._login.program, "-M", "-N", "-T", "-S", str(self._control),
                        *self._login.options, "--", self._login.destination,
                    ],
                    stderr=log,
                )  # fmt: skip
            self._wait_for_login(self._master)
        except BaseException:
            self.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether it can still be used, as far as anybody has noticed."""
        return self._master is not None and self._master.poll() is None and self._control.exists()

    def forward(self, there: Path) -> Path:
        """A socket here that leads to one on the host, which need not exist yet. Raises HostUnreachable."""
        with self._lock:
            self._forwards += 1
            here = self._folder / f"{self._forwards}.sock"
        done = self._run_control(["-O", "forward", "-L", forward_argument(here, there)])
        if done.returncode != 0:
            raise self.broken(done.stderr.decode(errors="replace"))
        return here

    def forward_back(self, there: Path, here: Path) -> str | None:
        """A socket on the host that leads to one here; what was said if the host refuses. Raises HostUnreachable."""
        done = self._run_control(["-O", "forward", "-R", forward_argument(there, here)])
        if done.returncode == 0:
            return None
        said = done.stderr.decode(errors="replace")
        if not self.alive:
            raise self.broken(said)
        return said

    def run(self, command: Sequence[str], *, timeout_s: float) -> subprocess.CompletedProcess[bytes]:
        """Run a program on the host and wait for it. Raises HostUnreachable, and TimeoutExpired."""
        done = self._run_control(["-T"], remote=shlex.join(command), timeout_s=timeout_s)
        if done.returncode == _SSH_FAILED and not self.alive:
            raise self.broken(done.stderr.decode(errors="replace"))
        return done

    def start(self, command: Sequence[str], *, complaints: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start a program on the host. Its standard input is the process's, a pipe; the rest of it goes nowhere."""
        return tied_process.start(self._command(["-T"], shlex.join(command)), stderr=complaints, feed=True)

    def complaints(self) -> str:
        """What ssh has printed so far."""
        with contextlib.suppress(OSError):
            return self._log.read_text(errors="replace")
        return ""

    def broken(self, said: str = "") -> HostUnreachable:
        """Why it cannot be used any more."""
        return unreachable(self._host, f"{self.complaints()}\n{said}".strip() or "the SSH connection broke")

    def close(self) -> None:
        """End it with everything that goes through it; twice does no harm."""
        if self._master is not None:
            self._master.terminate()
            try:
                self._master.wait(_END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._master.kill()
                self._master.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wait_for_login(self, master: subprocess.Popen[bytes]) -> None:
        # ssh itself gives up earlier; a jump host, or a name server that is silent, may add to its time.
        deadline = time.monotonic() + 2 * CONNECT_TIMEOUT_S
        while not self._control.exists():
            status = master.poll()
            if status is not None:
                tied_process.raise_if_missing(self._login.program, status)
                raise self.broken()
            if time.monotonic() > deadline:
                raise unreachable(self._host, "Connection timed out")
            time.sleep(_POLL_S)

    def _command(self, options: Sequence[str], remote: str | None) -> list[str]:
        return [
            self._login.program, "-F", "none", "-S", str(self._control),
            # Without the master, ssh would log in by itself, with other rules.
            "-o", "ProxyCommand=false",
            *options, "--", self._login.destination, *([remote] if remote is not None else []),
        ]  # fmt: skip

    def _run_control(
        self, options: Sequence[str], *, remote: str | None = None, timeout_s: float = CONTROL_TIMEOUT_S
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self._command(options, remote),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )


def private_folder() -> Path:
    """A new folder of this user, where paths are short; folders that dead processes left beside it are removed."""
    above = _short_place()
    _remove_leftovers(above)
    pid = os.getpid()
    start = LocalFiles().start_ticks(pid) or 0
    return Path(tempfile.mkdtemp(prefix=f"newhope-ssh-{pid:x}-{start:x}-", dir=above))


def _short_place() -> Path:
    candidates = [os.environ.get("XDG_RUNTIME_DIR", ""), "/run" if os.geteuid() == 0 else ""]
    for candidate in candidates:
        path = Path(candidate)
        short = len(os.fsencode(candidate)) <= _LONGEST_FOLDER_BYTES
        if path.is_absolute() and short and path.is_dir() and os.access(path, os.W_OK | os.X_OK):
            return path
    return Path("/tmp")  # noqa: S108 - mkdtemp makes a private folder in it


def _remove_leftovers(above: Path) -> None:
    files = LocalFiles()
    for folder in above.glob("newhope-ssh-*"):
        owner = _FOLDER_NAME.fullmatch(folder.name)
        if owner is None or files.start_ticks(int(owner.group(1), 16)) == int(owner.group(2), 16):
            continue
        # Somebody else's cannot be removed, and is not ours to remove.
        with contextlib.suppress(OSError):
            if folder.lstat().st_uid == os.geteuid():
                shutil.rmtree(folder)
