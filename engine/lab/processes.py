"""Knowing one's processes again: by pid and start time, or by the lab's folder in their command line or environment.

A pid alone is not enough, because the system gives it to somebody else later; a process is only ever signalled when its
start time (`/proc/PID/stat`, field 22) is still the one that was written down.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

_PROC = Path("/proc")
_POLL_S = 0.02


class ProcessMark(Struct, frozen=True):
    """One process, so described that no other one can be taken for it."""

    pid: int
    start_ticks: int
    """Clock ticks between the machine's boot and the process's start."""
    boot_id: str
    """The machine's boot that the ticks count from."""


def mark(pid: int) -> ProcessMark | None:
    """Describe a living process; None if there is none (a zombie does not live)."""
    start = _start_ticks(pid)
    return None if start is None else ProcessMark(pid, start, _boot_id())


def is_alive(process: ProcessMark) -> bool:
    """Whether that very process still runs."""
    return process.boot_id == _boot_id() and _start_ticks(process.pid) == process.start_ticks


def write_mark(file: Path, process: ProcessMark) -> None:
    """Write the description down, whole or not at all."""
    new = file.with_suffix(".new")
    new.write_bytes(msgspec.json.encode(process))
    new.replace(file)


def read_mark(file: Path) -> ProcessMark | None:
    """The process described in `file`, if the file is there, whole, and the process alive."""
    try:
        process = msgspec.json.decode(file.read_bytes(), type=ProcessMark)
    except (OSError, msgspec.DecodeError):
        return None
    return process if is_alive(process) else None


def send(process: ProcessMark, number: signal.Signals) -> None:
    """Signal that process, if it is still that process. The handle closes the gap between looking and signalling."""
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if is_alive(process):
            signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return
    finally:
        os.close(handle)


def wait_until_gone(processes: Iterable[ProcessMark], *, timeout_s: float) -> tuple[ProcessMark, ...]:
    """Wait for processes to end; those that still live after `timeout_s` are returned."""
    remaining = tuple(processes)
    deadline = time.monotonic() + timeout_s
    while remaining := tuple(process for process in remaining if is_alive(process)):
        if time.monotonic() >= deadline:
            break
        time.sleep(_POLL_S)
    return remaining


def kill(processes: Iterable[ProcessMark], *, timeout_s: float = 10.0) -> tuple[ProcessMark, ...]:
    """End processes at once, as a power cut would, and wait until they are gone."""
    doomed = tuple(processes)
    for process in doomed:
        send(process, signal.SIGKILL)
    return wait_until_gone(doomed, timeout_s=timeout_s)


def processes_of(names: tuple[bytes, ...], *, program: str, argument: str = "") -> tuple[ProcessMark, ...]:
    """Processes of that program whose command line or environment holds one of `names`.

    `program` is what its file name begins with; `argument`, if given, one of its arguments.
    """
    found: list[ProcessMark] = []
    for entry in _PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        pid = int(entry.name)
        process = mark(pid)
        if process is None or not _program(pid).startswith(program):
            continue
        command = _read(entry / "cmdline")
        if argument and argument.encode() not in command.split(b"\0"):
            continue
        text = command + b"\0" + _read(entry / "environ")
        if any(name in text for name in names):
            found.append(process)
    return tuple(found)


def _program(pid: int) -> str:
    words = _read(_PROC / str(pid) / "cmdline").split(b"\0")
    return os.fsdecode(words[0].rsplit(b"/", 1)[-1])


def _start_ticks(pid: int) -> int | None:
    raw = _read(_PROC / str(pid) / "stat")
    # The second field is the program's name in brackets and may hold spaces and brackets itself.
    _, _, rest = raw.rpartition(b") ")
    fields = rest.split()
    if not fields or fields[0] in (b"Z", b"X"):
        return None
    return int(fields[19])


def _boot_id() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:
        return b""
