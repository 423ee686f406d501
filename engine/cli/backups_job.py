"""The job that backs up several VMs: each as a job of its own that this one starts, waits for and starts again.

1. The first in line begin, as many side by side as the settings allow on a host and into a repository. Every backup
   that is at work counts, whoever asked for it, so that runs that overlap share the limits instead of waiting for each
   other.
2. A VM that somebody else is backing up, or has backed up since this job was asked for, is not backed up twice: what
   came of that backup is what came of this one.
3. What failed for a reason that may pass is tried again, a few times, later (`backup.again`). The others do not wait.

Who may do what with whom: looking at who is at work and starting what may run beside it is one turn of the journal
(`Journal.alone`), so that two runs cannot both take the last free place.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta

import msgspec

from engine import backup
from engine.cli.child_job import see_through
from engine.cli.launching import BACKUP, launch_backup
from engine.cli.wording import count, local
from engine.errors import NewhopeError
from engine.jobs import (
    KEPT_JOBS,
    Failure,
    Job,
    JobContext,
    JobResult,
    JobState,
    Journal,
)
from engine.repository import PointKind
from engine.settings import Settings

_LOOK_S = 0.5
_LIVE = (JobState.QUEUED, JobState.RUN)
_SUCCESS = (JobState.DONE, JobState.WARN)


class BackupsFailed(NewhopeError):
    """Some of several backups did not succeed."""


def make_backups(settings: Settings, job: Job, context: JobContext) -> JobResult:
    """Several VMs, in this order, each as a job of its own."""
    requests = msgspec.json.decode(job.spec, type=tuple[backup.Request, ...])
    context.plan([title(request) for request in requests])
    failed: list[str] = []
    to_look_at: list[str] = []
    with Journal(settings.state) as journal, ThreadPoolExecutor(max_workers=len(requests) or 1) as pool:
        run = _Run(settings, journal, job.id, context)
        waiting = list(requests)
        running: dict[Future[Job], backup.Request] = {}
        while waiting or running:
            for request, begun in run.begin(waiting, after=job.id):
                waiting.remove(request)
                running[pool.submit(run.see_through, request, begun)] = request
            for ended in wait(running, timeout=_LOOK_S).done if running else ():
                request = running.pop(ended)
                try:
                    child = ended.result()
                except NewhopeError as error:
                    failed.append(request.vm)
                    if not context.cancelled:
                        context.log(f"{request.vm}: {error.what}", "error")
                else:
                    if child.state is JobState.WARN:
                        to_look_at.append(request.vm)
            if context.cancelled:
                failed += [request.vm for request in waiting]
                waiting.clear()  # those that run were told to stop, and are waited for
            elif not running:
                time.sleep(_LOOK_S)
    return _result(job, context, len(requests), failed, to_look_at)


def title(request: backup.Request) -> str:
    """What the step of one VM is called."""
    return f"{'files of ' if request.kind is PointKind.GUEST else ''}{request.vm} on {request.host}"


def _result(job: Job, context: JobContext, asked: int, failed: Sequence[str], to_look_at: Sequence[str]) -> JobResult:
    if failed:
        context.raise_if_cancelled()
        raise BackupsFailed(
            f"{len(failed)} of {count(asked, 'backup')} failed: {', '.join(failed)}.",
            untouched="Every earlier recovery point is as it was, and those that succeeded are kept.",
            next_step=f"see why with `newhope jobs log {job.id}`.",
        )
    sentence = f"{count(asked, 'VM')} backed up."
    if to_look_at:
        sentence += f" To be looked at: {', '.join(to_look_at)}."
    return JobResult(sentence, warn=bool(to_look_at))


class _Run:
    """What every part of one such job needs."""

    def __init__(self, settings: Settings, journal: Journal, job_id: int, context: JobContext) -> None:
        self._settings = settings
        self._journal = journal
        self._job_id = job_id
        self._context = context
        self._own: set[int] = set()

    def begin(self, waiting: Sequence[backup.Request], *, after: int) -> list[tuple[backup.Request, Job | Failure]]:
        """Start those of `waiting` that may begin now, and find those that others back up, or did since job `after`.

        What cannot be started comes with the reason.
        """
        if not waiting or self._context.cancelled:
            return []
        with self._journal.alone("backups"):
            at_work = _backups(self._journal.jobs(limit=KEPT_JOBS, states=_LIVE))
            found: list[tuple[backup.Request, Job | Failure]] = []
            for request in waiting:
                job = next((job for other, job in at_work if backup.serves(other, request)), None)
                if job is not None:
                    found.append((request, job))
            startable = backup.startable(self._settings, waiting, [request for request, _ in at_work])
            done = _backups(self._journal.jobs(limit=KEPT_JOBS, states=_SUCCESS)) if startable else []
            for request in startable:
                job = next((job for other, job in done if job.id > after and backup.serves(other, request)), None)
                found.append((request, job or self._launch(request)))
            return found

    def see_through(self, request: backup.Request, begun: Job | Failure) -> Job:
        """Wait for the job of one VM, and for those that try again; raises what the last one failed with."""
        after = self._job_id
        with self._context.step(title(request)) as step:
            for failed in itertools.count(1):
                if isinstance(begun, Job):
                    step.note(f"job {begun.id}")
                    own = begun.id in self._own
                    job = see_through(self._journal, begun, self._context, step, own=own)
                    if job.failure is None:
                        return job
                    after, failure, fate = job.id, job.failure, f"job {job.id}: {job.state.value}"
                else:
                    failure, fate = begun, "not started"
                wait_s = backup.wait_before_again_s(request.method, failure.exit_code, failed)
                if wait_s is None or self._context.cancelled:
                    step.note(fate)
                    raise BackupsFailed(failure.what, next_step=failure.next_step)
                again_at = datetime.now(UTC) + timedelta(seconds=wait_s)
                self._context.log(f"{request.vm}: {failure.what} It is tried again at {local(again_at)}.", "warn")
                step.note(f"{fate}, tried again at {local(again_at)}")
                begun = self._again(request, again_at, after)
        raise AssertionError("a count has no end")

    def _again(self, request: backup.Request, again_at: datetime, after: int) -> Job | Failure:
        """Start the VM's next attempt when its time has come and there is a place for it."""
        while True:
            self._context.raise_if_cancelled()
            if datetime.now(UTC) >= again_at:
                for _, begun in self.begin([request], after=after):
                    return begun
            time.sleep(_LOOK_S)

    def _launch(self, request: backup.Request) -> Job | Failure:
        try:
            job = launch_backup(self._settings, self._journal, request)
        except NewhopeError as error:
            return Failure(error.what, error.untouched, error.next_step, error.exit_code)
        self._own.add(job.id)
        return job


def _backups(jobs: Iterable[Job]) -> list[tuple[backup.Request, Job]]:
    return [(msgspec.json.decode(job.spec, type=backup.Request), job) for job in jobs if job.kind == BACKUP]
