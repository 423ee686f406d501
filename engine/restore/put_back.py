"""Files of a recovery point put back into a running guest, through its agent.

1. A process in the guest unpacks what it is sent into a folder of its own beside the place: nothing is seen yet.
2. Only when all of it is there, each file is moved to its place; what had its name, with another content, is moved
   aside first, with a suffix that says when, and stays. Folders that are there stay and get the files.
3. The folder is removed, whatever came of it. What was moved and what was put aside is told.

The bytes come over a channel that is plugged in for it (`guest_channel`); where the host cannot plug one, the agent
writes them into a file in the guest first. Needs a shell and `tar` in the guest.
"""

from __future__ import annotations

import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from engine.disk_files import FileSystemUnreadable
from engine.errors import Conflict, ExitCode, NewhopeError, NotFound
from engine.file_entry import FileEntry, FileKind, shown
from engine.fleet import format_bytes, open_repository
from engine.hosts import (
    GuestDidNotAnswer,
    HostLane,
    HostLanes,
    agent,
    find_vm,
    guest_channel,
    require_snapshot,
)
from engine.hosts.guest_system import GuestSystem, system_of
from engine.hosts.model import AgentState, Vm, VmState
from engine.hosts.tar_stream import END, archive_bytes, header_of
from engine.jobs import JobContext
from engine.jobs.pace import Pace
from engine.point_files import OpenedFiles, Piece, Place, PointFiles, below, open_files, plain_path
from engine.settings import Settings, find_repository

_LOOK = "look at the VM and its agent"
_SEND = "put the files back"
_READER_WITHIN_S = 30.0
_END_WITHIN_S = 600.0
_STALL_S = 60.0
_LOOK_S = 0.2
_ZEROES = bytes(1 << 20)

# $1 channel or empty, $2 file or empty, $3 bytes, $4 folder, $5 suffix. mv keeps owner, mode and times within one file
# system, so the files are unpacked beside their place.
_UNPACK = (
    """
name=$1 file=$2 bytes=$3 base=$4 suffix=$5
mkdir -p "$base" && stage=$(mktemp -d "$base/.newhope-XXXXXX") || exit 91
trap 'rm -rf "$stage"; [ -z "$file" ] || rm -f "$file"' EXIT
options=
if tar --version 2>/dev/null | grep -q 'GNU tar'; then
    options="--xattrs --xattrs-include=* --acls --selinux"
    tar $options -cf /dev/null --files-from /dev/null 2>/dev/null || options=
fi
if [ -n "$name" ]; then
"""
    + guest_channel.FIND_PORT
    + """
    # What is sent must be read to its end, also when it cannot be unpacked: the agent's own channel would stop too.
    head -c "$bytes" < "$port" | { tar $options -C "$stage" -xpf - && exit; cat > /dev/null; exit 1; } || exit 92
else
    tar $options -C "$stage" -xpf "$file" || exit 92
fi
moved=0
told=0
put() {
    if [ -d "$1" ] && [ ! -L "$1" ] && [ -d "$2" ] && [ ! -L "$2" ]; then
        for each in "$1"/* "$1"/.[!.]* "$1"/..?*; do
            if [ -e "$each" ] || [ -L "$each" ]; then put "$each" "$2/${each##*/}" || return 1; fi
        done
    else
        if [ -f "$1" ] && [ -f "$2" ] && [ ! -L "$1" ] && [ ! -L "$2" ] && cmp -s "$1" "$2"; then
            :  # the same content: nothing is lost by putting this one in its place
        elif [ -e "$2" ] || [ -L "$2" ]; then
            mv "$2" "$2$suffix" || return 1
            told=$((told + 1))
            [ $told -gt 100 ] || echo "$2$suffix"
        fi
        mv "$1" "$2" || return 1
        moved=$((moved + 1))
    fi
}
for top in "$stage"/* "$stage"/.[!.]* "$stage"/..?*; do
    if [ -e "$top" ] || [ -L "$top" ]; then put "$top" "${base%/}/${top##*/}" || exit 93; fi
done
"""
)
_WHERE_IT_FAILED = {
    90: "the channel did not appear in the guest, and nothing was changed there",
    91: "the folder could not be written, and nothing was changed there",
    92: "the files could not be unpacked, and nothing was changed there",
    93: "moving them to their places stopped halfway; what was moved aside has the suffix",
}


