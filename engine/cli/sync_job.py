"""The job that copies recovery points from one repository to another."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import datetime
from time import monotonic

import msgspec
from msgspec import Struct, structs

from engine.cli.command_line import with_config
from engine.cli.launching import job_command, keys_for
from engine.cli.opened_repository import open_named
from engine.cli.wording import count, local, size
from engine.errors import NewhopeError
from engine.jobs import Job, JobContext, JobResult, Journal, Knobs, launch
from engine.jobs.pace import Pace
from engine.repository import Advance, Limiter, Point, Synced, SyncPlan, SyncRequest
from engine.repository.errors import RepositoryError
from engine.settings import Settings, format_rate, limit_at, load

SYNC = "sync"
LOOK_EVERY_S = 2.0
REFUSED_NAMED = 5


class SyncJob(Struct, frozen=True):
    """What a sync job is asked to do."""

    source: str
    """Name in the settings, or a path or address."""
    target: str
    request: SyncRequest
    limit: int | None = None
    """Bytes a second, on either side, whatever the settings allow beyond."""
    drops: tuple[str, ...] = ()
    """Ids of the copies at the target that were shown, and are to be dropped."""

    @property
    def lock(self) -> str:
        """Two syncs of the same two repositories would do the same work twice."""
        return f"sync:{self.source}:{self.target}"


class SyncIncomplete(RepositoryError):
    """Some recovery points could not be copied; all others were."""


def launch_sync(settings: Settings, journal: Journal, asked: SyncJob) -> Job:
    """Start a sync as a job; raises `Conflict` while another one works on the same two repositories."""
    request = asked.request
    words = ["newhope", "repo", "sync", asked.source, asked.target]
    words += [word for vm in request.vms for word in ("--vm", vm)]
    words += ["--newest", str(request.newest)] if request.newest else []
    words += ["--limit", format_rate(asked.limit)] if asked.limit else []
    words += ["--verify"] if request.verify else []
    words += ["--delete"] if request.delete else []
    return launch(
        journal,
        SYNC,
        f"{asked.source} to {asked.target}",
        "",
        msgspec.json.encode(asked),
        lock=asked.lock,
        argv_prefix=job_command(settings),
        again=with_config(settings.file, shlex.join(words)),
        untouched="Every point that is listed is whole; what was copied of the next one is used when it goes on.",
        handed=keys_for(settings, asked.source, asked.target),
        knobs=Knobs(bandwidth=asked.limit),
    )


def sync_repositories(settings: Settings, job: Job, context: JobContext) -> JobResult:
    """Copy the points, one step each."""
    asked = msgspec.json.decode(job.spec, type=SyncJob)
    limits = StandingLimits(settings)
    owner = f"newhope repo sync {asked.source} {asked.target}"
    pace = Pace(context)

    with open_named(lambda: settings, asked.source) as source, open_named(lambda: settings, asked.target) as target:
        source, target = (
            side.limited(Limiter(limits.of(name, lambda: context.knobs.bandwidth), stop=pace.wait))
            for side, name in ((source, asked.source), (target, asked.target))
        )
        sync = source.sync_to(target, asked.request, owner)
        with context.step("compare"):
            plan = sync.plan()
            plan = structs.replace(plan, drops=tuple(point for point in plan.drops if point.id in asked.drops))
        context.plan([_title(point) for point in plan.copies])
        done = sync.run(plan, _Steps(context, pace))
    for refused in done.refused:
        context.log(refused.why, "error")
    for damage in plan.unreadable:
        context.log(f"passed over in {plan.source}: {damage}", "error")
    if done.refused or plan.unreadable:
        raise _incomplete(job, plan, done)
    return JobResult(_sentence(plan, done))


class StandingLimits:
    """The limits that the settings name, as they are now: a change of the file counts while a job runs."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._read = self._state()
        self._looked_s = monotonic()

    def of(self, name: str, limit: Callable[[], int | None]) -> Callable[[datetime], float | None]:
        """What may move to and from a repository at a time of the day: the lowest of both limits."""

        def bytes_a_second(now: datetime) -> float | None:
            both = [each for each in (self._standing(name, now), limit()) if each is not None]
            return min(both) if both else None

        return bytes_a_second

    def _standing(self, name: str, now: datetime) -> int | None:
        self._look()
        for repository in self._settings.repositories:
            if repository.name == name:
                return limit_at(repository.bandwidth, now)
        return None

    def _look(self) -> None:
        if monotonic() - self._looked_s < LOOK_EVERY_S:
            return
        self._looked_s = monotonic()
        state = self._state()
        if state == self._read:
            return
        self._read = state
        try:
            self._settings = load(self._settings.file)
        except NewhopeError:
            # Half written, or wrong: what was said last counts until it can be read again.
            return

    def _state(self) -> tuple[int, int] | None:
        try:
            found = self._settings.file.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino


class _Steps:
    """A job's steps as a sync fills them."""

    def __init__(self, context: JobContext, pace: Pace) -> None:
        self._context = context
        self._pace = pace

    @contextmanager
    def point(self, point: Point) -> Generator[Advance]:
        with self._context.step(_title(point), point.size_bytes) as step:

            def advance(done_bytes: int) -> None:
                step.advance(done_bytes)
                self._pace.give_way()

            yield advance


def _title(point: Point) -> str:
    return f"{point.manifest.vm.name}@{point.id[:8]} of {local(point.manifest.moment)}"


def _sentence(plan: SyncPlan, done: Synced) -> str:
    new = size(sum(copied.new_bytes for copied in done.copied))
    sentence = (
        f"{count(len(done.copied), 'recovery point')} copied from {plan.source} to {plan.target}, {new} new there"
    )
    sentence += f"; {done.present} were there already." if done.present else "."
    guards = done.guards + sum(copied.guards for copied in done.copied)
    if guards:
        sentence += f" {count(guards, 'pin or protection', 'pins and protections')} came along."
    if done.gone:
        sentence += f" {count(done.gone, 'point')} needed no copying any more."
    if done.dropped:
        sentence += f" {count(len(done.dropped), 'copy', 'copies')} dropped; newhope repo prune frees the space."
    return sentence


def _incomplete(job: Job, plan: SyncPlan, done: Synced) -> SyncIncomplete:
    names = [f"{refused.vm}@{refused.id[:8]}" for refused in done.refused]
    names += [damage.partition(":")[0] for damage in plan.unreadable]
    shown = ", ".join(names[:REFUSED_NAMED]) + (
        f" and {len(names) - REFUSED_NAMED} more" if names[REFUSED_NAMED:] else ""
    )
    return SyncIncomplete(
        f"{count(len(names), 'recovery point')} of {plan.source} cannot be copied, being damaged there: {shown}.",
        untouched=_sentence(plan, done),
        next_step=f"read why with `newhope jobs log {job.id}`, and look with `newhope repo verify {plan.source}`.",
    )
