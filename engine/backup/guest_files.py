"""Make a recovery point of files from inside a running guest, through its agent.

1. Look at the VM: it runs, its agent answers; unplug what a dead process left.
2. Open the repository and take a writer's lease.
3. Run the commands that come before. One that fails ends it here.
4. Read the files as one tar (`guest_reading`), judge it, and store each file by itself where the point before had it.
5. Run the commands that come after, whatever came of it.
6. Commit. A failure at any step leaves the guest as it was, but for what its own commands did, and no half point.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import NamedTuple

from msgspec.structs import asdict

from engine.backup.guest_commands import run_after, run_before
from engine.backup.guest_reading import GuestFilesSource, reading
from engine.backup.plan import BackupPlan, Request, refuse_plain
from engine.errors import Conflict, ExitCode, NewhopeError, NotFound
from engine.file_entry import FileEntry
from engine.fleet import facts_of, format_bytes, open_repository
from engine.hosts import GuestDidNotAnswer, HostLane, HostLanes, find_vm, guest_channel, require_snapshot
from engine.hosts.guest_system import GuestSystem, system_of
from engine.hosts.model import AgentState, Vm, VmState
from engine.hosts.tar_stream import TarUnsound, read_entries
from engine.jobs import JobContext, StepHandle
from engine.repository import (
    Consistency,
    GuestCommand,
    GuestContentWriter,
    GuestEntry,
    GuestFiles,
    Point,
    PointKind,
    Repository,
    RepositoryDamaged,
    Writer,
    of_kind,
    read_listing,
)
from engine.settings import GuestFilesSection, Settings, find_repository, guest_files_for

METHOD = "guest"
MOST_ENTRIES = 2_000_000
_KEPT_NOTES = 50
_LOOK = "look at the VM and its agent"
_BEFORE = "run the commands before"
_READ = "read the files"
_AFTER = "run the commands after"
_COMMIT = "commit the recovery point"


class GuestSentNonsense(NewhopeError):
    """What came out of the guest is not an archive of files."""

    exit_code = ExitCode.GUEST


class TooMuch(NewhopeError):
    """There is more than the settings allow to keep."""

    exit_code = ExitCode.PREFLIGHT


class _Kept(NamedTuple):
    """What was stored of the files."""

    entries: int
    size_bytes: int
    way: str
    notes: tuple[str, ...]


def section_of(settings: Settings, vm: Vm) -> GuestFilesSection:
    """Which files are kept of a VM. Raises NotFound if no section is for it."""
    section = guest_files_for(settings, vm.name, host=vm.host, tags=vm.tags)
    if section is None:
        raise NotFound(
            f"The settings do not say which files of {vm.name} to keep.",
            next_step=f'Add to {settings.file}: [guest_files.etc] vms = ["{vm.name}"], paths = ["/etc"].',
        )
    return section


def plan_guest_files(settings: Settings, vm: Vm, request: Request) -> BackupPlan:
    """What such a backup will do. Raises NotFound, and Conflict or GuestDidNotAnswer when it cannot be made now."""
    section = section_of(settings, vm)
    refuse_unasked(vm)
    limit = format_bytes(section.limit_bytes)
    return BackupPlan(
        vm=vm.name,
        host=vm.host,
        repository=request.repository,
        method=request.method,
        steps=(
            *(f"run in the guest: {command}" for command in section.before),
            f"read {', '.join(section.paths)} through a channel that is plugged in for it, {limit} at most",
            *(f"leave out {pattern}" for pattern in section.exclude),
            *(f"run in the guest, whatever came of it: {command}" for command in section.after),
            f"commit the recovery point of kind guest to {request.repository}",
        ),
        effects=("none: it keeps running, and its agent runs tar",),
        warnings=("it holds these files alone: no VM comes back from it",),
    )


def refuse_unasked(vm: Vm) -> None:
    """Raise if the guest cannot be asked: it is not running, or its agent is not there."""
    untouched = "Nothing was done with it, and its earlier recovery points are as they were."
    if vm.state is not VmState.RUNNING:
        raise Conflict(
            f"{vm.name} on {vm.host} is {vm.state.value}; files come out of a running guest.",
            untouched=untouched,
            next_step=f"Start it, or back up its disks: newhope backup {vm.name}.",
        )
    if vm.agent is not AgentState.CONNECTED:
        what = "has no channel for a guest agent" if vm.agent is AgentState.ABSENT else "has an agent that is silent"
        raise GuestDidNotAnswer(
            f"{vm.name} on {vm.host} {what}, and its files come through the agent.",
            untouched=untouched,
            next_step="Install and start qemu-guest-agent in it; newhope check tells for which VMs it is missing.",
        )


def make_guest_point(settings: Settings, request: Request, context: JobContext) -> Point:
    """Keep the files of one guest. Raises a `NewhopeError`; then no recovery point was made."""
    kept = find_repository(settings, request.repository)
    with HostLanes(settings) as lanes:
        lane = lanes[request.host]
        vm = _look(lane, request)
        section = section_of(settings, vm)
        context.plan(
            [_LOOK, *([_BEFORE] if section.before else []), _READ, *([_AFTER] if section.after else []), _COMMIT]
        )
        with context.step(_LOOK):
            refuse_unasked(vm)
            for done in guest_channel.clear_leftovers(lane, vm):
                context.log(done, level="warn")
            system = system_of(lane, vm.uuid)
            repository = open_repository(kept)
        with repository:
            refuse_plain(vm, request, kept, sealed=repository.encrypted)
            with repository.writer(f"files of {vm.name}") as writer:
                return _make(lane, vm, system, section, repository, writer, context)


def _make(
    lane: HostLane,
    vm: Vm,
    system: GuestSystem,
    section: GuestFilesSection,
    repository: Repository,
    writer: Writer,
    context: JobContext,
) -> Point:
    content = GuestContentWriter(writer, _entries_before(repository, vm, section, context))
    after: tuple[GuestCommand, ...] = ()
    before: tuple[GuestCommand, ...] = ()
    try:
        if section.before:
            with context.step(_BEFORE):
                before = run_before(lane, vm, system, section.before, section.time_limit_s, context)
        moment = datetime.now(UTC)
        with context.step(_READ) as step, reading(lane, vm, system, section, context) as source:
            found = _store(source, content, vm, section, step, context)
    except BaseException:
        run_after(lane, vm, system, section.after, section.time_limit_s, context)
        raise
    if section.after:
        with context.step(_AFTER):
            after = run_after(lane, vm, system, section.after, section.time_limit_s, context)
    with context.step(_COMMIT):
        point = _commit(vm, section, moment, found, (*before, *after), content, writer)
    context.log(f"committed as {vm.name}@{point.id} in {repository.name}")
    return point


def _look(lane: HostLane, request: Request) -> Vm:
    snapshot = require_snapshot(lane, untouched=f"{request.vm} and its earlier recovery points are as they were.")
    return find_vm(snapshot, request.vm_uuid)


def _entries_before(
    repository: Repository, vm: Vm, section: GuestFilesSection, context: JobContext
) -> tuple[GuestEntry, ...]:
    """What the newest such point holds: where files are to stay. One that cannot be read only costs room."""
    earlier = [
        point
        for point in of_kind(repository.points(vm.uuid), PointKind.GUEST)
        if point.manifest.guest_files is not None and point.manifest.guest_files.section == section.name
    ]
    if not earlier:
        return ()
    newest = max(earlier, key=lambda point: point.manifest.moment)
    try:
        with repository.reader() as reader:
            return read_listing(reader, newest)
    except RepositoryDamaged as damage:
        context.log(f"stored without regard to the recovery point before: {damage.what}", level="warn")
        return ()


def _store(
    source: GuestFilesSource,
    content: GuestContentWriter,
    vm: Vm,
    section: GuestFilesSection,
    step: StepHandle,
    context: JobContext,
) -> _Kept:
    entries = size_bytes = 0
    try:
        for entry, read in read_entries(source.read):
            context.raise_if_cancelled()
            if not entry.path or left_out(entry.path, section.exclude):
                continue
            entries += 1
            size_bytes += entry.size_bytes
            if size_bytes > section.limit_bytes or entries > MOST_ENTRIES:
                raise _too_much(vm, section, entries)
            content.add(_kept_entry(entry), _counted(read, step))
        words = source.finish()
    except TarUnsound as reason:
        raise GuestSentNonsense(
            f"What came out of the guest of {vm.name} is no archive that can be believed: {reason}.",
            untouched="Nothing of it was kept; the guest runs on, and every earlier recovery point is as it was.",
            next_step="See whether something else writes into its channel, and which tar it has; then try again.",
        ) from None
    step.note(f"{entries} entries, {format_bytes(size_bytes)}")
    for word in words[:_KEPT_NOTES]:
        context.log(f"{vm.name}: {word}", level="warn")
    return _Kept(entries, size_bytes, source.way, words[:_KEPT_NOTES])


def left_out(path: bytes, exclude: Sequence[str]) -> bool:
    """Whether a path, or a folder above it, matches a pattern: a whole path if it has a slash in it, else a name."""
    if not exclude:
        return False
    parts = path.decode(errors="surrogateescape").split("/")
    whole = ["/" + "/".join(parts[: number + 1]) for number in range(len(parts))]
    return any(
        fnmatchcase(each, pattern if "/" not in pattern else "/" + pattern.strip("/"))
        for pattern in exclude
        for each in (whole if "/" in pattern else parts)
    )


def _kept_entry(entry: FileEntry) -> GuestEntry:
    return GuestEntry(**asdict(entry))


def _counted(read: Callable[[int], bytes], step: StepHandle) -> Callable[[int], bytes]:
    def counted(length: int) -> bytes:
        piece = read(length)
        step.advance(len(piece))
        return piece

    return counted


def _too_much(vm: Vm, section: GuestFilesSection, entries: int) -> TooMuch:
    most = f"{MOST_ENTRIES} files" if entries > MOST_ENTRIES else format_bytes(section.limit_bytes)
    return TooMuch(
        f"{', '.join(section.paths)} in {vm.name} hold more than {most}, the limit of [guest_files.{section.name}].",
        untouched="Nothing of it was kept, and every earlier recovery point is as it was.",
        next_step="Exclude what does not matter, or set a higher limit in the settings.",
    )


def _commit(
    vm: Vm,
    section: GuestFilesSection,
    moment: datetime,
    found: _Kept,
    commands: tuple[GuestCommand, ...],
    content: GuestContentWriter,
    writer: Writer,
) -> Point:
    # Dear to import, and needed only here.
    from importlib.metadata import version

    disk, listing = content.finish("all that the settings name")
    return writer.commit(
        vm=facts_of(vm),
        moment=moment,
        method=METHOD,
        consistency=Consistency.FILES,
        consistency_note="its files were read one after the other while it ran",
        disks=(disk,),
        files=(listing,),
        writer=f"newhope {version('newhope')}",
        guest_files=GuestFiles(
            section=section.name,
            paths=section.paths,
            entries=found.entries,
            size_bytes=found.size_bytes,
            way=found.way,
            commands=commands,
            notes=found.notes,
        ),
    )
