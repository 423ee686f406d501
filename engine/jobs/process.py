"""Who a process is, so that its number can never be mistaken for another's after it died.
 Process numbers are reused, across restarts of the machine at once. A number together with the process's
start time (in clock ticks since the machine started) and the kernel's boot id names one process for ever
(`man 5 proc`).
"""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")


class ProcessIdentity(Struct, frozen=True):
    """One process, unmistakably."""

    pid: int
    start_ticks: int
    boot_id: str


def boot_id() -> str:
    """The id that the kernel drew when this machine started."""
    return BOOT_ID_FILE.read_text().strip()


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of the process that has this number now, a dead one that waits for its parent included."""
    fields = _stat_fields(pid)
    if fields is None:
        return None
    return ProcessIdentity(pid, int(fields[19]), boot_id())


def alive(identity: ProcessIdentity) -> bool:
    """Whether exactly this process still runs."""
    fields = _stat_fields(identity.pid)
    if fields is None or identity.boot_id != boot_id():
        return False
    # A zombie still has its number: its parent (a console, or a container's idle first process) has not asked
    # yet.
    return fields[0] not in ("Z", "X") and int(fields[19]) == identity.start_ticks


def _stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The second field is the program's name in parentheses and may itself hold spaces and parentheses.
    return text.rpartition(")")[2].split()
