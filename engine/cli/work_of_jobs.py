"""What each kind of job does, and the sentence that is left of it."""

from __future__ import annotations

from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

import msgspec

from engine import backup, restore
from engine.cli.launching import launch_backup
from engine.cli.wording import consistency, count, local, size
from engine.errors import NewhopeError
from engine.jobs import CancelAnswer, Job, JobContext, JobResult, JobState, Journal, StepHandle, follow
from engine.repository import Consistency
from engine.settings import Settings


class BackupsFailed(NewhopeError):
    """Some of several backups did not succeed."""


def make_backup(settings: Settings, job: Job, context: JobContext) -> JobResult:
    """One recovery point of one VM."""
    request = msgspec.json.decode(job.spec, type=backup.Request)
    point = backup.make_recovery_point(settings, request, context)
    manifest = point.manifest
    sentence = (
        f"Recovery point {manifest.vm.name}@{point.id[:8]} of {local(manifest.moment)} is in {request.repository}:"
        f" {consistency(manifest.consistency.value)}, {size(manifest.read_bytes)} read, {size(manifest.new_bytes)} new"
    )
    downtime = f", {manifest.downtime_s:.1f} s of downtime" if manifest.downtime_s else ""
    # A crash-consistent point of a VM that has an agent is less than was to be expected.
    disappointing = manifest.consistency is Consistency.CRASH and manifest.vm.agent
    note = f" {manifest.consistency_note[:1].upper()}{manifest.consistency_note[1:]}." if disappointing else ""
    doubts = [f" {disk.target}: {disk.read_reason}" for disk in manifest.disks if backup.is_doubtful(disk)]
    return JobResult(f"{sentence}{downtime}.{note}{''.join(doubts)}", warn=disappointing or bool(doubts))


def restore_vm(settings: Settings, job: Job, context: JobContext) -> JobResult:
    """One VM brought back."""
    request = msgspec.json.decode(job.spec, type=restore.Request)
    report = restore.run(settings, request, context)
    return JobResult(" ".join([f"{report.sentence}.", *report.warnings]), warn=bool(report.warnings))


def make_backups(settings: Settings, job: Job, context: JobContext) -> JobResult:
    """Several VMs, each as a job of its own that this one waits for; as many side by side as the settings allow."""
    requests = msgspec.json.decode(job.spec, type=tuple[backup.Request, ...])
    context.plan([_title(request) for request in requests])
    failed: list[str] = []
    to_look_at: list[str] = []
    with Journal(settings.state) as journal, ThreadPoolExecutor(max_workers=len(requests) or 1) as pool:
        waiting = list(requests)
        running: dict[Future[Job], backup.Request] = {}
        while waiting or running:
            for request in backup.startable(settings, waiting, tuple(running.values())):
                waiting.remove(request)
                running[pool.submit(_make_one, settings, journal, request, context)] = request
            for ended in wait(running, return_when=FIRST_COMPLETED).done:
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
    if failed:
        context.raise_if_cancelled()
    if failed:
        raise BackupsFailed(
            f"{len(failed)} of {count(len(requests), 'backup')} failed: {', '.join(failed)}.",
            untouched="Every earlier recovery point is as it was, and those that succeeded are kept.",
            next_step=f"see why with `newhope jobs log {job.id}`.",
        )
    sentence = f"{count(len(requests), 'VM')} backed up."
    if to_look_at:
        sentence += f" To be looked at: {', '.join(to_look_at)}."
    return JobResult(sentence, warn=bool(to_look_at))


def _make_one(settings: Settings, journal: Journal, request: backup.Request, context: JobContext) -> Job:
    """Start the job of one VM and wait for it; raises what it failed with. In a thread of its own."""
    with context.step(_title(request)) as step:
        child = _wait_for(journal, launch_backup(settings, journal, request), context, step)
        if child.failure is not None:
            step.note(f"job {child.id}: {child.state.value}")
            raise BackupsFailed(child.failure.what, next_step=child.failure.next_step)
        return child


def _title(request: backup.Request) -> str:
    return f"{request.vm} on {request.host}"


def _wait_for(journal: Journal, child: Job, context: JobContext, step: StepHandle) -> Job:
    step.note(f"job {child.id}")
    for seen in follow(journal, child.id, look_s=0.5):
        step.expect(seen.total_bytes)
        step.advance(seen.done_bytes - child.done_bytes)
        child = seen
        if context.cancelled and not seen.state.over and journal.ask_cancel(seen.id) is CancelAnswer.ASKED:
            context.log(f"cancelling job {seen.id} ({seen.subject})", "warn")
    return child
