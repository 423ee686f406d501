"""What each kind of job does, and the sentence that is left of it."""

from __future__ import annotations

import msgspec

from engine import backup, point_files, restore
from engine.cli.files_shown import written_sentence
from engine.cli.wording import consistency, count, local, size
from engine.jobs import Job, JobContext, JobResult
from engine.repository import Consistency, GuestFiles, Point, ProofOutcome
from engine.settings import Settings

_NAMED = 100


def make_backup(settings: Settings, job: Job, context: JobContext) -> JobResult:
    """One recovery point of one VM."""
    request = msgspec.json.decode(job.spec, type=backup.Request)
    point = backup.make_recovery_point(settings, request, context)
    manifest = point.manifest
    if manifest.guest_files is not None:
        return _guest_files_kept(point, manifest.guest_files, request.repository)
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


def _guest_files_kept(point: Point, kept: GuestFiles, repository: str) -> JobResult:
    sentence = (
        f"Recovery point {point.manifest.vm.name}@{point.id[:8]} of {local(point.manifest.moment)} is in {repository}:"
        f" {count(kept.entries, 'entry', 'entries')} of {', '.join(kept.paths)}, {size(kept.size_bytes)},"
        f" {size(point.manifest.new_bytes)} new."
    )
    failed = [f" Afterwards `{each.command}` failed." for each in kept.commands if each.exit_code]
    said = f" Its tar said: {'; '.join(kept.notes[:3])}." if kept.notes else ""
    return JobResult(f"{sentence}{''.join(failed)}{said}", warn=bool(failed or said))


def restore_vm(settings: Settings, job: Job, context: JobContext) -> JobResult:
    """One VM brought back."""
    request = msgspec.json.decode(job.spec, type=restore.Request)
    report = restore.run(settings, request, context)
    if request.proves:
        return _proven(report)
    sentences = [f"{report.sentence}.", *report.warnings]
    if report.keep_until is not None or report.mode is restore.Mode.REPLACE:
        sentences.append(f"Decide on it with `newhope restores commit {report.id}` or `undo {report.id}`.")
    return JobResult(" ".join(sentences), warn=bool(report.warnings))


def _proven(report: restore.RestoreReport) -> JobResult:
    """What a proof came to, once all of it is taken away. Raises NotProven for one that failed."""
    named = f"{report.vm}@{report.point[:8]}"
    if report.proof is None:
        return JobResult(f"{named} was booted on {report.host}, which proves nothing of it.", warn=True)
    sentence = f"{named} on {report.host}: {report.proof.sentence}."
    if report.proof.verdict.outcome is ProofOutcome.FAILED:
        raise restore.NotProven(
            f"{named} is not proven. On {report.host} {report.proof.sentence}.",
            untouched="The recovery point is as it was; the VM of the proof was taken away, and the proof is kept.",
            next_step=f"boot it and look: newhope restore {named} --mode test --to {report.host}.",
        )
    outcome = report.proof.verdict.outcome
    # One that could not tell is no success: whoever counts proofs must not count it among them.
    return JobResult(f"{outcome.capitalize()}. {sentence}", warn=bool(report.warnings) or outcome is ProofOutcome.OPEN)


def settle_restore(settings: Settings, job: Job, context: JobContext) -> str:
    """One restore committed or undone."""
    return restore.settle(settings, msgspec.json.decode(job.spec, type=restore.Settlement), context)


def put_files_back(settings: Settings, job: Job, context: JobContext) -> JobResult:
    """Files of a point into a running guest."""
    request = msgspec.json.decode(job.spec, type=restore.PutBackRequest)
    report = restore.put_back(settings, request, context)
    aside = f" {count(len(report.aside), 'thing')} moved aside: {', '.join(report.aside[:3])}" if report.aside else ""
    more = f" and {len(report.aside) - 3} more" if len(report.aside) > 3 else ""
    files = f"{count(report.files, 'file')}, {size(report.size_bytes)}"
    return JobResult(f"{files}, put back into {request.vm} as {request.as_path}.{aside}{more}{'.' if aside else ''}")


def get_files(settings: Settings, job: Job, context: JobContext) -> JobResult:
    """Files of a point onto this machine."""
    done = point_files.get(settings, msgspec.json.decode(job.spec, type=point_files.GetRequest), context)
    for each in done.left_out[:_NAMED]:
        context.log(f"left out: {each.path}: {each.reason}", level="warn")
    left_out = (
        f" {count(len(done.left_out), 'entry', 'entries')} left out; the log names them." if done.left_out else ""
    )
    return JobResult(f"{written_sentence(done)}.{left_out}", warn=bool(done.left_out))
