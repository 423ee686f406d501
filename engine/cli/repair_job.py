"""The job that repairs a repository: exactly the plan that was shown."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack

import msgspec
from msgspec import Struct

from engine.cli.command_line import with_config
from engine.cli.launching import job_command, keys_for
from engine.cli.opened_repository import open_named
from engine.cli.wording import count, size
from engine.errors import ExitCode, NewhopeError
from engine.jobs import Job, JobContext, JobResult, Journal, StepHandle, launch
from engine.repository import Phase, RepairPlan, RepairProgress, RepairReport, Repository
from engine.settings import Settings

REPAIR = "repair"


class RepairJob(Struct, frozen=True):
    """What a repair's process is told."""

    repository: str
    """Its name in the settings, or its path or address."""
    sources: tuple[str, ...]
    """Repositories to heal from, named in the same way."""
    plan: RepairPlan


class StaysLost(NewhopeError):
    """A repair came to its end, and not everything could be healed."""

    exit_code = ExitCode.REPOSITORY


def launch_repair(settings: Settings, journal: Journal, repository: Repository, spec: RepairJob) -> Job:
    """Repair as a job of its own; raises `Conflict` while another one repairs the same repository."""
    words = ["newhope", "repo", "repair", spec.repository]
    words += [word for source in spec.sources for word in ("--from", source)]
    return launch(
        journal,
        REPAIR,
        repository.name,
        "",
        msgspec.json.encode(spec),
        lock=f"repair:{repository.id}",
        argv_prefix=job_command(settings),
        again=with_config(settings.file, shlex.join(words)),
        untouched="Nothing sound is lost, whenever a repair stops: originals are kept, and the next one goes on.",
        handed=keys_for(settings, spec.repository, *spec.sources),
    )


def repair_repository(settings: Settings, job: Job, context: JobContext) -> JobResult:
    """Carry out the plan; what came of it is the job's report."""
    spec = msgspec.json.decode(job.spec, type=RepairJob)
    with ExitStack() as stack, _PhaseSteps(context) as steps:
        repository = stack.enter_context(open_named(lambda: settings, spec.repository))
        report = apply(repository, _opened(stack, lambda: settings, spec.sources), spec.plan, job.operator, steps.tell)
    context.report(msgspec.json.encode(report))
    for done in report.done:
        context.log(f"{done.step.object}: {done.outcome}", "warn" if done.failed else "info")
    for loss in report.losses:
        context.log(f"lost: {size(loss.lost_bytes)} of {loss.name} of {loss.point}", "warn")
    refuse_losses(report)
    return JobResult(sentence(report), warn=not report.whole or bool(report.left))


def refuse_losses(report: RepairReport) -> None:
    """Raise `StaysLost` where recovery points have lost something, or a step failed."""
    failed = [done for done in report.done if done.failed]
    if report.whole:
        return
    points = {loss.point for loss in report.losses}
    what = f"{count(len(points), 'recovery point')} of {report.repository} stay damaged" if points else ""
    steps = f"{count(len(failed), 'step')} failed, the first: {failed[0].outcome}" if failed else ""
    raise StaysLost(
        f"{'; '.join(part for part in (what, steps) if part)}. {sentence(report)}",
        untouched="Everything outside of the ranges that are lost can be restored, and the originals are kept.",
        next_step="give repositories that have the points with --from; the next backup heals what it meets; and what is"
        " left of a point is restored with newhope restore --salvage.",
    )


def sentence(report: RepairReport) -> str:
    """What was done."""
    done = sum(not done.failed for done in report.done)
    return (
        f"{count(done, 'step')} done, {count(report.rescued_blocks, 'block')} rescued from damaged packs,"
        f" {count(report.fetched_blocks, 'block')} fetched, {size(report.stored_bytes)} stored."
    )


def apply(
    repository: Repository,
    sources: Sequence[Repository],
    plan: RepairPlan,
    operator: str,
    tell: Callable[[RepairProgress], None],
) -> RepairReport:
    """Carry out a plan for somebody."""
    opened = [source.source() for source in sources]
    return repository.repairer(f"newhope repo repair, {operator}", opened).apply(plan, tell)


def _opened(stack: ExitStack, settings: Callable[[], Settings], names: Sequence[str]) -> list[Repository]:
    return [stack.enter_context(open_named(settings, name)) for name in names]


class _PhaseSteps:
    """A step of the job for each phase of the repair, as it comes."""

    def __init__(self, context: JobContext) -> None:
        self._context = context
        self._phase: Phase | None = None
        self._open: AbstractContextManager[StepHandle] | None = None
        self._step: StepHandle | None = None

    def __enter__(self) -> _PhaseSteps:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._open is not None:
            self._open.__exit__(kind, error, None)
            self._open = None

    def tell(self, progress: RepairProgress) -> None:
        """Show how far the repair is; a cancelled job stops here."""
        self._context.raise_if_cancelled()
        if progress.phase is not self._phase:
            self.__exit__(None, None, None)
            self._phase = progress.phase
            self._open = self._context.step(progress.phase.value)
            self._step = self._open.__enter__()
        if self._step is not None and progress.total:
            self._step.note(f"{progress.done * 100 // progress.total} %")