class PutBackFailed(NewhopeError):
    """The guest did not take the files."""

    exit_code = ExitCode.GUEST


class PutBackRequest(Struct, frozen=True):
    """Files to put back, decided in every detail: the specification of its job."""

    repository: str
    vm_uuid: str
    vm: str
    host: str
    point_id: str
    path: str
    """In the point, or on its volume."""
    as_path: str
    """Absolute path in the guest that it gets."""
    suffix: str
    """Of what is moved aside."""
    volume: str = ""
    """Of a point of disks: `vda2`."""


class PutBackPlan(Struct, frozen=True):
    """What is shown before."""

    request: PutBackRequest
    files: int
    size_bytes: int
    steps: tuple[str, ...]


class PutBackReport(Struct, frozen=True):
    """What came of it."""

    files: int
    size_bytes: int
    aside: tuple[str, ...]
    """What had its name before, under the name that it has now; the first hundred."""


def suffix_now() -> str:
    """The suffix of what is moved aside now."""
    return f".before-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"


def lock_of_put_back(request: PutBackRequest) -> str:
    """At most one at a time works inside a guest: it would get between the other's files."""
    return f"guest-files:{request.vm_uuid}"


def own_place(opened: OpenedFiles, place: Place) -> str:
    """Where a running guest has what is at a place of its recovery point. Raises NotFound where only the guest knows.

    Other volumes than the one that it starts from are mounted somewhere below that.
    """
    volume = next((each for each in opened.volumes() if each.name == place.volume), None)
    if volume is None or not volume.root:
        raise NotFound(
            f"Where {place.volume} is mounted in the running guest is not known here.",
            next_step="Say where it belongs: --as /srv/data/report.txt.",
        )
    return f"/{place.path.decode(errors='surrogateescape')}"


def plan_put_back(files: PointFiles, vm: Vm, request: PutBackRequest) -> PutBackPlan:
    """What will be done. Raises NotFound, and Conflict or GuestDidNotAnswer where the guest cannot be asked now.

    Raises FileSystemUnreadable, RepositoryDamaged where some of it cannot be read.
    """
    refuse_unreachable_guest(vm)
    found = _renamed(files, request)
    size_bytes = sum(entry.size_bytes for _, entry in found.entries)
    count = sum(entry.kind is not FileKind.FOLDER for _, entry in found.entries)
    what = f"{count} file{'' if count == 1 else 's'}, {format_bytes(size_bytes)}"
    left_out = (f"leave out devices, FIFOs and sockets: {found.left_out}",) if found.left_out else ()
    return PutBackPlan(
        request,
        count,
        size_bytes,
        (
            f"send {what}, into a new folder beside {request.as_path} in {vm.name}",
            f"move what has one of their names and another content aside, as NAME{request.suffix}",
            "move each to its place, with its owner, mode and time",
            *left_out,
        ),
    )


def refuse_unreachable_guest(vm: Vm) -> None:
    """Raise if the guest cannot be asked: it is not running, or its agent is not there."""
    if vm.state is not VmState.RUNNING:
        raise Conflict(
            f"{vm.name} on {vm.host} is {vm.state.value}; files go into a running guest.",
            next_step="Start it first, or write them to this machine: newhope files POINT PATH --get DEST.",
        )
    if vm.agent is not AgentState.CONNECTED:
        raise GuestDidNotAnswer(
            f"The guest agent of {vm.name} on {vm.host} is not there, and files go through it.",
            next_step="Install and start qemu-guest-agent in it, or write them here: newhope files ... --get DEST.",
        )


