"""Make one recovery point, in the order that keeps every promise."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import NamedTuple

from msgspec.structs import replace

from engine import nbd
from engine.backup import beside_disks, leftovers, stray_marks
from engine.backup.changed_blocks import BitmapDistrusted, copy_changed_blocks
from engine.backup.disk_copy import copy_disk
from engine.backup.moment import DiskSource, How, Marks, Moment, fixed_moment
from engine.backup.plan import (
    Request,
    data_disks,
    keeps_memory,
    refuse_if_busy,
    refuse_plain,
    refuse_unreadable,
    tracked_targets,
)
from engine.backup.reading import (
    DiskReading,
    ReadingPlan,
    checkpoint_left_behind,
    distrusted,
    plan_reading,
    read_whole,
    whole,
)
from engine.backup.vm_notes import VmNotes
from engine.errors import NewhopeError, NotFound
from engine.fleet import facts_of, format_bytes, open_repository
from engine.hosts import (
    HostLane,
    HostLanes,
    checkpoints,
    find_vm,
    require_snapshot,
    take_snapshot,
)
from engine.hosts.checkpoints import KnownCheckpoint
from engine.hosts.model import HostSnapshot, Vm, VmState
from engine.jobs import JobContext, StepHandle
from engine.jobs.pace import Pace
from engine.repository import (
    DiskRecord,
    FileRecord,
    Point,
    PointKind,
    Reader,
    Repository,
    RepositoryDamaged,
    Writer,
    as_file,
    of_kind,
)
from engine.settings import Method, Settings, find_repository

_LOOK = "look at the VM"
_MOMENT = "fix the moment of all disks"
_MEMORY = "read the guest's memory"
_KEEP = "keep definition, boot files and facts"
_COMMIT = "commit the recovery point"


class _Open(NamedTuple):
    """The repository, open for writing the new recovery point and for reading the one before it; notes and pace."""

    repository: Repository
    writer: Writer
    reader: Reader
    notes: VmNotes
    pace: Pace


def make_recovery_point(settings: Settings, request: Request, context: JobContext) -> Point:
    """Back up one VM as the request says. Raises a `NewhopeError`; then no recovery point was made."""
    kept = find_repository(settings, request.repository)
    notes = VmNotes(settings.state)
    with HostLanes(settings) as lanes:
        lane = lanes[request.host]
        snapshot, vm = _look(lane, request, notes, context)
        disks = data_disks(vm)
        memory = [_MEMORY] if keeps_memory(vm, request.method) else []
        context.plan([_LOOK, _MOMENT, _KEEP, *(f"read {disk.target}" for disk in disks), *memory, _COMMIT])
        with context.step(_LOOK):
            refuse_if_busy(vm)
            refuse_unreadable(vm, snapshot.facts)
            repository = open_repository(kept)
        with repository:
            refuse_plain(vm, request, kept, sealed=repository.encrypted)
            try:
                point = _write(lane, snapshot, vm, request, repository, notes, context)
            except RepositoryDamaged as damage:
                if request.full or request.method is not Method.HOT:
                    raise
                # It was the point before that could not be read: what is not taken over from it is not needed.
                context.log(f"begun anew, without the recovery point before: {damage}", level="warn")
                point = _write(lane, snapshot, vm, replace(request, full=True), repository, notes, context)
        _drop_earlier_checkpoints(lane, vm, point.manifest.checkpoint, context)
        return point


def _write(
    lane: HostLane,
    snapshot: HostSnapshot,
    vm: Vm,
    request: Request,
    repository: Repository,
    notes: VmNotes,
    context: JobContext,
) -> Point:
    with repository.writer(f"backup of {vm.name}") as writer, repository.reader() as reader:
        return _copy(lane, snapshot, vm, request, _Open(repository, writer, reader, notes, Pace(context)), context)


def _look(lane: HostLane, request: Request, notes: VmNotes, context: JobContext) -> tuple[HostSnapshot, Vm]:
    snapshot = require_snapshot(lane, untouched=f"{request.vm} and its earlier recovery points are as they were.")
    vm = find_vm(snapshot, request.vm_uuid)
    left = [each for each in leftovers.find(lane, vm, notes) if not each.left_alone and not each.only_if_asked]
    for each in left:
        context.log(f"{vm.name}: {each.what} {each.remedy}", level="warn")
        context.log(leftovers.put_right(lane, vm, each, notes), level="warn")
    if left:
        snapshot = take_snapshot(lane)
        vm = find_vm(snapshot, request.vm_uuid)
    _take_back_marks(lane, vm, notes, context)
    return snapshot, vm


def _take_back_marks(lane: HostLane, vm: Vm, notes: VmNotes, context: JobContext) -> None:
    """Remove dirty bitmaps that only QEMU knows of; one that stays is in nobody's way."""
    try:
        for name in stray_marks.take_back_begun(lane, vm, notes):
            context.log(
                f"{vm.name}: took away the dirty bitmap {name}, which a backup that died had begun", level="warn"
            )
    except NewhopeError as error:
        context.log(f"{vm.name}: {error.what}", level="warn")


