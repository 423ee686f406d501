"""What came of the last attempts at something, by what they were for: how often in a row they failed, who is at it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from msgspec.structs import replace

from engine.jobs import Job, JobState
from engine.requirements import Attempts

JOBS_LOOKED_AT = 1000


def tally(jobs: Iterable[Job], key_of: Callable[[Job], str | None], seen_to: Mapping[str, int]) -> dict[str, Attempts]:
    """The attempts by their key; `jobs` are the newest first, `key_of` is None for those that are no attempt.

    `seen_to`: jobs that have others on their list. One that was cancelled says nothing about whether the next would
    succeed.
    """
    found: dict[str, Attempts] = {}
    settled: set[str] = set()
    for job in jobs:
        key = key_of(job)
        if key is None or key in settled:
            continue
        so_far = found.get(key, Attempts())
        if not job.state.over:
            found[key] = replace(so_far, job=job.id)
        elif job.state in (JobState.FAIL, JobState.LOST):
            last = so_far.last or job.finished or job.heartbeat or job.created
            found[key] = replace(so_far, failed=so_far.failed + 1, last=last, last_job=so_far.last_job or job.id)
        elif job.state is not JobState.CANCELLED:
            settled.add(key)
    for key, job_id in seen_to.items():
        so_far = found.get(key, Attempts())
        found[key] = replace(so_far, job=so_far.job or job_id)
    return found


def still_on_list(job: Job, keys: Iterable[str]) -> list[str]:
    """What a living job with one step for each of `keys` is not through with."""
    from engine.jobs import StepState

    ended = {step.number for step in job.steps if step.state not in (StepState.WAIT, StepState.RUN)}
    return [key for number, key in enumerate(keys, 1) if number not in ended]
