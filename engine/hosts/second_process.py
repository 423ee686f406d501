"""A second process that undoes what this one has begun on a VM, if this one dies or hangs before it can.

A guest that is frozen, paused or shut down must not stay so because the newhope that did it was killed. Both halves
of the arrangement are here:

1. `start` runs a module as a program in a session of its own, and waits until it writes `ready`. Only then is the act
   begun.
2. The module calls `stand_by`, which reads standard input. The word `done` means that the act is undone: end.
3. The pipe's end without that word, a dead parent, SIGTERM, or its time gone by (a parent that hangs): `stand_by`
   says why, and the module undoes the act.
4. `release` gives the word, or closes the pipe without it.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

import engine
from engine.settings.model import Host

OVERDUE = "its time was over"

_READY = b"ready\n"
_DONE = b"done\n"

_START_TIMEOUT_S = 15.0
_END_TIMEOUT_S = 10.0
_LOOK_FOR_PARENT_EVERY_S = 1.0


class _Ended(Exception):
    """A signal asks this process to end."""


def argument(host: Host) -> str:
    """A host of the settings as an argument of the second process."""
    return msgspec.json.encode(host, enc_hook=str).decode()


def host_of(argument: str) -> Host:
    """The host that `argument` made one of."""
    return msgspec.json.decode(argument, type=Host, dec_hook=lambda _type, text: Path(text))


# The first process.


def program(module: str, arguments: Sequence[str]) -> list[str]:
    """The command that runs a module of newhope as a program of its own, in the environment `environment`."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment() -> dict[str, str]:
    """This process's, in which newhope's modules are found wherever a program starts."""
    packages = str(Path(engine.__file__).parent.parent)
    search = os.pathsep.join(filter(None, [packages, os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": search}


def start(module: str, arguments: Sequence[str]) -> subprocess.Popen[bytes] | None:
    """The second process, once it is ready; None if it does not become so."""
    guard = subprocess.Popen(
        program(module, arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env=environment(),
        # A closed terminal must not end it together with this process.
        start_new_session=True,
    )
    try:
        ready = _says_ready(guard)
    except BaseException:
        release(guard, done=True)
        raise
    if not ready:
        release(guard, done=True)
        return None
    return guard


def release(guard: subprocess.Popen[bytes], *, done: bool) -> None:
    """Let the second process end; without `done` it goes on undoing by itself."""
    assert guard.stdin is not None and guard.stdout is not None  # noqa: S101 - asked for with PIPE
    with suppress(BrokenPipeError):
        if done:
            guard.stdin.write(_DONE)
        guard.stdin.close()
    guard.stdout.close()
    if done:
        try:
            guard.wait(_END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            guard.kill()
            guard.wait()


def _says_ready(guard: subprocess.Popen[bytes]) -> bool:
    assert guard.stdout is not None  # noqa: S101 - asked for with PIPE
    deadline = time.monotonic() + _START_TIMEOUT_S
    said = b""
    while len(said) < len(_READY):
        readable, _, _ = select.select([guard.stdout], [], [], max(0.0, deadline - time.monotonic()))
        piece = os.read(guard.stdout.fileno(), 64) if readable else b""
        if not piece:
            return False
        said += piece
    return said == _READY


# The second process.


def stand_by(longest_s: float) -> str | None:
    """Say that this process is ready, and wait for the first one's word.

    Returns why the act must be undone from here, or None if it is undone. From then on signals end nothing any more.
    """
    parent = os.getppid()
    deadline = time.monotonic() + longest_s
    try:
        signal.signal(signal.SIGTERM, _end)
        signal.signal(signal.SIGINT, _end)
        os.write(sys.stdout.fileno(), _READY)
        why = _wait(parent, deadline)
    except _Ended:
        why = "it was asked to end"
    if why is not None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return why


def _wait(parent: int, deadline: float) -> str | None:
    said = b""
    while True:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return OVERDUE
        readable, _, _ = select.select([0], [], [], min(left_s, _LOOK_FOR_PARENT_EVERY_S))
        if readable:
            piece = os.read(0, 64)
            said += piece
            if said.endswith(_DONE):
                return None
            if not piece:
                return "newhope ended in the middle"
        elif os.getppid() != parent:
            # Somebody else still holds the pipe: a process that was forked while it was open.
            return "newhope ended in the middle"


def _end(_signal: int, _frame: object) -> None:
    raise _Ended
