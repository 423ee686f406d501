"""The guest agent (qemu-ga) of a VM: is it there, run a command in the guest, read a file of it.

Its commands are JSON through libvirt (`guest-*`, qemu-ga-ref(7)). Traps, each seen with libvirt 9.0 and QEMU 7.2:

- A silent agent is an error of libvirt only after a time limit, so every command carries one. It holds the host's lane
  meanwhile; whatever takes longer in the guest is therefore polled with short commands.
- One reply of more than a few MiB breaks the channel until the guest's agent is restarted. Files are read in pieces;
  the output of a command comes in one reply, so commands whose output can be large must write a file instead.
- While the file systems are frozen the agent refuses everything but status and thaw.
"""

from __future__ import annotations

import binascii
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec
from msgspec import Struct

from engine.errors import ExitCode, NewhopeError
from engine.hosts.errors import (
    AGENT_UNRESPONSIVE,
    OPERATION_INVALID,
    OPERATION_TIMEOUT,
    GuestDidNotAnswer,
    HostRefused,
    HostUnreachable,
)

if TYPE_CHECKING:
    import libvirt

    from engine.hosts.lane import HostLane

T = TypeVar("T")

PIECE_BYTES = 512 * 1024
"""Of a file, in one reply: the fastest size measured, and well below what breaks the channel."""

WRITTEN_BYTES = 128 * 1024
"""Of a file, in one request: 512 KiB hang the agent."""

_COMMAND_TIMEOUT_S = 5.0
_POLL_FIRST_S = 0.02
_POLL_LONGEST_S = 0.5
_PING_EVERY_S = 0.5
# libvirt first synchronises with the agent, up to 5 s of its own, then gives the command its time.
_LANE_MARGIN_S = 8.0
_ARGUMENT_UNSUPPORTED = 74


class AgentRefused(NewhopeError):
    """The guest agent answered, and said no. `reason` is its own word."""

    exit_code = ExitCode.GUEST

    def __init__(self, vm: str, command: str, reason: str) -> None:
        super().__init__(
            f"The guest agent of {vm} refused {command}: {reason.rstrip('.')}.",
            next_step="Look at the agent in the guest: its log, and which commands its configuration blocks.",
        )
        self.reason = reason


class CommandResult(Struct, frozen=True):
    """What a command in a guest came to."""

    exit_code: int
    """128 + the signal for one that a signal ended, as a shell would say."""
    stdout: bytes
    stderr: bytes
    signal: int | None = None


class _Reply(Struct, Generic[T]):
    value: T = msgspec.field(name="return")


class _Started(Struct):
    pid: int


class _Status(Struct, rename="kebab"):
    exited: bool
    exitcode: int | None = None
    signal: int | None = None
    out_data: str = ""
    err_data: str = ""


class _Piece(Struct, rename="kebab"):
    count: int
    eof: bool
    buf_b64: str = ""


def ping(lane: HostLane, uuid: str, *, timeout_s: float = 5) -> bool:
    """Whether the guest agent answers. Raises HostUnreachable, and MissingOnHost for a VM that is not there."""
    try:
        ask(lane, uuid, "guest-ping", dict[str, object], timeout_s=timeout_s)
    except GuestDidNotAnswer:
        return False
    return True


def wait_until_answering(lane: HostLane, uuid: str, *, timeout_s: float) -> float:
    """Wait for the agent of a VM that is starting; how long that took, in seconds.

    Raises GuestDidNotAnswer after `timeout_s`, or at once when waiting cannot help: the VM is off, or has no channel.
    """
    began = time.monotonic()
    while True:
        left_s = timeout_s - (time.monotonic() - began)
        try:
            ask(lane, uuid, "guest-ping", dict[str, object], timeout_s=min(2.0, max(1.0, left_s)))
            return time.monotonic() - began
        except _GuestCannotAnswer:
            raise
        except GuestDidNotAnswer as silence:
            if timeout_s - (time.monotonic() - began) < _PING_EVERY_S:
                raise GuestDidNotAnswer(
                    f"The guest agent of {_name_of(lane, uuid)} did not answer within {timeout_s:.0f} s.",
                    next_step=silence.next_step,
                    untouched="The VM was left as it is.",
                ) from None
        time.sleep(_PING_EVERY_S)


