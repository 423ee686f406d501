"""What the lab asks of libvirt: connections to its hosts, the guest agent, a guest's console.

A connection here lives as long as one `with`; libvirt's objects never leave it.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import libvirt
import libvirt_qemu
import msgspec
from msgspec import Struct

from engine.errors import ExitCode, NewhopeError
from engine.hosts import event_loop

_POLL_S = 0.1


class GuestSilent(NewhopeError):
    """A practice guest did not answer."""

    exit_code = ExitCode.GUEST


class HostSilent(NewhopeError):
    """A practice host's daemon did not answer."""

    exit_code = ExitCode.HOST_UNREACHABLE


class CommandResult(Struct, frozen=True):
    """What a command in a guest left."""

    exit_code: int
    stdout: bytes
    stderr: bytes


@contextmanager
def connection(uri: str) -> Iterator[libvirt.virConnect]:
    """Open a connection to a practice host; raises `HostSilent` if nobody is there."""
    event_loop.ensure_running()
    try:
        opened = libvirt.open(uri)
    except libvirt.libvirtError as error:
        raise HostSilent(
            f"The practice host at {uri} does not answer: {error}.",
            next_step="`newhope lab status` shows which hosts run; `newhope lab heal HOST` starts one.",
        ) from error
    try:
        yield opened
    finally:
        opened.close()


def answers(uri: str) -> bool:
    """Whether a daemon answers at `uri`."""
    try:
        with connection(uri) as opened:
            opened.getHostname()
    except (HostSilent, libvirt.libvirtError):
        return False
    return True


def agent_answers(domain: libvirt.virDomain, *, timeout_s: int = 2) -> bool:
    """Whether the guest agent answers a ping now."""
    try:
        libvirt_qemu.qemuAgentCommand(domain, '{"execute":"guest-ping"}', timeout_s, 0)
    except libvirt.libvirtError:
        return False
    return True


def wait_for_agent(domain: libvirt.virDomain, *, timeout_s: float) -> None:
    """Wait until the guest agent answers; raises `GuestSilent`."""
    deadline = time.monotonic() + timeout_s
    while not agent_answers(domain):
        if time.monotonic() > deadline or not domain.isActive():
            raise GuestSilent(
                f"The agent of practice guest {domain.name()} did not answer within {timeout_s:.0f} s.",
                next_step="`newhope lab status` shows the guests; `newhope lab reset` starts afresh.",
            )
        time.sleep(_POLL_S)


class _Started(Struct):
    pid: int


class _StartedReply(Struct):
    returned: _Started = msgspec.field(name="return")


class _Status(Struct):
    exited: bool
    exitcode: int = -1
    out: str = msgspec.field(name="out-data", default="")
    err: str = msgspec.field(name="err-data", default="")


class _StatusReply(Struct):
    returned: _Status = msgspec.field(name="return")


def run_in_guest(domain: libvirt.virDomain, command: Sequence[str], *, timeout_s: float = 30.0) -> CommandResult:
    """Run a command in the guest through its agent and wait for it; raises `GuestSilent`."""
    request = {
        "execute": "guest-exec",
        "arguments": {"path": command[0], "arg": list(command[1:]), "capture-output": True},
    }
    started = msgspec.json.decode(_ask(domain, request), type=_StartedReply).returned
    deadline = time.monotonic() + timeout_s
    while True:
        reply = _ask(domain, {"execute": "guest-exec-status", "arguments": {"pid": started.pid}})
        status = msgspec.json.decode(reply, type=_StatusReply).returned
        if status.exited:
            return CommandResult(status.exitcode, base64.b64decode(status.out), base64.b64decode(status.err))
        if time.monotonic() > deadline:
            raise GuestSilent(
                f"`{' '.join(command)}` in practice guest {domain.name()} did not end within {timeout_s:.0f} s.",
                next_step="`newhope lab status` shows whether the guest still answers.",
            )
        time.sleep(_POLL_S)


def _ask(domain: libvirt.virDomain, request: dict[str, object]) -> str:
    try:
        return libvirt_qemu.qemuAgentCommand(domain, msgspec.json.encode(request).decode(), 10, 0)
    except libvirt.libvirtError as error:
        raise GuestSilent(
            f"The agent of practice guest {domain.name()} did not answer: {error}.",
            next_step="`newhope lab status` shows the guests; `newhope lab reset` starts afresh.",
        ) from error


def console_answers(opened: libvirt.virConnect, domain: libvirt.virDomain, *, timeout_s: float) -> str | None:
    """Press Enter on the guest's console until it tells its status; None if it stays silent.

    The only way to see whether a guest without an agent has come up.
    """
    stream = opened.newStream(libvirt.VIR_STREAM_NONBLOCK)
    domain.openConsole(None, stream, 0)
    try:
        deadline = time.monotonic() + timeout_s
        heard = b""
        while time.monotonic() < deadline:
            stream.send(b"\n")
            pressed = time.monotonic()
            while time.monotonic() < pressed + 1.0:
                # The binding answers -2 for "nothing there now", which its documentation calls bytes.
                piece: bytes | int = stream.recv(4096)
                if isinstance(piece, bytes):
                    heard = (heard + piece)[-8192:]
                    for line in heard.split(b"\n")[:-1]:
                        if line.startswith(b'{"vm"'):
                            return line.decode(errors="replace").strip()
                else:
                    time.sleep(_POLL_S / 2)
        return None
    except libvirt.libvirtError:
        return None
    finally:
        stream.abort()