def put_back(settings: Settings, request: PutBackRequest, context: JobContext) -> PutBackReport:
    """Put the files back. Raises a `NewhopeError` that says how far it came."""
    context.plan([_LOOK, _SEND])
    kept = find_repository(settings, request.repository)
    with HostLanes(settings) as lanes, open_repository(kept) as repository:
        lane = lanes[request.host]
        with context.step(_LOOK):
            vm = _look(lane, request)
            for done in guest_channel.clear_leftovers(lane, vm):
                context.log(done, level="warn")
            if system_of(lane, vm.uuid) is GuestSystem.WINDOWS:
                raise PutBackFailed(
                    f"{vm.name} runs Windows: files are put back by a shell, which it has not.",
                    next_step="Write them to this machine (newhope files ... --get) and copy them over.",
                )
            point = repository.point(request.vm_uuid, request.point_id)
        with open_files(repository, point) as opened:
            # The process that looks into disks knows a volume only after it looked.
            opened.volumes()
            files = opened.on(request.volume)
            found = _renamed(files, request)
            entries = found.entries
            with context.step(_SEND, total_bytes=sum(entry.size_bytes for _, entry in entries)) as step:
                pieces = _archive(files, entries, step.advance, Pace(context))
                length = sum(archive_bytes(entry) for _, entry in entries) + len(END)
                aside = _send(lane, vm, (found.base, request.suffix), length, pieces, context)
    for each in aside:
        context.log(f"moved aside: {each}")
    files_put = sum(entry.kind is not FileKind.FOLDER for _, entry in entries)
    return PutBackReport(files_put, sum(entry.size_bytes for _, entry in entries), aside)


def _look(lane: HostLane, request: PutBackRequest) -> Vm:
    snapshot = require_snapshot(lane, untouched=f"{request.vm} is as it was.")
    vm = find_vm(snapshot, request.vm_uuid)
    refuse_unreachable_guest(vm)
    return vm


def _split(request: PutBackRequest) -> tuple[str, bytes]:
    """The folder in the guest, and the name in it. Raises NotFound."""
    path = plain_path(request.as_path)
    if not path or not request.as_path.startswith("/"):
        raise NotFound(
            f"{request.as_path!r} is no place for a file in the guest.",
            next_step="Name a file or folder from the root on: newhope files POINT /etc --put-back --as /etc-restored.",
        )
    folder, _, name = path.rpartition(b"/")
    return f"/{folder.decode(errors='surrogateescape')}", name


class _Renamed(NamedTuple):
    """What goes into the archive."""

    base: str
    """The folder in the guest that all goes into."""
    entries: list[tuple[FileEntry, FileEntry]]
    """Every entry beside what it is in the archive; hard links come last."""
    left_out: int


def _renamed(files: PointFiles, request: PutBackRequest) -> _Renamed:
    path = plain_path(request.path)
    base, name = _split(request)
    found = list(below(files, files.stat(path)))
    chosen = {entry.path for entry in found}
    entries: list[tuple[FileEntry, FileEntry]] = []
    for entry in found:
        if entry.kind is FileKind.UNREADABLE:
            raise FileSystemUnreadable(
                f"/{shown(entry.path)} cannot be read: {shown(entry.problem)}",
                untouched="Nothing was changed in the guest.",
                next_step="Put back what is beside it by name.",
            )
        if entry.kind is FileKind.SPECIAL:
            continue
        # What leads to a name that does not come along comes as a file of its own.
        alone = entry.kind is FileKind.HARD_LINK and entry.target not in chosen
        content = files.stat(entry.target) if alone else entry
        target = entry.target
        if entry.kind is FileKind.HARD_LINK:
            target = b"" if alone else name + entry.target[len(path) :]
        written = replace(
            _with_owner(entry),
            path=name + entry.path[len(path) :],
            kind=content.kind,
            size_bytes=content.size_bytes if content.kind is FileKind.FILE else 0,
            target=target,
        )
        entries.append((entry, written))
    ordered = sorted(entries, key=lambda pair: pair[1].kind is FileKind.HARD_LINK)
    return _Renamed(base, ordered, len(found) - len(entries))


def _with_owner(entry: FileEntry) -> FileEntry:
    """Of a file system that knows no owners and modes: what root's files have."""
    if entry.uid >= 0:
        return entry
    usual = 0o755 if entry.kind is FileKind.FOLDER else 0o644
    return replace(entry, uid=0, gid=0, mode=stat.S_IMODE(entry.mode) or usual)


