"""When a job is LOST: its process is gone without a last word.

A job that the journal calls QUEUED or RUN is LOST when

1. the machine was started again since (another boot id), or
2. its process is gone, or its number belongs to another process now, or
3. no process was ever recorded for it, and whoever launched it had time enough to do so.
"""

from __future__ import annotations

from engine.errors import ExitCode
from engine.jobs.model import Failure
from engine.jobs.process import ProcessIdentity, alive, boot_id
from engine.jobs.store import Row

LAUNCH_GRACE_S = 15.0
"""A launcher takes milliseconds from the row to the process's number; after this long it must be dead."""


def why_lost(row: Row, *, now_s: float) -> Failure | None:
    """What to say about a live job of the journal if its process is gone; None if it is there."""
    name = f"Job {row['id']} ({row['kind']} of {row['subject']})"
    if row["pid"] is None:
        if 0 <= now_s - row["created"] < LAUNCH_GRACE_S:
            return None
        return _failure(row, f"{name} was never started: whoever launched it was killed before it could.")
    identity = ProcessIdentity(row["pid"], row["start_ticks"], row["boot_id"])
    if alive(identity):
        return None
    if identity.boot_id != boot_id():
        return _failure(row, f"{name} ended with the machine it ran on, which was started again since.")
    if row["state"] == "queued":
        return _failure(row, f"{name} died before its work began (process {identity.pid}).")
    return _failure(row, f"{name} was killed: its process {identity.pid} is gone without a last word.")


def _failure(row: Row, what: str) -> Failure:
    again = row["again"]
    look = f"see how far it came with `newhope jobs show {row['id']}`"
    return Failure(
        what=what,
        untouched=row["untouched"] or "What it had finished before is in its log.",
        next_step=f"run it again with `{again}`, or {look}." if again else f"{look}, then start it again.",
        exit_code=ExitCode.LOST,
    )