def run(lane: HostLane, uuid: str, argv: Sequence[str], *, timeout_s: float = 30) -> CommandResult:
    """Run a program in the guest and wait for its end; its output must stay below 2 MiB.

    A program that does not end in time goes on in the guest: the agent cannot stop it.
    Raises GuestDidNotAnswer, AgentRefused (no such program, or the guest is frozen), HostUnreachable.
    """
    pid = begin(lane, uuid, argv)
    deadline = time.monotonic() + timeout_s
    pause_s = _POLL_FIRST_S
    while True:
        result = ended(lane, uuid, pid)
        if result is not None:
            return result
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise GuestDidNotAnswer(
                f"{argv[0]} did not end within {timeout_s:.0f} s in {_name_of(lane, uuid)}.",
                next_step=f"Look in the guest what process {pid} waits for.",
                untouched="It still runs in the guest.",
            )
        time.sleep(min(pause_s, left_s))
        pause_s = min(pause_s * 2, _POLL_LONGEST_S)


def begin(lane: HostLane, uuid: str, argv: Sequence[str]) -> int:
    """Start a program in the guest; its process number there. Whoever asks for its end (`ended`) gets its output once.

    Raises what `run` raises.
    """
    arguments = {"path": argv[0], "arg": list(argv[1:]), "capture-output": True}
    return ask(lane, uuid, "guest-exec", _Started, arguments).pid


def ended(lane: HostLane, uuid: str, pid: int) -> CommandResult | None:
    """What a program that `begin` started came to; None while it runs. Raises what `run` raises."""
    status = ask(lane, uuid, "guest-exec-status", _Status, {"pid": pid})
    if not status.exited:
        return None
    ended_by = status.signal
    return CommandResult(
        exit_code=128 + ended_by if ended_by is not None else status.exitcode or 0,
        stdout=binascii.a2b_base64(status.out_data),
        stderr=binascii.a2b_base64(status.err_data),
        signal=ended_by,
    )


def read_file(lane: HostLane, uuid: str, path: str, *, limit_bytes: int = 64 << 20) -> bytes:
    """The content of a regular file in the guest.

    Raises GuestDidNotAnswer, AgentRefused (no such file, or one longer than `limit_bytes`), HostUnreachable.
    """
    pieces: list[bytes] = []
    length = 0
    for piece in read_pieces(lane, uuid, path):
        pieces.append(piece)
        length += len(piece)
        if length > limit_bytes:
            reason = f"{path} is longer than {limit_bytes} bytes"
            raise AgentRefused(_name_of(lane, uuid), "guest-file-read", reason)
    return b"".join(pieces)


def read_pieces(lane: HostLane, uuid: str, path: str) -> Iterator[bytes]:
    """The content of a regular file in the guest, piece by piece. Raises what `read_file` raises."""
    handle = ask(lane, uuid, "guest-file-open", int, {"path": path, "mode": "rb"})
    try:
        while True:
            piece = ask(lane, uuid, "guest-file-read", _Piece, {"handle": handle, "count": PIECE_BYTES}, timeout_s=30)
            yield binascii.a2b_base64(piece.buf_b64)
            if piece.eof:
                return
    finally:
        _close_file(lane, uuid, handle)