def _archive(
    files: PointFiles,
    entries: Iterable[tuple[FileEntry, FileEntry]],
    advance: Callable[[int], None],
    pace: Pace,
) -> Iterator[bytes]:
    for entry, written in entries:
        pace.wait()
        yield header_of(written)
        if written.size_bytes:
            for piece in files.read(entry):
                for part in _bytes_of(piece):
                    pace.take(len(part))
                    yield part
                    advance(len(part))
            yield bytes(-written.size_bytes % 512)
    yield END


def _bytes_of(piece: Piece) -> Iterator[bytes]:
    if piece.data:
        yield piece.data
        return
    for start in range(0, piece.size_bytes, len(_ZEROES)):
        yield _ZEROES[: piece.size_bytes - start]


def _send(
    lane: HostLane, vm: Vm, place: tuple[str, str], length: int, pieces: Iterator[bytes], context: JobContext
) -> tuple[str, ...]:
    """Send the archive to a process that unpacks it; what that moved aside."""
    argv = ["/bin/sh", "-c", _UNPACK, "newhope"]
    try:
        with guest_channel.plugged(lane, vm) as name:
            outgoing = guest_channel.Outgoing(lane, vm.uuid, name)
            try:
                outgoing.open()
                unpacking = _Unpacking(lane, vm, agent.begin(lane, vm.uuid, [*argv, name, "", str(length), *place]))
                if guest_channel.wait_for_reader(lane, vm.uuid, name, unpacking.runs, timeout_s=_READER_WITHIN_S):
                    outgoing.send(pieces, unpacking.runs, stall_s=_STALL_S)
                return unpacking.outcome()
            finally:
                outgoing.close()
    except guest_channel.ChannelRefused as refused:
        context.log(f"{refused.what} The agent writes the files, which is slower.", level="warn")
    file = f"/tmp/newhope-{secrets.token_hex(6)}.tar"  # noqa: S108 (in the guest, where root makes it)
    try:
        agent.write_file(lane, vm.uuid, file, pieces)
        return _Unpacking(lane, vm, agent.begin(lane, vm.uuid, [*argv, "", file, "0", *place])).outcome()
    except BaseException:
        with suppress(NewhopeError):
            agent.run(lane, vm.uuid, ["rm", "-f", file])
        raise


class _Unpacking:
    """The process in the guest that unpacks the files and moves them to their places."""

    def __init__(self, lane: HostLane, vm: Vm, pid: int) -> None:
        self._lane = lane
        self._vm = vm
        self._pid = pid
        self._result: agent.CommandResult | None = None

    def runs(self) -> bool:
        """Whether it has not ended. Raises what the agent raises."""
        if self._result is None:
            self._result = agent.ended(self._lane, self._vm.uuid, self._pid)
        return self._result is None

    def outcome(self) -> tuple[str, ...]:
        """Wait for its end; what it moved aside. Raises PutBackFailed, GuestDidNotAnswer."""
        deadline = time.monotonic() + _END_WITHIN_S
        while self.runs():
            if time.monotonic() > deadline:
                raise GuestDidNotAnswer(
                    f"The process that puts the files back in {self._vm.name} does not end.",
                    next_step=f"Look in the guest what process {self._pid} waits for.",
                    untouched="What had one of their names is still there, under its name or with the suffix.",
                )
            time.sleep(_LOOK_S)
        result = self._result
        if result is None or result.exit_code:
            status = result.exit_code if result is not None else -1
            where = _WHERE_IT_FAILED.get(status, f"status {status}")
            words = " ".join((result.stderr if result is not None else b"").decode(errors="replace").split())[-400:]
            raise PutBackFailed(
                f"The files were not put back in {self._vm.name}: {where}{': ' + words.rstrip('.') if words else ''}.",
                untouched="Nothing was deleted in the guest.",
                next_step="Correct it in the guest, then do it again.",
            )
        return tuple(result.stdout.decode(errors="replace").splitlines())
