"""How files come out of a guest: as one tar, over a channel or through the agent.

1. A process in the guest writes `tar` into a channel that was plugged in for it (`guest_channel`): fast, and nothing is
   written in the guest. Needs a shell and `tar` there, which every Linux has.
2. Where the host cannot plug one, or the guest has no such shell (Windows): `tar` writes a file in the guest, the agent
   reads it piece by piece, at some megabytes a second, and it is removed. Needs `tar` (Windows has it since 1803).

Whatever comes is only handed on; `tar_stream` judges it. What tar said, and whether it succeeded, tells `finish`.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Protocol

from engine.errors import ExitCode, NewhopeError
from engine.hosts import GuestDidNotAnswer, HostLane, agent, guest_channel
from engine.hosts.guest_system import GuestSystem
from engine.hosts.model import Vm
from engine.jobs import JobContext
from engine.settings import GuestFilesSection

STALL_S = 300.0
_ASK_EVERY_S = 0.5
_END_WITHIN_S = 30.0

# $1 is the channel's name, then come patterns to leave out, `--`, and paths. Only GNU tar is told the patterns: what
# others send all the same is left out on this side.
_WRITE_TAR = f"""
name=$1; shift
{guest_channel.FIND_PORT}
if tar --version 2>/dev/null | grep -q 'GNU tar'; then
    echo gnu
    all="--format=posix --xattrs --xattrs-include=* --acls --selinux"
    tar $all -cf /dev/null --files-from /dev/null 2>/dev/null || all="--format=posix"
    exec tar $all -C / -cf - "$@" > "$port"
fi
while [ "$1" != -- ]; do shift; done
shift
exec tar -C / -cf - "$@" > "$port"
"""


class FilesNotRead(NewhopeError):
    """The guest did not give its files."""

    exit_code = ExitCode.GUEST


class GuestFilesSource(Protocol):
    """One tar on its way out of a guest."""

    way: str
    """How, in a few words."""

    def read(self, length: int) -> bytes:
        """Up to so many bytes; none at the end."""
        ...

    def finish(self) -> tuple[str, ...]:
        """What tar had to say, once it ended well. Raises FilesNotRead with its words if it did not."""
        ...


@contextmanager
def reading(
    lane: HostLane, vm: Vm, system: GuestSystem, section: GuestFilesSection, context: JobContext
) -> Generator[GuestFilesSource]:
    """The files that a section names, from inside a running guest; nothing of it stays in VM or guest.

    Raises FilesNotRead, GuestDidNotAnswer, AgentRefused, HostUnreachable, HostRefused.
    """
    if system is GuestSystem.UNIX:
        try:
            with guest_channel.plugged(lane, vm) as name:
                yield from _through_channel(lane, vm, name, section, context)
            return
        except guest_channel.ChannelRefused as refused:
            context.log(f"{refused.what} The agent reads the files, which is slower.", level="warn")
    yield from _through_agent(lane, vm, system, section, context)


def _through_channel(
    lane: HostLane, vm: Vm, name: str, section: GuestFilesSection, context: JobContext
) -> Generator[GuestFilesSource]:
    incoming = guest_channel.Incoming(lane, vm.uuid, name)
    try:
        incoming.open()
        argv = ["/bin/sh", "-c", _WRITE_TAR, "newhope", name]
        patterns = _patterns(section.exclude)
        tar = _Tar(lane, vm, agent.begin(lane, vm.uuid, [*argv, *patterns, "--", *_relative(section.paths)]), context)
        yield _ChannelSource(incoming, tar)
    finally:
        incoming.close()


def _through_agent(
    lane: HostLane, vm: Vm, system: GuestSystem, section: GuestFilesSection, context: JobContext
) -> Generator[GuestFilesSource]:
    unix = system is GuestSystem.UNIX
    name = f"newhope-{secrets.token_hex(6)}.tar"
    # A path in the guest, where root makes it, under a name that nobody can have guessed.
    path = f"/tmp/{name}" if unix else f"C:\\Windows\\Temp\\{name}"  # noqa: S108
    program, root = ("tar", "/") if unix else ("tar.exe", "C:\\")
    paths = _relative(section.paths) if unix else list(section.paths)
    try:
        begun = agent.begin(lane, vm.uuid, [program, "-cf", path, "-C", root, *paths])
        tar = _Tar(lane, vm, begun, context)
        while tar.still_runs():
            time.sleep(_ASK_EVERY_S)
        tar.raise_if_failed()
        yield _FileSource(agent.read_pieces(lane, vm.uuid, path), tar)
    finally:
        removing = ["rm", "-f", path] if unix else ["cmd.exe", "/c", "del", path]
        with suppress(NewhopeError):
            agent.run(lane, vm.uuid, removing)


class _Tar:
    """The process in the guest that writes the archive."""

    def __init__(self, lane: HostLane, vm: Vm, pid: int, context: JobContext) -> None:
        self._lane = lane
        self._vm = vm
        self._pid = pid
        self._context = context
        self._asked_at = 0.0
        self._result: agent.CommandResult | None = None

    def still_runs(self) -> bool:
        """Whether it has not ended; asks the agent now and then. Raises what the agent raises, and when cancelled."""
        self._context.raise_if_cancelled()
        if self._result is None and time.monotonic() - self._asked_at >= _ASK_EVERY_S:
            self._result = agent.ended(self._lane, self._vm.uuid, self._pid)
            self._asked_at = time.monotonic()
        return self._result is None

    def has_more(self) -> bool:
        """The same for whoever waits for what it writes, and who need not wait for one that has failed."""
        runs = self.still_runs()
        self.raise_if_failed()
        return runs

    def raise_if_failed(self) -> None:
        """Raise FilesNotRead with tar's own words if it ended badly."""
        result = self._result
        if result is None or result.exit_code == 0 or (result.exit_code == 1 and b"gnu" in result.stdout):
            return  # GNU tar ends with 1 when a file changed or went while it was read
        words = self.words() or (f"it ended with status {result.exit_code} and no word",)
        raise FilesNotRead(
            f"tar in the guest of {self._vm.name} failed: {'; '.join(words[-3:])[:600].rstrip('.')}.",
            untouched="The guest runs on, and every earlier recovery point is as it was.",
            next_step="Correct the paths in the settings, or see in the guest why it cannot read them.",
        )

    def end(self) -> tuple[str, ...]:
        """Wait for its end; what it said."""
        deadline = time.monotonic() + _END_WITHIN_S
        while self.still_runs():
            if time.monotonic() > deadline:
                raise GuestDidNotAnswer(
                    f"tar in the guest of {self._vm.name} has sent everything and does not end.",
                    next_step=f"Look in the guest what process {self._pid} waits for.",
                    untouched="Every earlier recovery point is as it was.",
                )
            time.sleep(0.05)
        self.raise_if_failed()
        return self.words()

    def words(self) -> tuple[str, ...]:
        """What it wrote for people, without what says nothing."""
        text = self._result.stderr.decode(errors="replace") if self._result is not None else ""
        lines = (line.strip() for line in text.splitlines())
        return tuple(line for line in lines if line and "Removing leading" not in line)


