"""The job that drops recovery points and frees what nobody needs any more."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from engine.cli.command_line import with_config
from engine.cli.launching import job_command, keys_for
from engine.cli.opened_repository import open_named
from engine.cli.wording import count, size
from engine.errors import NoSpace
from engine.jobs import Job, JobContext, JobResult, Journal, StepHandle, launch
from engine.repository import Collected, CollectionProgress, Point, Repository
from engine.settings import Settings

PRUNE = "prune"

DROP = "drop recovery points"
FREE = "free what no point needs"


class PointToDrop(Struct, frozen=True):
    """A recovery point that was shown as one to drop."""

    vm_uuid: str
    id: str


class PruneJob(Struct, frozen=True):
    """What a pruning's process is told: exactly what was shown and agreed to."""

    repository: str
    """Its name in the settings."""
    points: tuple[PointToDrop, ...]
    frees_bytes: int
    """What was forecast, to show how far it is."""


class Pruned(Struct, frozen=True):
    """What came of a pruning: the job's report."""

    dropped: int
    collected: Collected


def launch_prune(settings: Settings, journal: Journal, repository: Repository, spec: PruneJob) -> Job:
    """Prune as a job of its own; raises `Conflict` while another one prunes the same repository."""
    return launch(
        journal,
        PRUNE,
        repository.name,
        "",
        msgspec.json.encode(spec),
        lock=f"prune:{repository.id}",
        argv_prefix=job_command(settings),
        again=with_config(settings.file, f"newhope repo prune {spec.repository}"),
        untouched="Every recovery point that is still listed is whole. What is not freed yet the next run frees.",
        handed=keys_for(settings, spec.repository),
    )


def prune_repository(settings: Settings, job: Job, context: JobContext) -> JobResult:
    """Drop the points that were shown, as far as they are still there, and collect."""
    spec = msgspec.json.decode(job.spec, type=PruneJob)
    context.plan([*([DROP] if spec.points else []), FREE])
    with (
        open_named(lambda: settings, spec.repository) as repository,
        repository.collector(f"newhope repo prune, {job.operator}") as collector,
    ):
        dropped = 0
        if spec.points:
            with context.step(DROP) as step:
                points = _still_there(repository, spec.points)
                dropped = collector.drop(points, lambda done: _dropping(context, step, done, len(points)))
                step.note(f"{dropped} of {len(points)}")
        with context.step(FREE, spec.frees_bytes) as step:
            collected = collector.collect(_Freeing(context, step).tell)
    context.report(msgspec.json.encode(Pruned(dropped, collected)))
    for kept in collected.kept:
        context.log(f"{kept}: it was left as it is.", "warn")
    if collected.out_of_space:
        raise NoSpace(
            f"There is no room in {repository.name} to copy what is still needed in some packs.",
            untouched=f"{job.untouched} {_sentence(dropped, collected)}",
            next_step="free some room there and run it again.",
        )
    return JobResult(_sentence(dropped, collected), warn=bool(collected.kept))


def _still_there(repository: Repository, shown: tuple[PointToDrop, ...]) -> list[Point]:
    """Somebody else, or an earlier run, may have dropped some meanwhile."""
    wanted = {(each.vm_uuid, each.id) for each in shown}
    return [point for point in repository.points() if (point.manifest.vm.uuid, point.id) in wanted]


def _dropping(context: JobContext, step: StepHandle, done: int, total: int) -> None:
    context.raise_if_cancelled()
    step.note(f"{done} of {total}")


class _Freeing:
    """Shows in a step how far a collection is, and stops it where it was cancelled."""

    def __init__(self, context: JobContext, step: StepHandle) -> None:
        self._context = context
        self._step = step
        self._done_bytes = 0

    def tell(self, progress: CollectionProgress) -> None:
        self._context.raise_if_cancelled()
        self._step.advance(progress.deleted_bytes - self._done_bytes)
        self._done_bytes = progress.deleted_bytes
        self._step.note(f"{progress.doing}, {count(progress.deleted_packs, 'pack')} deleted")


def _sentence(dropped: int, collected: Collected) -> str:
    """What was done, and what is left for the next run."""
    sentence = (
        f"Dropped {count(dropped, 'recovery point')}, deleted {count(collected.deleted_packs, 'pack')},"
        f" freed {size(collected.freed_bytes)}."
    )
    if collected.waiting_for:
        sentence += (
            f" {count(collected.waiting_packs, 'pack')} may still be needed by {', '.join(collected.waiting_for)}:"
            " the next run after that frees them."
        )
    return sentence
