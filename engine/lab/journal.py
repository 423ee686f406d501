"""Ask a practice guest about its journal, and hold what a restored one came back with against what was acknowledged.

The journal grows by one durable line a second and is never rewritten, so a recovery point must hold, byte for byte,
every line acknowledged before its moment, and none that came after it.
"""

from __future__ import annotations

import time

import msgspec
from msgspec import Struct

from engine.errors import NewhopeError
from engine.hosts import HostLane, agent

_JOURNAL = "/usr/bin/journal"


class DataDiffers(NewhopeError):
    """A restored guest did not come back with what its recovery point must hold."""


class JournalStatus(Struct, frozen=True):
    """What a guest says of its journal."""

    vm: str
    boot_id: str
    boots: int
    found_bytes: int
    """Length of the journal when the guest booted."""
    found_last: int
    """Last whole line's number at that time."""
    acked: int
    """Last number that is on all its disks for certain."""
    acked_bytes: int
    found_second_last: int | None = None
    second_disk_last: int | None = None


class Proof(Struct, frozen=True):
    """What a restored guest's data showed."""

    acked_before: int
    """Last number acknowledged before the backup began."""
    found_last: int
    """Last number the restored guest found on its disk."""
    acked_after: int
    """Last number acknowledged when the moment had been fixed."""
    compared_bytes: int
    payload_intact: bool


class _NotYet(Struct):
    acked: int | None


def ask_journal(lane: HostLane, vm_uuid: str, *, timeout_s: float = 60.0) -> JournalStatus:
    """Ask a running guest through its agent; one that has just booted is given time to write its first line."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = agent.run(lane, vm_uuid, [_JOURNAL, "status"]).stdout
        if msgspec.json.decode(answer, type=_NotYet).acked is not None or time.monotonic() > deadline:
            return msgspec.json.decode(answer, type=JournalStatus)
        time.sleep(0.2)


def read_journal(lane: HostLane, vm_uuid: str, count: int) -> bytes:
    """The first `count` bytes of the guest's journal."""
    return agent.run(lane, vm_uuid, [_JOURNAL, "head", str(count)]).stdout


def payload_is_intact(lane: HostLane, vm_uuid: str) -> bool:
    """Whether the guest's payload still has the checksum it was made with."""
    return agent.run(lane, vm_uuid, [_JOURNAL, "payload"], timeout_s=120).exit_code == 0


def prove(
    original: tuple[HostLane, str], restored: tuple[HostLane, str], before: JournalStatus, after: JournalStatus
) -> Proof:
    """Compare a restored guest with its running original. Raises `DataDiffers` with the first thing that is wrong.

    `before` is what the original said before the backup began, `after` what it said when the backup was over.
    """
    found = ask_journal(*restored)
    kept = read_journal(*restored, found.found_bytes)
    written = read_journal(*original, found.found_bytes)
    intact = payload_is_intact(*restored)
    trouble = what_differs(before, after, found, kept, written)
    if not trouble and not intact:
        trouble = "its payload does not have the checksum it was made with"
    if trouble:
        raise DataDiffers(
            f"The restored {found.vm} did not come back with its data: {trouble}.",
            untouched="The original and the recovery point are as they were.",
            next_step="keep the restored VM and the repository for an inquiry; this is a defect in newhope.",
        )
    return Proof(before.acked, found.found_last, after.acked, len(kept), intact)


def what_differs(
    before: JournalStatus, after: JournalStatus, found: JournalStatus, kept: bytes, written: bytes
) -> str | None:
    """What is wrong with a restored journal, or None. `kept` and `written` are as long as what was found at boot."""
    if found.found_last < before.acked:
        return f"line {before.acked} was acknowledged before the backup, and it has only {found.found_last}"
    if found.found_last > after.acked + 1:
        return f"it has line {found.found_last}, which was not written yet when the backup was over"
    second = found.found_second_last
    if second is not None and not found.found_last - 1 <= second <= found.found_last:
        return f"its disks are not of one moment: line {found.found_last} on the first, {second} on the second"
    if len(kept) != found.found_bytes or not written.startswith(kept):
        return f"the first {found.found_bytes} bytes of its journal are not the original's"
    return None
