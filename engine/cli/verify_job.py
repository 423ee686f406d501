"""The job that verifies a repository."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Struct

from engine.cli.command_line import with_config
from engine.cli.launching import job_command, keys_for
from engine.cli.opened_repository import open_named
from engine.cli.wording import count, size
from engine.errors import ExitCode, NewhopeError
from engine.jobs import Job, JobContext, JobResult, Journal, Knobs, StepHandle, launch
from engine.jobs.pace import Pace
from engine.repository import Extent, Repository, Stage, Verification, VerifyProgress, VerifyRequest
from engine.settings import Settings

VERIFY = "verify"

TITLES = {
    Stage.OBJECTS: "read all small objects",
    Stage.MAPS: "walk the maps of all recovery points",
    Stage.PACKS: "read packs to their last byte",
}


class VerifyJob(Struct, frozen=True):
    """What a verification's process is told."""

    repository: str
    """Its name in the settings, or its path or address."""
    request: VerifyRequest


class DamageFound(NewhopeError):
    """A verification came to its end, and not everything was as it was written."""

    exit_code = ExitCode.REPOSITORY


def launch_verify(settings: Settings, journal: Journal, repository: Repository, spec: VerifyJob) -> Job:
    """Verify as a job of its own; raises `Conflict` while another one verifies the same repository."""
    words = ["newhope", "repo", "verify", spec.repository]
    if spec.request.extent is Extent.SAMPLE:
        words += ["--sample", f"{spec.request.sample_percent:g}"]
    elif spec.request.extent is Extent.FULL:
        words.append("--full")
    return launch(
        journal,
        VERIFY,
        repository.name,
        "",
        msgspec.json.encode(spec),
        lock=f"verify:{repository.id}",
        argv_prefix=job_command(settings),
        again=with_config(settings.file, shlex.join(words)),
        untouched="A verification only reads. The packs that it had found sound are remembered as such.",
        handed=keys_for(settings, spec.repository),
        knobs=Knobs(),
    )


def verify_repository(settings: Settings, job: Job, context: JobContext) -> JobResult:
    """Verify; the whole of what was found is the job's report."""
    spec = msgspec.json.decode(job.spec, type=VerifyJob)
    stages = [Stage.OBJECTS, Stage.MAPS, *([Stage.PACKS] if spec.request.extent is not Extent.QUICK else [])]
    context.plan([TITLES[stage] for stage in stages])
    with open_named(lambda: settings, spec.repository) as repository, VerifySteps(context) as steps:
        found = repository.verifier(spec.request).run(steps.tell)
    context.report(msgspec.json.encode(found))
    if not found.sound:
        raise DamageFound(
            f"{found.repository} is damaged: {_what_is_damaged(found)}.",
            untouched="Everything else in it is as it was written, and can be restored.",
            next_step="look at the disk below the repository (dmesg, smartctl), then at newhope repo repair --dry-run:"
            " it says what can be healed, also from other repositories, and keeps the damaged objects.",
        )
    read = f"{count(found.packs_read, 'pack')} of {found.packs} read ({size(found.bytes_read)})"
    sentence = f"{found.repository} is sound: {count(found.points, 'recovery point')}, {read}."
    if found.unrecorded is None:
        return JobResult(sentence)
    return JobResult(f"{sentence} That could not be kept in the repository: {found.unrecorded}", warn=True)


def _what_is_damaged(found: Verification) -> str:
    damaged = sum(finding.severity.value != "note" for finding in found.findings)
    hurt = len({loss.point for loss in found.losses})
    return (
        f"{count(damaged, 'finding')}, {count(hurt, 'recovery point')} not whole" if hurt else count(damaged, "finding")
    )


class VerifySteps:
    """Makes steps of a job of what a verification tells, and stops it where it was cancelled."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._pace = Pace(context)
        self._stack = ExitStack()
        self._stage: Stage | None = None
        self._step: StepHandle | None = None
        self._done = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def tell(self, progress: VerifyProgress) -> None:
        """Called by the verification."""
        self._pace.wait()
        if progress.stage is Stage.PACKS and not progress.total:
            return
        if self._step is None or progress.stage is not self._stage:
            # What is looked at once more, because something is wrong, is a step more.
            self._stack.close()
            self._step = self._stack.enter_context(self._context.step(TITLES[progress.stage]))
            self._stage, self._done = progress.stage, 0
        damaged = f"{progress.damaged} damaged" if progress.damaged else ""
        if progress.stage is Stage.OBJECTS:
            self._step.note(", ".join(filter(None, [f"{progress.done} objects", damaged])))
            return
        self._step.expect(progress.total)
        done_bytes, self._done = progress.done - self._done, progress.done
        self._step.advance(done_bytes)
        if progress.stage is Stage.PACKS:
            self._pace.take(done_bytes)
        else:
            self._pace.give_way()
        if damaged:
            self._step.note(damaged)
