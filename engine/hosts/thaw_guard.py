"""The second process behind every freeze: `python -m engine.hosts.thaw_guard HOST UUID SECONDS`.

A guest whose file systems are frozen stands still, and whoever froze it may be killed before it can thaw. So this
process is started first, in a session of its own, and thaws for it:

1. Connect to HOST (the settings' value, in JSON); write `ready` to standard output. Only then is the guest frozen.
2. Read standard input. The word `done` means that the guest was seen thawed: end.
3. The pipe's end without that word, a dead parent, SIGTERM, or SECONDS gone by (a parent that hangs): thaw until the
   guest says that it is thawed, for ten minutes, and tell the system's log.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import syslog
import time
from pathlib import Path

import msgspec

from engine.hosts import thaw
from engine.hosts.lane import HostLane
from engine.settings.model import Host

READY = b"ready\n"
DONE = b"done\n"

KEEP_THAWING_S = 600.0
_LOOK_FOR_PARENT_EVERY_S = 1.0


class _Ended(Exception):
    """A signal asks this process to end."""


def main(arguments: list[str]) -> int:
    """Guard one freeze; 0 if the guest is thawed at the end."""
    host = msgspec.json.decode(arguments[0], type=Host, dec_hook=lambda _type, text: Path(text))
    uuid, longest_s = arguments[1], float(arguments[2])
    parent = os.getppid()
    deadline = time.monotonic() + longest_s
    lane = HostLane(host)
    try:
        lane.run(lambda connection: connection.lookupByUUIDString(uuid).name())
        signal.signal(signal.SIGTERM, _end)
        signal.signal(signal.SIGINT, _end)
        os.write(sys.stdout.fileno(), READY)
        why = _wait(parent, deadline)
    except _Ended:
        why = "it was asked to end"
    if why is None:
        return 0
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    result = thaw.until_thawed(lane, uuid, timeout_s=KEEP_THAWING_S)
    if result.thawed:
        syslog.syslog(syslog.LOG_WARNING, f"newhope thawed the VM {uuid} on {host.name} from its second process: {why}")
        return 0
    syslog.syslog(
        syslog.LOG_CRIT, f"newhope could not thaw the VM {uuid} on {host.name}, which may be frozen: {result.reason}"
    )
    return 1


def _wait(parent: int, deadline: float) -> str | None:
    """Wait for the parent's word; why the guest must be thawed from here, or None if it has been."""
    said = b""
    while True:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return "its time was over"
        readable, _, _ = select.select([0], [], [], min(left_s, _LOOK_FOR_PARENT_EVERY_S))
        if readable:
            piece = os.read(0, 64)
            said += piece
            if said.endswith(DONE):
                return None
            if not piece:
                return "newhope ended in the middle"
        elif os.getppid() != parent:
            # Somebody else still holds the pipe: a process that was forked while it was open.
            return "newhope ended in the middle"


def _end(_signal: int, _frame: object) -> None:
    raise _Ended


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
