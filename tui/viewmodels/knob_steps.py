"""One step of a knob: what a key makes of how a job is to run."""

from __future__ import annotations

from msgspec.structs import replace

from engine.jobs import MOST_STREAMS, Job, Knobs, Priority
from engine.settings import format_rate

_MIB = 1 << 20
RATES = tuple(mib * _MIB for mib in (1, 2, 5, 10, 20, 50, 100, 200, 500))
_PRIORITIES = (Priority.LOW, Priority.NORMAL, Priority.HIGH)


def pause_or_go_on(knobs: Knobs) -> Knobs:
    """Paused if it moves, and the other way round."""
    return replace(knobs, paused=not knobs.paused)


def slower(knobs: Knobs) -> Knobs:
    """The next lower limit; the highest, where there was none."""
    lower = [rate for rate in RATES if knobs.bandwidth is None or rate < knobs.bandwidth]
    return replace(knobs, bandwidth=lower[-1] if lower else knobs.bandwidth)


def faster(knobs: Knobs) -> Knobs:
    """The next higher limit; none, after the highest."""
    higher = [rate for rate in RATES if knobs.bandwidth is not None and rate > knobs.bandwidth]
    return replace(knobs, bandwidth=higher[0] if higher else None)


def fewer_streams(knobs: Knobs) -> Knobs:
    """One stream less, one at least."""
    return knobs if knobs.streams is None else replace(knobs, streams=max(1, knobs.streams - 1))


def more_streams(knobs: Knobs) -> Knobs:
    """One stream more."""
    return knobs if knobs.streams is None else replace(knobs, streams=min(MOST_STREAMS, knobs.streams + 1))


def next_priority(knobs: Knobs) -> Knobs:
    """Low, normal, high, and low again."""
    return replace(knobs, priority=_PRIORITIES[(_PRIORITIES.index(knobs.priority) + 1) % len(_PRIORITIES)])


def why_not_set(job: Job | None) -> str | None:
    """Why a job cannot be paused or slowed down; None if it can."""
    if job is None:
        return "There is no such job."
    if job.state.over:
        return f"Job {job.id} is over already ({job.state.value})."
    return f"A {job.kind} cannot be paused or slowed down." if job.knobs is None else None


def why_no_streams(job: Job | None) -> str | None:
    """Why it takes no other number of streams; None if it does."""
    reason = why_not_set(job)
    if reason is None and job is not None and job.knobs is not None and job.knobs.streams is None:
        return "Only a restore takes another number of streams."
    return reason


def with_keys(knobs: Knobs) -> str:
    """How a job is to run, each knob with the keys that turn it."""
    limit = "no limit" if knobs.bandwidth is None else f"at most {format_rate(knobs.bandwidth)}/s"
    parts = [f"{limit} (< >)", f"priority {knobs.priority.value} (t)"]
    if knobs.streams is not None:
        parts.append(f"{knobs.streams} {'stream' if knobs.streams == 1 else 'streams'} (- +)")
    return ", ".join(parts)
