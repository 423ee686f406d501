"""Child processes that never outlive this one, whatever ends it: an exception, a signal, SIGKILL.

Linux sends a child the signal of its choice when its parent dies (`prctl(2)`, PR_SET_PDEATHSIG). Two traps make this
more than one line:

- "Parent" means the *thread* that forked. A worker thread that starts a child and ends takes the child with it. So
  every child is started by one thread of this module, which lives as long as the process.
- The parent may die between fork and prctl. So a few lines of Python run in the child first, ask for the signal, then
  look whether the parent is still there, and only then become the program. (`preexec_fn` would do it without them,
  but it runs Python between fork and exec of a threaded process, which can deadlock.)
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import IO

from engine.errors import MissingPackage

_NO_SUCH_PROGRAM = 127

_PR_SET_PDEATHSIG = 1

_BECOME = f"""\
import ctypes, os, sys
ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, {int(signal.SIGTERM)})
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except FileNotFoundError:
    sys.exit({_NO_SUCH_PROGRAM})
"""

PACKAGES = {
    "ssh": "openssh-client (Debian, Ubuntu) or openssh-clients (Fedora)",
    "qemu-nbd": "qemu-utils (Debian, Ubuntu) or qemu-img (Fedora)",
    "qemu-img": "qemu-utils (Debian, Ubuntu) or qemu-img (Fedora)",
}


class _Start:
    """One child to be started, and where what comes of it is put."""

    def __init__(self, command: Sequence[str], stderr: IO[bytes] | None, stdin: int) -> None:
        self.command = command
        self.stderr = stderr
        self.stdin = stdin
        self.outcome: queue.SimpleQueue[subprocess.Popen[bytes] | Exception] = queue.SimpleQueue()


class _Starter:
    """The thread that is the parent of all children."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.starts: queue.SimpleQueue[_Start] = queue.SimpleQueue()
        threading.Thread(target=self._serve, name="child-processes", daemon=True).start()

    def _serve(self) -> None:
        while True:
            start = self.starts.get()
            try:
                start.outcome.put(self._start(start))
            except Exception as error:
                start.outcome.put(error)

    def _start(self, start: _Start) -> subprocess.Popen[bytes]:
        # -I -S: without the environment's and the site's modules it is there in 10 ms, and nothing can be slipped in.
        become = [sys.executable, "-I", "-S", "-c", _BECOME, str(self.pid)]
        return subprocess.Popen(
            [*become, *start.command],
            stdin=start.stdin,
            stdout=subprocess.DEVNULL,
            stderr=start.stderr,
            # Sockets and files that the child creates are for this user alone.
            umask=0o077,
            # Ctrl-C goes to the whole foreground group; when children end is for this process to say.
            process_group=0,
        )


_guard = threading.Lock()
_starter: _Starter | None = None


def start(command: Sequence[str], *, stderr: IO[bytes] | None = None, feed: bool = False) -> subprocess.Popen[bytes]:
    """Start a program that gets SIGTERM when this process dies, however it dies. Its sockets are for this user alone.

    With `feed` its standard input is a pipe of the process, otherwise there is none.
    A program that is not installed shows as an exit with status 127; `raise_if_missing` explains it.
    """
    global _starter
    with _guard:
        if _starter is None or _starter.pid != os.getpid():
            _starter = _Starter()
        starter = _starter
    started = _Start(command, stderr, subprocess.PIPE if feed else subprocess.DEVNULL)
    starter.starts.put(started)
    outcome = started.outcome.get()
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def raise_if_missing(program: str, exit_status: int) -> None:
    """Raise MissingPackage if a child of `start` ended because its program is not installed."""
    if exit_status == _NO_SUCH_PROGRAM:
        raise missing(program)


def missing(program: str) -> MissingPackage:
    """The error for a program that is not installed, with the package that brings it."""
    return MissingPackage(
        f"The program {program} is not installed on this machine.",
        next_step=f"Install the package {PACKAGES.get(program, program)}; newhope doctor lists all that is needed.",
    )
