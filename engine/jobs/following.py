"""Watch a job from outside, by looking: no socket that could break, no process that must be there."""

from __future__ import annotations

import time
from collections.abc import Iterator

from engine.jobs.journal import Journal
from engine.jobs.model import Job

LOOK_S = 0.25


def follow(journal: Journal, job_id: int, *, look_s: float = LOOK_S) -> Iterator[Job]:
    """The job now, then each time it changed, at last when it is over.
     A living job's heartbeat counts as a change, so a caller hears from it every few seconds even while nothing
    moves. A look costs two small queries and one read of /proc.
    """
    last: Job | None = None
    while True:
        job = journal.job(job_id)
        if job != last:
            yield job
            last = job
        if job.state.over:
            return
        time.sleep(look_s)
