"""Carry out a decided request exactly as it was planned, from wherever an earlier run of it was cut off.

1. The restore's journal is opened under the request's id; without an entry this is its first run.
2. Each step that is not done there is marked, carried out, marked done. Steps that write disks run side by side.
3. A step that fails, or a cancellation, has everything undone, in reverse order, and the error passes on.
4. But where only the way to the host or the repository is lost, what was done is kept: the restore is *interrupted*,
   and can be resumed or undone. So it is when this process is killed.
5. Whole, the restore is committed, or kept for as long as it can be undone, and its report goes to the repository.
   One that proves its point is undone at once, when the proof is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import groupby

from msgspec import structs

from engine.errors import Conflict, ExitCode, NewhopeError
from engine.fleet import open_repository
from engine.hosts import HostLanes, HostUnreachable, checkpoints, require_snapshot, scratch
from engine.jobs import Cancelled, JobContext
from engine.repository import Point, Repository, StorageFailed, keep_proof
from engine.restore.carrying_out import WAYS
from engine.restore.host_note import take_note_away
from engine.restore.journal import Entry, Phase, RestoreJournal
from engine.restore.model import Request, RestoreReport
from engine.restore.plan import lock_of
from engine.restore.rates import load_rates, save_rates
from engine.restore.report import keep_report, report_of
from engine.restore.step_disks import WRITE_KINDS, is_still_there
from engine.restore.steps import Step, StepKind, steps_of
from engine.restore.undoing import UndoIncomplete, undo
from engine.restore.work import Ground, SideBySideStopped, Work
from engine.settings import Repository as RepositorySettings
from engine.settings import Settings, find_repository

DISKS_AT_ONCE = 4
STREAMS_A_DISK = 3
_ASKING = (StepKind.ASK, StepKind.GUEST_CHECK, StepKind.WATCH)
_START = Step(StepKind.START).key


class HostLost(NewhopeError):
    """The way to a host was lost in the middle of a restore, which can go on later."""

    exit_code = ExitCode.HOST_UNREACHABLE


class RepositoryLost(NewhopeError):
    """The repository could not be read any more in the middle of a restore, which can go on later."""

    exit_code = ExitCode.REPOSITORY


def run(settings: Settings, request: Request, context: JobContext) -> RestoreReport:
    """Restore as a decided request says. Raises a `NewhopeError`, after undoing what was begun or keeping it."""
    kept = find_repository(settings, request.repository)
    journal = RestoreJournal(settings.state)
    with HostLanes(settings) as lanes, open_repository(kept) as repository:
        point = repository.point(request.vm_uuid, request.point_id)
        entry = _entry(journal, request, point, context)
        steps = steps_of(point.manifest, request)
        context.plan([step.title for step in steps])
        _clear_the_way(settings, lanes, journal, request, context)
        owner = f"newhope restore of {point.manifest.vm.name} as {request.name}"
        with repository.hold(point, owner) as unheld, repository.reader() as reader:
            if unheld:
                context.log(f"the point is not kept from being pruned meanwhile: {unheld}", level="warn")
            work = Work(
                settings,
                lanes,
                journal,
                entry,
                context,
                point=point,
                repository=repository,
                reader=reader,
                chain=repository.id[: checkpoints.CHAIN_DIGITS],
            )
            try:
                _carry_out(work, [step for step in steps if step.kind is not StepKind.TAKE_AWAY])
            except BaseException as error:
                raise _after_failure(work, kept, error) from error
        report = _finish(work, repository)
        if request.proves:
            with context.step(Step(StepKind.TAKE_AWAY).title):
                undo(work)
    journal.forget_oldest()
    return report


def usual_streams(request: Request) -> int:
    """With how many streams a restore begins, unless somebody says otherwise: what was fastest for its disks."""
    return STREAMS_A_DISK * max(1, min(len(request.disks), DISKS_AT_ONCE))


def _entry(journal: RestoreJournal, request: Request, point: Point, context: JobContext) -> Entry:
    found = journal.get(request.id)
    if found is None:
        now = datetime.now(UTC)
        manifest = point.manifest
        return Entry(
            request.id, manifest.vm.name, manifest.moment, request, Phase.UNDER_WAY, now, now, job_id=context.job_id
        )
    if found.phase is not Phase.UNDER_WAY:
        raise Conflict(
            f"Restore {request.id} of {found.vm} cannot go on: it is {found.phase.value}.",
            next_step=f"see what can be done with it: newhope restores show {request.id}",
        )
    return structs.replace(found, resumed=found.resumed + 1, job_id=context.job_id)


def _clear_the_way(
    settings: Settings, lanes: HostLanes, journal: RestoreJournal, request: Request, context: JobContext
) -> None:
    """Undo what an interrupted restore of the same name has left; its job cannot live, for we hold its lock."""
    for entry in journal.entries():
        left = entry.phase in (Phase.UNDER_WAY, Phase.UNDOING) and lock_of(entry.request) == lock_of(request)
        if not left or entry.id == request.id:
            continue
        runs = entry.request.instant and entry.is_done(_START) and not entry.request.proves
        if entry.original is not None or runs:
            raise Conflict(
                f"Restore {entry.id} of {entry.vm} was interrupted while "
                + ("its VM runs already." if runs else "the original is aside."),
                next_step=f"first settle it: newhope restores resume {entry.id}, or newhope restores undo {entry.id}",
            )
        context.log(f"undoing restore {entry.id} of the same name, which was interrupted", level="warn")
        undo(Ground(settings, lanes, journal, entry, context))


def _carry_out(work: Work, steps: Sequence[Step]) -> None:
    if work.resumed:
        scratch.clear_sockets(work.lane, work.request.new_uuid)
        _forget_what_is_gone(work, steps)
    for kind, some in groupby(steps, key=lambda step: step.kind):
        group = list(some)
        if kind in WRITE_KINDS and len(group) > 1:
            _side_by_side(work, group)
        else:
            for step in group:
                _one(work, step)


def _forget_what_is_gone(work: Work, steps: Sequence[Step]) -> None:
    """A volume that was written, and that somebody has deleted since, is written again."""
    if work.entry.begun(Step(StepKind.DEFINE).key):
        return
    gone = [
        step.key
        for step in steps
        if step.kind in (StepKind.WRITE, StepKind.OVERLAY)
        and work.entry.is_done(step.key)
        and not is_still_there(work, step)
    ]
    if gone:
        work.note(
            lambda entry: structs.replace(entry, marks=tuple(mark for mark in entry.marks if mark.key not in gone))
        )


def _side_by_side(work: Work, group: Sequence[Step]) -> None:
    """Carry out steps at the same time; the first failure ends the others, and is the one to be told."""
    first: list[BaseException] = []

    def attempt(step: Step) -> None:
        try:
            _one(work, step)
        except SideBySideStopped:
            return
        except BaseException as error:
            first.append(error)
            work.stop_others()

    with ThreadPoolExecutor(DISKS_AT_ONCE, thread_name_prefix="restore disk") as pool:
        for future in [pool.submit(attempt, step) for step in group]:
            future.result()
    if first:
        raise first[0]


def _one(work: Work, step: Step) -> None:
    # The check begins every run anew; it is written down only when it has passed. A server may have died since.
    checks = step.kind is StepKind.CHECK
    try:
        work.pace.wait()
        with work.context.step(step.title) as handle:
            if not checks and step.kind is not StepKind.SERVE and work.entry.is_done(step.key):
                handle.note("done before")
                return
            if not checks:
                work.begin(step)
            note = WAYS[step.kind].do(work, step, handle)
            if note:
                handle.note(note)
            if not checks or not work.resumed:
                work.done(step, note)
    except Cancelled:
        if step.kind not in _ASKING or work.request.proves:
            raise
        work.warn(f"It was cancelled when the VM ran already: the VM was kept. Not done: {step.title}.")


def _after_failure(work: Work, kept: RepositorySettings, error: BaseException) -> BaseException:
    """The error to be told: after everything was undone, or after what can go on later was kept."""
    if not work.entry.marks:
        return error
    gone = None if isinstance(error, Cancelled) else _lost_host(work, error)
    if gone is not None:
        return HostLost(f"{gone.what} The restore was in the middle.", **_way_on(work, gone.next_step))
    if isinstance(error, NewhopeError) and error.exit_code is ExitCode.REPOSITORY:
        lost = _why_lost(kept, work, error)
        if lost is not None:
            return RepositoryLost(
                f"The repository {kept.name} was lost in the middle of the restore: {lost.what}",
                **_way_on(work, lost.next_step),
            )
    if work.request.instant and work.entry.is_done(_START) and not work.request.proves:
        return _left_running(work, error)
    try:
        undo(work)
    except UndoIncomplete as incomplete:
        if not isinstance(error, NewhopeError):
            return error
        what = f"{error.what} And it could not be undone: {incomplete.what}"
        return UndoIncomplete(what, untouched=incomplete.untouched, next_step=incomplete.next_step)
    return error


def _left_running(work: Work, error: BaseException) -> BaseException:
    """Of an instant restore whose VM runs: nobody takes away by himself what its guest has written since."""
    if not isinstance(error, Cancelled):
        return error
    identity = work.entry.id
    return Cancelled(
        f"{error.what} {work.request.name} on {work.request.to_host} runs on, over the recovery point as it is served.",
        untouched="What was written in it is kept. It needs this machine and the repository until its disks are moved.",
        next_step=f"move them with `newhope restores resume {identity}`, or take the VM away with `newhope restores"
        f" undo {identity}`.",
    )


def _way_on(work: Work, remedy: str) -> dict[str, str]:
    identity = work.entry.id
    return {
        "untouched": "What was written is kept, and recognised when the restore goes on; the original's disks are as"
        " they were.",
        "next_step": f"{remedy.rstrip('.')}; then go on with `newhope restores resume {identity}`, or take it back with"
        f" `newhope restores undo {identity}`.",
    }


def _lost_host(work: Work, error: BaseException) -> HostUnreachable | None:
    """Why a host of this restore does not answer any more; None if all do, so that it was something else that failed.

    A disk that is being written may notice first: its server is gone, and nobody says that its host is, too.
    """
    if isinstance(error, HostUnreachable):
        return error
    aside = work.request.aside
    try:
        for host in dict.fromkeys((work.request.to_host, *((aside.host,) if aside is not None else ()))):
            require_snapshot(work.lanes[host])
    except HostUnreachable as unreachable:
        return unreachable
    return None


def _why_lost(kept: RepositorySettings, work: Work, error: NewhopeError) -> NewhopeError | None:
    """Why the repository cannot be read any more; None if it can, so that it was its content that failed."""
    if isinstance(error, StorageFailed):
        return error
    try:
        with open_repository(kept) as repository:
            repository.point(work.request.vm_uuid, work.request.point_id)
    except NewhopeError as error:
        return error
    return None


def _finish(work: Work, repository: Repository) -> RestoreReport:
    request, now = work.request, datetime.now(UTC)
    keeps = request.aside is not None or request.keep_for_s is not None
    keep_until = now + timedelta(seconds=request.keep_for_s) if request.keep_for_s is not None else None
    if not keeps:
        take_note_away(work.lane, work.entry)
    work.note(lambda entry: structs.replace(entry, finished=now, keep_until=keep_until))
    report = report_of(work)
    try:
        keep_report(repository, report)
        if report.proof is not None:
            keep_proof(repository, report.proof)
    except NewhopeError as error:
        work.warn(f"Its report and proof could not be kept in the repository: {error.what}")
        report = report_of(work)
    phase = Phase.KEPT if keeps else Phase.COMMITTED
    work.note(lambda entry: structs.replace(entry, phase=phase))
    _measure(work)
    return report


def _measure(work: Work) -> None:
    """Keep how long the steps took; a run that was interrupted, paused or slowed down tells nothing of it."""
    if work.resumed or work.entry.knobs:
        return
    rates = load_rates(work.settings.state)
    host = work.request.to_host
    for mark in work.entry.marks:
        kind, _, of = mark.key.partition(":")
        size_bytes = next((disk.data_bytes for disk in work.entry.disks if disk.target == of), 0)
        image_format = next((disk.format for disk in work.entry.disks if disk.target == of), "")
        if mark.done is not None:
            took_s = (mark.done - mark.begun).total_seconds()
            rates = rates.measured(host, StepKind(kind), size_bytes, image_format, took_s)
    with suppress(OSError):
        save_rates(work.settings.state, rates)