class _ChannelSource:
    way = "through a channel that was plugged in for it"

    def __init__(self, incoming: guest_channel.Incoming, tar: _Tar) -> None:
        self._incoming = incoming
        self._tar = tar

    def read(self, length: int) -> bytes:
        return self._incoming.read(length, self._tar.has_more, stall_s=STALL_S)

    def finish(self) -> tuple[str, ...]:
        # What tar pads its archive with may still be on its way, and it would wait for ever to be rid of it.
        ended = False
        while not ended and self._tar.still_runs():
            ended = not self._incoming.read(
                guest_channel.PIECE_BYTES, self._tar.still_runs, stall_s=_END_WITHIN_S, late_s=0.0
            )
        return self._tar.end()


class _FileSource:
    way = "by its agent, through a file in the guest"

    def __init__(self, pieces: Iterator[bytes], tar: _Tar) -> None:
        self._pieces = pieces
        self._tar = tar
        self._rest = b""

    def read(self, length: int) -> bytes:
        while not self._rest:
            following = next(self._pieces, None)
            if following is None:
                return b""
            self._rest = following
        piece, self._rest = self._rest[:length], self._rest[length:]
        return piece

    def finish(self) -> tuple[str, ...]:
        return self._tar.end()


def _relative(paths: Sequence[str]) -> list[str]:
    """Paths as tar takes them below the root: none can be mistaken for an option."""
    return [f"./{path.strip('/')}" for path in paths]


def _patterns(exclude: Sequence[str]) -> list[str]:
    """The options of GNU tar that mean what `guest_files.left_out` means."""
    return [
        option
        for pattern in exclude
        for option in (
            ("--anchored", f"--exclude=./{pattern.strip('/')}")
            if "/" in pattern
            else ("--no-anchored", f"--exclude={pattern}")
        )
    ]
