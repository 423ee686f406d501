"""The second process behind every pause and every shutdown: `python -m engine.backup.vm_guard HOST UUID STATE SECONDS`.

A guest that newhope has paused, shut down or started without its CPUs is noted (`vm_notes`) and guarded: if the first
process (`hosts.second_process`) dies before it has undone that, this one does at once what the next backup would do
(`leftovers`), and tells the system's log. STATE is the folder of the notes.
"""

from __future__ import annotations

import os
import signal
import sys
import syslog
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from engine.backup import leftovers
from engine.backup.vm_notes import VmNotes
from engine.errors import ExitCode, NewhopeError
from engine.hosts import HostLane, find_vm, second_process, take_snapshot
from engine.hosts.model import Vm
from engine.hosts.vm_note import Act

KEEP_TRYING_S = 600.0
_EVERY_S = 1.0


class GuardNotStarted(NewhopeError):
    """The second process, which guarantees that a guest comes back, could not be started."""

    exit_code = ExitCode.FAILED


@contextmanager
def guarded(lane: HostLane, vm: Vm, act: Act, notes: VmNotes, *, longest_s: float) -> Generator[None]:
    """Do the act inside and undo it there; it is noted, and a second process undoes it if this one dies.

    One that has not come to its end after `longest_s` hangs: it is killed, and the act undone.
    Raises GuardNotStarted, HostUnreachable, MissingOnHost before anything is done.
    """
    arguments = [second_process.argument(lane.host), vm.uuid, str(notes.state), str(longest_s)]
    guard = second_process.start(__name__, arguments)
    if guard is None:
        raise GuardNotStarted(
            f"The second process, which would bring {vm.name} back if this one died, did not start.",
            untouched=f"{vm.name} was not touched.",
            next_step=f"look whether memory or processes run short here, or make a hot point: newhope backup {vm.name}"
            " --method hot",
        )
    try:
        with notes.noted(lane, vm, act):
            yield
    finally:
        second_process.release(guard, done=True)


def main(arguments: list[str]) -> int:
    """Guard one act; 0 if nothing is left of it at the end."""
    host = second_process.host_of(arguments[0])
    uuid, notes, longest_s = arguments[1], VmNotes(Path(arguments[2])), float(arguments[3])
    lane = HostLane(host)
    lane.run(lambda connection: connection.lookupByUUIDString(uuid).name())
    first = os.getppid()
    why = second_process.stand_by(longest_s)
    if why is None:
        return 0
    if why is second_process.OVERDUE and os.getppid() == first:
        # It hangs, and its guest stands still: what it has begun is undone only when it can no longer interfere.
        os.kill(first, signal.SIGKILL)
    deadline = time.monotonic() + KEEP_TRYING_S
    while True:
        try:
            for done in _undo(lane, uuid, notes):
                syslog.syslog(syslog.LOG_WARNING, f"newhope, from its second process, for {why}: {done}")
        except NewhopeError as failure:
            if time.monotonic() > deadline:
                syslog.syslog(syslog.LOG_CRIT, f"newhope could not bring {uuid} on {host.name} back: {failure.what}")
                return 1
            time.sleep(_EVERY_S)
            lane.forget_failure()
        else:
            return 0


def _undo(lane: HostLane, uuid: str, notes: VmNotes) -> list[str]:
    vm = find_vm(take_snapshot(lane), uuid)
    return [
        leftovers.put_right(lane, vm, left, notes)
        for left in leftovers.find(lane, vm, notes)
        if left.kind in leftovers.ACTS and not left.left_alone
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
