"""The process that serves the recovery point of an instant restore to its VM, for as long as the VM hangs on it.

It outlives the job that started it: a job may be killed, and its VM must not lose its disks by that.

1. `ensure` starts it (`point_server_process.py`) in a session of its own, with the keys of the repository handed to it,
   and waits until it listens. One that serves already is left as it is.
2. It listens where the restore's journal says, on this machine itself or at the end of an SSH connection that it keeps
   up, gives the socket to QEMU's user, and then writes down who it is in a file beside the journal's entry. Whoever
   finds the file knows whether exactly this process still runs.
3. What it cannot read is an I/O error for QEMU, which pauses the guest, and a line in its log beside the entry.
4. It ends when `end` tells it to, and by itself when the restore is over or gone.

Killed, it is started again at the same path by whoever goes on with the restore. Two never serve one restore: the
second finds the socket taken.
"""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from contextlib import suppress

import msgspec
from msgspec import Struct

from engine.errors import ExitCode, NewhopeError
from engine.fleet import keys_to_hand
from engine.hosts import second_process
from engine.jobs import process
from engine.jobs.handing import standard_input
from engine.restore.journal import Entry, RestoreJournal
from engine.settings import Settings, find_repository

LOG_LINES = 3
_START_TIMEOUT_S = 60.0
_END_TIMEOUT_S = 10.0
_POLL_S = 0.02
_PROGRAM = "engine.restore.point_server_process"
_WHO = "server"
_LOG = "server.log"


class PointNotServed(NewhopeError):
    """The recovery point of an instant restore cannot be served to its VM."""

    exit_code = ExitCode.REPOSITORY


class PointServer(Struct, frozen=True):
    """The server of one restore, as it is now."""

    pid: int
    """0 if none was started, or the last one has been told to end."""
    runs: bool
    said: tuple[str, ...]
    """The last lines of its log: what it could not read, and why."""


def look(journal: RestoreJournal, restore_id: str) -> PointServer:
    """The server of a restore."""
    who = _who(journal, restore_id)
    try:
        said = journal.beside(restore_id, _LOG).read_text(errors="replace").splitlines()[-LOG_LINES:]
    except OSError:
        said = []
    return PointServer(who.pid if who is not None else 0, who is not None and process.alive(who), tuple(said))


def ensure(settings: Settings, journal: RestoreJournal, entry: Entry) -> bool:
    """Let the recovery point be served; whether a server had to be started. Raises PointNotServed."""
    if look(journal, entry.id).runs:
        return False
    started = _start(settings, journal, entry)
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not look(journal, entry.id).runs:
        if started.poll() is not None or time.monotonic() > deadline:
            started.kill()
            raise _not_served(look(journal, entry.id), entry)
        time.sleep(_POLL_S)
    # A process that lives on must not collect the dead ones that it started.
    threading.Thread(target=started.wait, name="point server", daemon=True).start()
    return True


def write_down(journal: RestoreJournal, restore_id: str) -> None:
    """Let it be known that this process is the server of a restore, and that it listens."""
    file = journal.beside(restore_id, _WHO)
    part = file.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(process.identify(os.getpid())))
    part.replace(file)


def end(journal: RestoreJournal, restore_id: str) -> None:
    """End the server of a restore, and forget it; one that has ended is fine."""
    who = _who(journal, restore_id)
    if who is not None:
        for wish in (signal.SIGTERM, signal.SIGKILL):
            deadline = time.monotonic() + _END_TIMEOUT_S
            with suppress(ProcessLookupError):
                if process.alive(who):
                    os.kill(who.pid, wish)
            while process.alive(who) and time.monotonic() < deadline:
                time.sleep(_POLL_S)
    for ending in (_WHO, _LOG):
        journal.beside(restore_id, ending).unlink(missing_ok=True)


def _who(journal: RestoreJournal, restore_id: str) -> process.ProcessIdentity | None:
    try:
        return msgspec.json.decode(journal.beside(restore_id, _WHO).read_bytes(), type=process.ProcessIdentity)
    except (OSError, msgspec.DecodeError):
        return None


def _start(settings: Settings, journal: RestoreJournal, entry: Entry) -> subprocess.Popen[bytes]:
    command = second_process.program(_PROGRAM, [str(settings.file.absolute()), str(settings.state), entry.id])
    keys = keys_to_hand([find_repository(settings, entry.request.repository)])
    log = os.open(journal.beside(entry.id, _LOG), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        with standard_input(keys) as stdin:
            return subprocess.Popen(
                command,
                stdin=stdin,
                stdout=log,
                stderr=log,
                cwd="/",
                env=second_process.environment(),
                start_new_session=True,
            )
    finally:
        os.close(log)


def _not_served(server: PointServer, entry: Entry) -> PointNotServed:
    reason = server.said[-1] if server.said else "its server said nothing"
    return PointNotServed(
        f"The recovery point of {entry.vm} cannot be served to {entry.request.name}: {reason}",
        next_step=f"see whether {entry.request.to_host} and the repository answer: newhope doctor, and newhope repo "
        f"info {entry.request.repository}.",
    )
