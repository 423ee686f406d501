"""Run a restore exactly as it was planned, and undo it when it cannot be finished."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from engine.errors import ExitCode, NewhopeError
from engine.fleet import CheckState, FitnessCheck, Fleet, open_repository
from engine.hosts import HostLane, HostLanes, agent, power, scratch, take_snapshot, volumes
from engine.hosts.disk_sink import DiskSink, open_sink
from engine.hosts.errors import GuestDidNotAnswer
from engine.hosts.model import Definition, HostFacts
from engine.hosts.rewrite import NetworkChoice, NetworkKind, Rewrite, rewrite
from engine.hosts.volume_upload import UploadedDisk
from engine.jobs import Cancelled, JobContext, StepHandle
from engine.repository import DataRun, DiskRecord, Point, Reader
from engine.restore import step_titles
from engine.restore.leftovers import RestoreNote
from engine.restore.model import DoneStep, Request, RestoreReport
from engine.restore.plan import BOOT_FILES, command_of, image_format, planned_steps, volume_name
from engine.restore.preflight import preflight
from engine.restore.report import as_markdown
from engine.restore.salvage import Lost, file_or_none, warning
from engine.settings import Settings, find_repository

AGENT_TIMEOUT_S = 300.0


class PreflightFailed(NewhopeError):
    """The target host cannot take the VM as it is now."""

    exit_code = ExitCode.PREFLIGHT


def run(settings: Settings, request: Request, context: JobContext) -> RestoreReport:
    """Restore as a decided request says. Raises a `NewhopeError` after undoing what was begun."""
    kept = find_repository(settings, request.repository)
    started = datetime.now(UTC)
    with (
        HostLanes(settings) as lanes,
        open_repository(kept) as repository,
    ):
        point = repository.point(request.vm_uuid, request.point_id)
        context.plan([step.title for step in planned_steps(point, request)])
        note = RestoreNote(settings.state, request.to_host, request.name)
        restore = _Restore(lanes[request.to_host], point, request, note, context)
        with repository.reader() as reader:
            restore.carry_out(reader)
        report = restore.report(started)
        name = f"{started:%Y%m%dT%H%M%SZ}-{request.new_uuid[:8]}"
        repository.put_record("restores", f"{name}.json", msgspec.json.encode(report))
        repository.put_record("restores", f"{name}.md", as_markdown(report).encode())
        return report


class _Restore:
    """One restore under way: holds the undo of everything it made, newest first."""

    def __init__(self, lane: HostLane, point: Point, request: Request, note: RestoreNote, context: JobContext) -> None:
        self._lane = lane
        self._point = point
        self._request = request
        self._note = note
        self._context = context
        self._done: list[DoneStep] = []
        self._checks: tuple[FitnessCheck, ...] = ()
        self._agent_answered_s: float | None = None
        self._warnings: list[str] = []
        self._lost = Lost()
        self._target: HostFacts | None = None

    def carry_out(self, reader: Reader) -> None:
        """All steps in order; an error or a cancellation undoes them in reverse order and passes on."""
        manifest, request = self._point.manifest, self._request
        with ExitStack() as undo:
            undo.callback(self._note.forget)
            self._step(step_titles.CHECK_TARGET, lambda _: self._check_target())
            paths: dict[str, tuple[str, str]] = {}
            for disk in manifest.disks:

                def write(step: StepHandle, disk: DiskRecord = disk) -> None:
                    paths[disk.target] = self._write_disk(reader, disk, step, undo)

                self._step(step_titles.write_title(disk.target), write, disk.data_bytes)
            boot_paths: dict[str, str] = {}
            if any(file.role in BOOT_FILES for file in manifest.files):
                self._step(step_titles.PUT_BOOT_FILES, lambda _: boot_paths.update(self._put_boot_files(reader, undo)))
            self._step(step_titles.DEFINE, lambda _: self._define(reader, paths, boot_paths, undo))
            self._note.forget()
            if request.start:
                self._step(step_titles.START, lambda _: self._start(undo))
            # From here on the VM is whole: nothing that follows may take it away again.
            undo.pop_all()
        if request.start and manifest.vm.agent:
            try:
                self._step(step_titles.ASK_AGENT, self._ask_agent)
            except Cancelled:
                self._warnings.append("It was cancelled when the VM ran already: the VM was kept, its agent not asked.")

    def report(self, started: datetime) -> RestoreReport:
        """What came of it."""
        manifest, request = self._point.manifest, self._request
        lost = self._lost.ranges()
        return RestoreReport(
            vm=manifest.vm.name,
            restored_as=request.name,
            uuid=request.new_uuid,
            host=request.to_host,
            point=self._point.id,
            moment=manifest.moment,
            started=started,
            finished=datetime.now(UTC),
            operator=request.operator,
            steps=tuple(self._done),
            checks=self._checks,
            size_bytes=self._point.size_bytes,
            agent_answered_s=self._agent_answered_s,
            command=command_of(self._point, request),
            warnings=(*((warning(lost),) if lost else ()), *self._warnings),
            lost=lost,
        )

    def _step(self, title: str, work: Callable[[StepHandle], object], total_bytes: int = 0) -> None:
        begun = time.monotonic()
        with self._context.step(title, total_bytes=total_bytes) as step:
            work(step)
        self._done.append(DoneStep(title, round(time.monotonic() - begun, 3), ""))

    def _check_target(self) -> None:
        for name in self._note.clear_leftovers(self._lane):
            self._context.log(f"took away {name}, which a killed restore of the same name had left", level="warn")
        snapshot = take_snapshot(self._lane)
        self._target = snapshot.facts
        fleet = Fleet(taken_at=snapshot.taken_at, snapshots=(snapshot,), repositories=(), points=(self._point,))
        self._checks = preflight(fleet, self._point, snapshot, self._request)
        failed = [check for check in self._checks if check.state is CheckState.FAIL]
        if failed:
            raise PreflightFailed(
                f"{self._request.name} cannot be restored to {snapshot.host}: "
                + "; ".join(f"{check.name}: {check.evidence}" for check in failed)
                + ".",
                next_step=failed[0].remedy or "choose another host: newhope hosts",
            )

    def _write_disk(self, reader: Reader, disk: DiskRecord, step: StepHandle, undo: ExitStack) -> tuple[str, str]:
        lane, pool = self._lane, self._request.pool
        kind = image_format(self._request, disk)
        name = volume_name(self._request, disk)
        self._note.add(pool, name)
        path = volumes.create(lane, pool, name, kind, disk.size_bytes)
        undo.callback(self._undo, f"volume {name} in pool {pool}", lambda: volumes.delete(lane, pool, name))
        with self._sink(path, kind) as sink:
            lost = self._lost.of_disk(disk.target) if self._request.salvage else None
            write_disk(reader, disk, sink, step.advance, self._context.raise_if_cancelled, lost)
        self._context.log(f"{disk.target} is written to {path} ({kind})")
        return path, kind

    def _sink(self, path: str, kind: str) -> AbstractContextManager[DiskSink]:
        if self._request.through_libvirt:
            return nullcontext(UploadedDisk(self._lane, path))
        socket = scratch.own_socket(self._lane, self._request.new_uuid)
        return open_sink(path, kind, socket, self._lane.reach)

    def _put_boot_files(self, reader: Reader, undo: ExitStack) -> dict[str, str]:
        lane, pool = self._lane, self._request.pool
        paths: dict[str, str] = {}
        for file in self._point.manifest.files:
            if file.role not in BOOT_FILES:
                continue
            content = file_or_none(reader, file, self._warnings) if self._request.salvage else reader.file(file)
            if content is None:
                continue
            name = f"{self._request.name}-{file.role}-{Path(file.name).name}"
            self._note.add(pool, name)
            paths[file.role] = volumes.put_file(lane, pool, name, content)
            undo.callback(self._undo, f"{name} in pool {pool}", lambda name=name: volumes.delete(lane, pool, name))
        return paths

    def _define(
        self, reader: Reader, paths: dict[str, tuple[str, str]], boot_paths: dict[str, str], undo: ExitStack
    ) -> None:
        request = self._request
        inactive = next(file for file in self._point.manifest.files if file.role == "definition-inactive")
        changed = rewrite(
            Definition(live=None, inactive=reader.file(inactive)),
            Rewrite(
                name=request.name,
                uuid=request.new_uuid,
                disk_paths=paths,
                macs=request.new_macs,
                networks=_network_choices(self._point, request),
                nvram_path=boot_paths.get("nvram"),
                kernel_path=boot_paths.get("kernel"),
                initrd_path=boot_paths.get("initrd"),
            ),
            self._target,
        )
        power.define(self._lane, changed)
        self._context.log(f"{request.name} is defined on {request.to_host} with UUID {request.new_uuid}")
        undo.callback(self._undo, f"VM {request.name}", lambda: power.undefine(self._lane, request.new_uuid))

    def _start(self, undo: ExitStack) -> None:
        uuid = self._request.new_uuid
        power.start(self._lane, uuid)
        undo.callback(self._undo, f"running VM {self._request.name}", lambda: power.power_off(self._lane, uuid))

    def _ask_agent(self, step: StepHandle) -> None:
        try:
            waited_s = agent.wait_until_answering(self._lane, self._request.new_uuid, timeout_s=AGENT_TIMEOUT_S)
        except GuestDidNotAnswer as silent:
            self._warnings.append(f"{silent.what} It runs and was kept. {silent.next_step}")
            self._context.log(silent.what, level="warn")
            step.note("silent")
            return
        self._agent_answered_s = round(waited_s, 1)
        self._context.log(f"its guest agent answered after {waited_s:.1f} s")
        step.note(f"answered after {waited_s:.1f} s")

    def _undo(self, what: str, action: Callable[[], object]) -> None:
        try:
            action()
        except NewhopeError as error:
            self._context.log(f"{what} on {self._lane.host.name} is left behind: {error.what}", level="error")
        else:
            self._context.log(f"undone: {what}")


def _network_choices(point: Point, request: Request) -> dict[int, NetworkChoice]:
    """Where each card is plugged in; a card that keeps what it had is not rewritten."""
    plain = {"user": NetworkChoice(NetworkKind.USER), "none": NetworkChoice(NetworkKind.UNPLUGGED)}
    choices: dict[int, NetworkChoice] = {}
    for mapping in request.networks:
        kind, _, source = point.manifest.vm.nics[mapping.nic].partition(":")
        if mapping.to not in (source, kind):
            choices[mapping.nic] = plain.get(mapping.to) or NetworkChoice(NetworkKind.NETWORK, mapping.to)
    return choices


def write_disk(
    reader: Reader,
    disk: DiskRecord,
    sink: DiskSink,
    advance: Callable[[int], None],
    check: Callable[[], None],
    lost: Callable[[DataRun], None] | None = None,
) -> None:
    """Write the data of one disk to a new, empty image, and make it durable; what is not data is zero there already.

    With `lost`, ranges that cannot be read are told, and stay zero too.
    """
    for written_bytes in reader.copy_disk(disk, sink.write, lost=lost):
        advance(written_bytes)
        check()
    sink.flush()
