"""The child's side: run a job's work with heartbeat, signals and a last word, whatever happens.

1. QUEUED becomes RUN with this process's identity; only one process can do that.
2. SIGHUP is ignored (the terminal may die), SIGTERM and SIGINT ask the work to stop cleanly, as `cancel`
   does.
3. A pulse thread writes heartbeat and progress and hears what is asked: to cancel, and how to go on (`knobs`).
4. The work's answer becomes DONE or WARN; a `NewhopeError` becomes FAIL (or CANCELLED) with its three
   sentences; anything else is a defect: FAIL, with the traceback in the process's output file only.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType

from msgspec import Struct

from engine.errors import Conflict, ExitCode, NewhopeError
from engine.jobs.context import JobContext
from engine.jobs.journal import Journal
from engine.jobs.model import Failure, Job, JobState
from engine.jobs.process import identify

PULSE_S = 0.25
HEARTBEAT_S = 1.0
"""So soon is heard what somebody asks, also by a job in which nothing moves."""
LAST_WORD_TRIES = 5


class JobResult(Struct, frozen=True):
    """What came of a job's work."""

    sentence: str
    warn: bool = False
    """Whether an operator should read the sentence although the job succeeded."""


def run(journal: Journal, job_id: int, work: Callable[[Job, JobContext], str | JobResult]) -> ExitCode:
    """Run a QUEUED job's work in this process, to its end; answers the process's exit status."""
    identity = identify(os.getpid())
    if identity is None or not journal.begin(job_id, identity):
        job = journal.job(job_id)
        raise Conflict(
            f"Job {job_id} does not wait to be run: it is {job.state.value}.",
            next_step=f"see what became of it with `newhope jobs show {job_id}`.",
        )
    job = journal.job(job_id)
    context = JobContext(journal, job)
    with _signals_that_cancel(context), _pulse(context):
        state, sentence, failure = _outcome(journal, job, context, work)
    _say_last_word(journal, job_id, context, state, sentence, failure)
    return ExitCode(failure.exit_code) if failure else ExitCode.OK


def _outcome(
    journal: Journal, job: Job, context: JobContext, work: Callable[[Job, JobContext], str | JobResult]
) -> tuple[JobState, str, Failure | None]:
    try:
        context.write_down()
        context.raise_if_cancelled()
        answer = work(job, context)
    except NewhopeError as error:
        cancelled = error.exit_code is ExitCode.CANCELLED
        context.log(error.what, "warn" if cancelled else "error")
        failure = Failure(error.what, error.untouched, error.next_step, error.exit_code)
        return (JobState.CANCELLED if cancelled else JobState.FAIL), "", failure
    except BaseException as error:
        traceback.print_exc(file=sys.stderr)
        sys.stderr.flush()
        what = f"A defect in newhope stopped job {job.id} ({job.kind} of {job.subject}): {type(error).__name__}."
        context.log(what, "error")
        output = journal.output_file(job.id)
        failure = Failure(
            what,
            job.untouched or "What it had finished before is in its log.",
            f"read {output} and report what it says.",
            ExitCode.DEFECT,
        )
        return JobState.FAIL, "", failure
    if isinstance(answer, str):
        return JobState.DONE, answer, None
    return (JobState.WARN if answer.warn else JobState.DONE), answer.sentence, None


def _say_last_word(
    journal: Journal,
    job_id: int,
    context: JobContext,
    state: JobState,
    sentence: str,
    failure: Failure | None,
) -> None:
    for attempt in range(1, LAST_WORD_TRIES + 1):
        steps = context.take_changed()
        try:
            journal.end(job_id, state, steps=steps, result=sentence, failure=failure)
        except NewhopeError as error:
            print(  # noqa: T201
                f"the last word ({state}: {sentence or failure}) could not be written: {error}",
                file=sys.stderr,
                flush=True,
            )
            for step in steps:
                context.change(step.number, lambda _: {})
            # A full disk may be mended by whoever fills it; without this word readers will call the job LOST.
            time.sleep(attempt)
        else:
            return


@contextmanager
def _pulse(context: JobContext) -> Generator[None]:
    over = threading.Event()

    def beat() -> None:
        last = time.monotonic()
        while not over.wait(PULSE_S):
            now = time.monotonic()
            if context.has_changes or now - last >= HEARTBEAT_S:
                context.write_down()
                last = now

    thread = threading.Thread(target=beat, name="pulse", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _signals_that_cancel(context: JobContext) -> Generator[None]:
    def cancel(number: int, frame: FrameType | None) -> None:
        context.cancelled = True

    if threading.current_thread() is not threading.main_thread():
        # Python lets only the main thread set handlers; whoever runs jobs in threads handles signals.
        yield
        return
    before = {
        signal.SIGHUP: signal.signal(signal.SIGHUP, signal.SIG_IGN),
        signal.SIGTERM: signal.signal(signal.SIGTERM, cancel),
        signal.SIGINT: signal.signal(signal.SIGINT, cancel),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
