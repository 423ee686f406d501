"""A job of its own that another job waits for: one backup or proof of several."""

from __future__ import annotations

from engine.jobs import CancelAnswer, Job, JobContext, Journal, StepHandle, follow

LOOK_S = 0.5


def see_through(journal: Journal, child: Job, context: JobContext, step: StepHandle, *, own: bool) -> Job:
    """Wait until a job is over; its bytes count as those of `step`, unless it fails.

    When the job that waits is cancelled, one of its `own` is told to stop, and waited for. One that somebody else
    started is theirs to cancel: it goes on, and Cancelled is raised at once.
    """
    counted = 0
    for seen in follow(journal, child.id, look_s=LOOK_S):
        step.expect(seen.total_bytes)
        step.advance(seen.done_bytes - counted)
        child, counted = seen, seen.done_bytes
        if not context.cancelled or seen.state.over:
            continue
        if not own:
            context.raise_if_cancelled()
        if journal.ask_cancel(seen.id) is CancelAnswer.ASKED:
            context.log(f"cancelling job {seen.id} ({seen.subject})", "warn")
    if child.failure is not None:
        step.advance(-counted)
    return child