def _copy(lane: HostLane, snapshot: HostSnapshot, vm: Vm, request: Request, open_: _Open, context: JobContext) -> Point:
    point = None
    # Before the moment is fixed: while a guest is frozen, nobody reads a repository.
    reading = _plan_reading(lane, vm, request, open_, context)
    new = checkpoints.new_name(chain=open_.repository.id[: checkpoints.CHAIN_DIGITS])
    before = beside_disks.changing_state(lane, vm)
    try:
        with ExitStack() as held:
            with context.step(_MOMENT) as step:
                moment = held.enter_context(
                    fixed_moment(lane, vm, _how(request), Marks(new, reading.since), open_.notes, context)
                )
                step.note(moment.note)
            context.log(f"the moment of all disks is {moment.time:%Y-%m-%d %H:%M:%S} UTC: {moment.note}")
            with context.step(_KEEP):
                kept = beside_disks.keep(
                    lane,
                    snapshot,
                    vm,
                    open_.writer,
                    sealed=open_.repository.encrypted,
                    before=before,
                    checkpoint=moment.checkpoint,
                )
            for note in kept.notes:
                context.log(note)
            copied = (_copy_one(source, reading.of(source.target), open_, context) for source in moment.disks)
            records = tuple(_with_source(record, vm) for record in copied)
            if moment.memory is not None:
                memory_file = _copy_memory(moment.memory, open_, context)
                kept = replace(kept, files=(*kept.files, memory_file))
            with context.step(_COMMIT):
                point = _commit(vm, request, moment, records, kept, open_.writer)
            context.log(f"committed as {vm.name}@{point.id} in {request.repository}")
    except BaseException as error:
        if point is None:
            # Its bitmap joins the one before it, so the next backup reads what was written since the last point.
            with suppress(NewhopeError):
                checkpoints.take_away(lane, vm.uuid, new, tracked_targets(vm))
                open_.notes.end_mark(vm.host, vm.uuid, new)
            raise
        if not isinstance(error, NewhopeError):
            raise
        # Only the cleaning up on the host failed: what was read is whole, and committed.
        context.log(f"the recovery point is committed, but on {lane.host.name}: {error}", level="warn")
    open_.notes.end_mark(vm.host, vm.uuid, new)
    return point


def _plan_reading(lane: HostLane, vm: Vm, request: Request, open_: _Open, context: JobContext) -> ReadingPlan:
    disks = data_disks(vm)
    if request.full:
        return read_whole(disks, "it was asked for")
    own = of_kind(open_.repository.points(vm.uuid), PointKind.VM)
    known = _known_checkpoints(lane, vm, own, context)
    points = (*own, *_restored_from(open_.repository, known))
    plan = plan_reading(vm, disks, points, known)
    if plan.parent is None:
        return plan
    verified = open_.repository.verification_state().last
    if verified is not None and plan.parent.id in verified.hurt:
        return read_whole(disks, "the recovery point before is damaged, and what is read whole is stored again")
    try:
        open_.writer.lean_on(plan.parent)
    except NotFound:
        return read_whole(disks, "the recovery point before was dropped at this very moment")
    return plan


def _restored_from(repository: Repository, known: Sequence[KnownCheckpoint]) -> tuple[Point, ...]:
    """The recovery point, of whatever VM, that a restore made this one of, if it is in this repository."""
    found: list[Point] = []
    for checkpoint in known:
        vm_uuid, at, point_id = checkpoint.restored_from.partition("@")
        if at and checkpoints.chain_of(checkpoint.name) == repository.id[: checkpoints.CHAIN_DIGITS]:
            with suppress(NotFound):
                found.append(repository.point(vm_uuid, point_id))
    return tuple(found)


def _known_checkpoints(
    lane: HostLane, vm: Vm, points: Sequence[Point], context: JobContext
) -> tuple[KnownCheckpoint, ...]:
    """The VM's checkpoints; that of its newest point is made known again where only the bitmaps came along."""
    known = checkpoints.known_checkpoints(lane, vm.uuid)
    left_behind = checkpoint_left_behind(vm, points, known)
    if left_behind is None or vm.state not in (VmState.RUNNING, VmState.PAUSED):
        return known
    again = checkpoints.know_again(
        lane, vm.uuid, left_behind.name, created=left_behind.created, targets=left_behind.disks
    )
    if again is None:
        return known
    context.log(f"{vm.host} did not know {again.name}, but the disks {', '.join(again.disks)} still count from it")
    return (*known, again)


