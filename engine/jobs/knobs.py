"""What can be changed about a job while it runs, and what was.

Priority is a share between the jobs of one state folder, not one of the processor: a job gives way while one of higher
priority moves bytes, wherever these come from and go to. Where a guest's disk, a network or a bucket is what is scarce,
`nice` and `ionice` would change nothing, and nobody but root could take them back.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct, structs

from engine.errors import Conflict
from engine.settings import format_rate

MOST_STREAMS = 16


class Priority(StrEnum):
    """Who gives way to whom."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"

    @property
    def weight(self) -> int:
        """A job that gives way works for so much of the time, against the weight of the one that it gives way to."""
        return {Priority.LOW: 1, Priority.NORMAL: 4, Priority.HIGH: 16}[self]


class Knobs(Struct, frozen=True):
    """How a job is to run."""

    paused: bool = False
    bandwidth: int | None = None
    """Bytes a second at most; None for as many as can."""
    priority: Priority = Priority.NORMAL
    streams: int | None = None
    """How many pieces of its disks are on their way at once, 1 to `MOST_STREAMS`; None for a job that has no such knob.
    """


class KnobChange(Struct, frozen=True):
    """Knobs that a job has heard of, and obeys from then on."""

    at: datetime
    by: str
    """The operator; empty for what it began with."""
    knobs: Knobs


def in_words(knobs: Knobs) -> str:
    """All of them in one line: `paused, at most 50MiB/s, priority low, 4 streams`."""
    parts = ["paused"] if knobs.paused else []
    parts.append(f"at most {format_rate(knobs.bandwidth)}/s" if knobs.bandwidth is not None else "no limit")
    parts.append(f"priority {knobs.priority.value}")
    if knobs.streams is not None:
        parts.append(f"{knobs.streams} {'stream' if knobs.streams == 1 else 'streams'}")
    return ", ".join(parts)


def with_streams(knobs: Knobs, streams: int) -> Knobs:
    """The knobs with so many streams; raises `Conflict` where a job has no such knob."""
    if knobs.streams is None:
        raise Conflict(
            "Only a running restore takes another number of streams.",
            untouched="Nothing was set.",
            next_step="set --bandwidth or --priority; a sync is given its --streams when it is started.",
        )
    return structs.replace(knobs, streams=streams)


def no_knobs(job_id: int, what: str) -> Conflict:
    """The error for a job that cannot be set."""
    return Conflict(
        f"Job {job_id} ({what}) cannot be paused or slowed down: only restores, backups of disks, verifications, "
        "syncs, and files of a point on their way to this machine or into a guest can.",
        untouched="It goes on as it did. Files out of a guest come as fast as it sends them: kept waiting, they would "
        "pile up in memory.",
        next_step=f"a run of several backups has a job for each: newhope jobs --live. Or stop it with"
        f" `newhope jobs cancel {job_id}`.",
    )