def write_file(lane: HostLane, uuid: str, path: str, pieces: Iterable[bytes]) -> None:
    """Write a file in the guest, in place of one that is there; pieces of any size, two megabytes a second at best.

    Raises GuestDidNotAnswer, AgentRefused (no such folder, no room), HostUnreachable.
    """
    handle = ask(lane, uuid, "guest-file-open", int, {"path": path, "mode": "wb"})
    try:
        for piece in pieces:
            for start in range(0, len(piece), WRITTEN_BYTES):
                text = binascii.b2a_base64(piece[start : start + WRITTEN_BYTES], newline=False).decode()
                written = {"handle": handle, "buf-b64": text}
                ask(lane, uuid, "guest-file-write", dict[str, object], written, timeout_s=30)
    finally:
        _close_file(lane, uuid, handle)


def _close_file(lane: HostLane, uuid: str, handle: int) -> None:
    try:
        ask(lane, uuid, "guest-file-close", dict[str, object], {"handle": handle})
    except (GuestDidNotAnswer, AgentRefused, HostUnreachable):
        # A guest that is gone has closed it; what matters is the error, or the content, that is under way.
        return


class _GuestCannotAnswer(GuestDidNotAnswer):
    """The VM is off or paused, or has no channel for an agent: waiting does not help."""


def ask(
    lane: HostLane,
    uuid: str,
    command: str,
    answer: type[T],
    arguments: Mapping[str, object] | None = None,
    *,
    timeout_s: float = _COMMAND_TIMEOUT_S,
) -> T:
    """Send one command of the agent's protocol; its `return` value as `answer`.

    Raises GuestDidNotAnswer, AgentRefused, HostUnreachable, and MissingOnHost for a VM that is not there.
    """
    message: dict[str, object] = {"execute": command}
    if arguments is not None:
        message["arguments"] = arguments
    text = msgspec.json.encode(message).decode()
    # libvirt counts whole seconds, and takes 0 for "do not wait".
    seconds = max(1, round(timeout_s))

    def send(connection: libvirt.virConnect) -> str:
        import libvirt_qemu

        return libvirt_qemu.qemuAgentCommand(connection.lookupByUUIDString(uuid), text, seconds, 0)

    try:
        reply = lane.run(send, timeout_s=seconds + _LANE_MARGIN_S)
    except HostRefused as refused:
        raise _explain(lane, uuid, command, refused) from None
    return msgspec.json.decode(reply, type=_Reply[answer]).value


def _explain(lane: HostLane, uuid: str, command: str, refused: HostRefused) -> NewhopeError:
    """What libvirt's refusal to carry an agent command means."""
    if refused.code in (AGENT_UNRESPONSIVE, OPERATION_TIMEOUT):
        return GuestDidNotAnswer(
            f"The guest agent of {_name_of(lane, uuid)} does not answer.",
            next_step="See on the VM's console whether it has started and runs qemu-guest-agent.",
            untouched="The VM was left as it is.",
        )
    if refused.code == OPERATION_INVALID:
        return _GuestCannotAnswer(
            f"{_name_of(lane, uuid)} is not running, so its guest agent cannot answer.",
            next_step="Start or resume the VM first.",
            untouched="The VM was left as it is.",
        )
    if refused.code == _ARGUMENT_UNSUPPORTED:
        return _GuestCannotAnswer(
            f"{_name_of(lane, uuid)} has no channel for a guest agent.",
            next_step="Add the channel org.qemu.guest_agent.0 to its definition, and install qemu-guest-agent in it.",
            untouched="The VM was left as it is.",
        )
    if "QEMU agent command" in refused.text or "guest agent" in refused.text.lower():
        return AgentRefused(_name_of(lane, uuid), command, _own_word(refused.text))
    return refused


def _own_word(text: str) -> str:
    """The agent's own reason, without libvirt's frame around it."""
    framed = re.search(r"error was '(.*)'$", text)
    return framed.group(1) if framed else text.rpartition(": ")[2]


def _name_of(lane: HostLane, uuid: str) -> str:
    """The VM's name for a sentence; its UUID if the host does not tell."""
    try:
        return lane.run(lambda connection: connection.lookupByUUIDString(uuid).name())
    except (HostRefused, HostUnreachable):
        return uuid