def _copy_one(source: DiskSource, reading: DiskReading, open_: _Open, context: JobContext) -> DiskRecord:
    if reading.since is not None and source.bitmap is None:
        reading = whole(reading, f"the dirty bitmap since {reading.since} is lost: {source.bitmap_lost}")
    contexts = (nbd.BASE_ALLOCATION, *((source.bitmap,) if source.bitmap is not None else ()))
    with (
        nbd.Client.connect(source.address, source.export, contexts=contexts) as client,
        context.step(f"read {source.target}", total_bytes=client.size_bytes) as step,
    ):
        if reading.parent is not None and reading.parent.size_bytes > client.size_bytes:
            reading = whole(reading, "it was made smaller just before the moment")
        try:
            record = _copy_from(client, source, reading, open_, step)
        except BitmapDistrusted as doubt:
            context.log(f"{source.target} is read whole: {doubt}", level="warn")
            step.expect(2 * client.size_bytes)
            record = _copy_from(client, source, distrusted(reading, doubt.what), open_, step)
    context.log(
        f"{source.target} ({source.format}): {format_bytes(record.data_bytes)} of data in"
        f" {format_bytes(record.size_bytes)}; {record.read_reason}"
    )
    return record


def _copy_memory(source: DiskSource, open_: _Open, context: JobContext) -> FileRecord:
    with (
        nbd.Client.connect(source.address, source.export) as client,
        context.step(_MEMORY, total_bytes=client.size_bytes) as step,
    ):
        file = open_.writer.large_file(source.target, client.size_bytes)
        copy_disk(client, file, open_.writer.block_bytes, step.advance, open_.pace.take)
        return as_file(file.finish("all of it"), "memory and devices")


def _how(request: Request) -> How:
    return How(request.method, request.shutdown_timeout_s, request.hot_if_ignored)


def _copy_from(
    client: nbd.Client,
    source: DiskSource,
    reading: DiskReading,
    open_: _Open,
    step: StepHandle,
) -> DiskRecord:
    block_bytes = open_.writer.block_bytes
    if reading.parent is None or source.bitmap is None:
        doubted = bool(reading.contradicted)
        disk = open_.writer.disk(source.target, client.size_bytes, source.format, verify=doubted)
        copy_disk(client, disk, block_bytes, step.advance, open_.pace.take)
        return replace(disk.finish(reading.reason), contradicted=reading.contradicted)
    disk = open_.writer.disk(source.target, client.size_bytes, source.format, parent=reading.parent)
    changed_bytes = copy_changed_blocks(
        client,
        source.bitmap,
        disk,
        (open_.reader, reading.parent),
        block_bytes,
        step.advance,
        open_.pace.take,
    )
    step.note(f"{format_bytes(changed_bytes)} written since the last recovery point")
    return replace(disk.finish(reading.reason), taken_over_from=reading.parent_point)


def _with_source(record: DiskRecord, vm: Vm) -> DiskRecord:
    """The record of a disk, and where it lay."""
    disk = next(each for each in vm.disks if each.target == record.target)
    return replace(record, source=disk.source or "", kind=disk.source_kind, encrypted=disk.encrypted)


def _commit(
    vm: Vm,
    request: Request,
    moment: Moment,
    records: tuple[DiskRecord, ...],
    kept: beside_disks.Kept,
    writer: Writer,
) -> Point:
    # Dear to import, and needed only here.
    from importlib.metadata import version

    return writer.commit(
        vm=facts_of(vm),
        moment=moment.time,
        method=request.method.value,
        consistency=moment.consistency,
        consistency_note=moment.note,
        disks=records,
        files=kept.files,
        downtime_s=round(moment.downtime_s, 3),
        checkpoint=moment.checkpoint,
        writer=f"newhope {version('newhope')}",
        notes=kept.notes,
        snapshots=kept.snapshots,
    )


def _drop_earlier_checkpoints(lane: HostLane, vm: Vm, newest: str | None, context: JobContext) -> None:
    """Delete the checkpoints that the new one makes needless: those of its own chain, and those of none."""
    if newest is None:
        return
    for name in checkpoints.own_checkpoints(lane, vm.uuid):
        if name == newest or checkpoints.chain_of(name) not in ("", checkpoints.chain_of(newest)):
            continue
        try:
            checkpoints.delete(lane, vm.uuid, name)
        except NewhopeError as error:
            # The recovery point is committed; a checkpoint that stays costs the guest a little memory, no data.
            context.log(f"checkpoint {name} could not be removed and is left: {error.what}", level="warn")
