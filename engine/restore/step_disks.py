"""Write the disks, and read them again.

1. The volume is made, if it is not there from a run that was cut off.
2. Of one that is there, what it holds is recognised (`recognised.py`); what is wrong is zeroed.
3. What is not there is read from the repository, checked against its name, and written, from several threads.
4. It is made durable; only then is the step done.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path

from msgspec import structs

from engine import nbd
from engine.errors import NewhopeError
from engine.hosts import image, scratch, volumes
from engine.hosts.disk_sink import DiskSink, open_sink
from engine.hosts.volume_upload import UploadedDisk
from engine.hosts.volumes import MadeSure
from engine.jobs import MOST_STREAMS, StepHandle
from engine.repository import DataRun, DiskRecord, Reader
from engine.restore.model import DiskTarget, RestoredDisk
from engine.restore.recognised import Recognised, recognise
from engine.restore.salvage import Lost
from engine.restore.steps import Step, StepKind
from engine.restore.work import Work

LET_GO_S = 60.0
"""For how long a server that outlived its job by a moment is waited for."""


class NotAsWritten(NewhopeError):
    """A disk that was written reads otherwise."""


def write(work: Work, step: Step, handle: StepHandle) -> str:
    """Write one disk. Answers what was there already."""
    record, disk = record_of(work, step), work.request.disk(step.of)
    handle.expect(record.data_bytes)
    made = _image_of(work, step, record)
    if made.existed:
        _wait_until_let_go(work, made.path, disk.format)
    there = _recognise(work, record, made.path, disk.format, handle.advance) if made.existed else None
    lost = Lost()
    with sink_of(work, made.path, disk.format, keep=made.existed) as sink:
        if there is not None:
            _zero_what_is_wrong(there, sink, record, work.reader.block_bytes)
        elif disk.device:
            sink.zero(0, record.size_bytes)
        write_disk(
            work.reader,
            record,
            sink,
            handle.advance,
            work.raise_if_to_stop,
            lost.of_disk(step.of) if work.request.salvage else None,
            there.is_there if there is not None else None,
            turn=partial(work.pace.stream, step.of),
        )
    recognised_bytes = there.there_bytes if there is not None else 0
    restored = structs.replace(restored_disk(record, disk, made), recognised_bytes=recognised_bytes)
    work.note(
        lambda entry: structs.replace(
            entry.with_disk(restored),
            lost=(*(each for each in entry.lost if each.disk != step.of), *lost.ranges()),
        )
    )
    work.context.log(f"{step.of} is written to {made.path} ({disk.format})")
    return f"{recognised_bytes} bytes were there already" if recognised_bytes else ""


def verify(work: Work, step: Step, handle: StepHandle) -> str:
    """Read one disk again and compare every byte with the recovery point. Raises NotAsWritten."""
    record = record_of(work, step)
    restored = next(disk for disk in work.entry.disks if disk.target == step.of)
    handle.expect(record.data_bytes)
    found = _recognise(work, record, restored.path, restored.format, handle.advance)
    size = work.reader.block_bytes
    lost_blocks = sum((each.length + size - 1) // size for each in work.entry.lost if each.disk == step.of)
    wrong = max(len(found.stale), found.missing_blocks - lost_blocks)
    if wrong:
        raise NotAsWritten(
            f"{step.of} at {restored.path} does not read as it was written: {wrong} blocks of {size} bytes differ.",
            untouched="No VM was made of it.",
            next_step=f"distrust the storage below {Path(restored.path).parent} (dmesg, smartctl): restore to another.",
        )
    verified = structs.replace(restored, verified=True)
    work.note(lambda entry: entry.with_disk(verified))
    return "equal"


def write_disk(
    reader: Reader,
    disk: DiskRecord,
    sink: DiskSink,
    advance: Callable[[int], None],
    check: Callable[[], None],
    lost: Callable[[DataRun], None] | None = None,
    skip: Callable[[int], bool] | None = None,
    *,
    turn: Callable[[int], AbstractContextManager[None]] | None = None,
) -> None:
    """Write the data of one disk to an image, and make it durable; what is not data is zero there already.

    With `lost`, ranges that cannot be read are told, and stay zero too. Blocks that `skip` knows are there already.
    `turn` is as for `Reader.copy_disk`; there are as many threads then as there may ever be streams.
    """
    if turn is None:
        copied = reader.copy_disk(disk, sink.write, lost=lost, skip=skip)
    else:
        copied = reader.copy_disk(disk, sink.write, workers=MOST_STREAMS, lost=lost, skip=skip, turn=turn)
    for written_bytes in copied:
        advance(written_bytes)
        check()
    sink.flush()


def is_still_there(work: Work, step: Step) -> bool:
    """Whether what a step that is done had written is there, when an interrupted restore goes on."""
    disk = work.request.disk(step.of)
    return bool(disk.device) or volumes.exists(work.lane, disk.pool, disk.volume)


def record_of(work: Work, step: Step) -> DiskRecord:
    """The disk that a step is for, as the recovery point has it."""
    return next(disk for disk in work.point.manifest.disks if disk.target == step.of)


def restored_disk(record: DiskRecord, disk: DiskTarget, made: MadeSure) -> RestoredDisk:
    """A disk of the point in the volume or device that was made sure of for it."""
    return RestoredDisk(
        target=record.target,
        path=made.path,
        format=disk.format,
        size_bytes=record.size_bytes,
        data_bytes=record.data_bytes,
        map_root=record.map_root,
        block=made.block,
    )


def _image_of(work: Work, step: Step, record: DiskRecord) -> MadeSure:
    disk = work.request.disk(step.of)
    if disk.device:
        return MadeSure(disk.device, existed=work.resumed, block=True)
    if work.request.through_libvirt:
        # What was half written cannot be read there, and so not be recognised.
        volumes.delete(work.lane, disk.pool, disk.volume)
    return volumes.make_sure(work.lane, disk.pool, disk.volume, disk.format, record.size_bytes)


def sink_of(work: Work, path: str, image_format: str, *, keep: bool = False) -> AbstractContextManager[DiskSink]:
    """Where an image of the target is written, by the way that its host offers; `keep` keeps what it held."""
    if work.request.through_libvirt:
        return nullcontext(UploadedDisk(work.lane, path))
    socket = scratch.own_socket(work.lane, work.request.new_uuid)
    return open_sink(path, image_format, socket, work.lane.reach, keep=keep)


def _recognise(
    work: Work, record: DiskRecord, path: str, image_format: str, advance: Callable[[int], None]
) -> Recognised:
    socket = scratch.own_socket(work.lane, work.request.new_uuid)
    with (
        image.serve(path, image_format, socket, reach=work.lane.reach) as address,
        nbd.Client.connect(address, contexts=(nbd.BASE_ALLOCATION,)) as client,
    ):
        return recognise(work.reader, record, client, advance, work.pace.take)


def _wait_until_let_go(work: Work, path: str, image_format: str) -> None:
    """Wait for the server of an earlier run of this restore that was killed: it ends by itself, a moment later."""
    ends_s = time.monotonic() + LET_GO_S
    while True:
        try:
            socket = scratch.own_socket(work.lane, work.request.new_uuid)
            with image.serve(path, image_format, socket, reach=work.lane.reach):
                return
        except image.ImageInUse:
            if time.monotonic() >= ends_s:
                raise
        work.raise_if_to_stop()
        time.sleep(0.2)


def _zero_what_is_wrong(there: Recognised, sink: DiskSink, record: DiskRecord, size: int) -> None:
    for block in there.stale:
        sink.zero(block * size, min(size, record.size_bytes - block * size))


WRITE_KINDS = (StepKind.WRITE, StepKind.VERIFY)
"""Kinds whose steps run side by side, one a disk."""
