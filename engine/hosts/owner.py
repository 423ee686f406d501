"""The process that something on a host belongs to: what a dead one left can be told from what a living one uses.

A process is named by its machine (the start of `/etc/machine-id`), its number and its start (clock ticks since boot,
`/proc/PID/stat`), in hexadecimal: `MACHINE-PID-START`. Numbers are used again, all three together are not.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from engine.hosts.files_of_host import LocalFiles

if TYPE_CHECKING:
    from engine.hosts.lane import HostLane

MACHINE_CHARACTERS = 6
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_HERE = LocalFiles()


class Owner(Struct, frozen=True):
    """One process of newhope, on whatever machine."""

    machine: str
    pid: int
    start_ticks: int

    @property
    def here(self) -> bool:
        """Whether it was a process of this machine."""
        return self.machine == _machine()

    @property
    def dead(self) -> bool:
        """Whether it was one of this machine and has ended; `is_dead` also knows of the host's own."""
        return self.here and _HERE.start_ticks(self.pid) != self.start_ticks

    @property
    def mark(self) -> str:
        """Its name: `MACHINE-PID-START`."""
        return f"{self.machine}-{self.pid:x}-{self.start_ticks:x}"

    def __str__(self) -> str:
        return f"process {self.pid} of this machine" if self.here else "a process on another machine"


def this_process() -> Owner:
    """The process that asks."""
    pid = os.getpid()
    return Owner(_machine(), pid, _HERE.start_ticks(pid) or 0)


def read_mark(machine: str, pid: str, start: str) -> Owner:
    """The process of a mark's three parts. Raises ValueError if the last two are not hexadecimal."""
    return Owner(machine, int(pid, 16), int(start, 16))


def is_dead(owner: Owner, lane: HostLane) -> bool:
    """Whether an owner is known to have ended: a process of this machine, or of the host's own."""
    if owner.here:
        return owner.dead
    machine = lane.files.machine_id() if lane.files.reachable else None
    if machine is None or machine[:MACHINE_CHARACTERS] != owner.machine:
        return False
    return lane.files.start_ticks(owner.pid) != owner.start_ticks


def _machine() -> str:
    # A machine without an id is at least known as long as it runs.
    return (_HERE.machine_id() or _BOOT_ID.read_text())[:MACHINE_CHARACTERS]
