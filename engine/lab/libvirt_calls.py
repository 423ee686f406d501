"""What the lab asks of libvirt: connections to its hosts, the guest agent, a guest's console.

A connection here lives as long as one `with`; libvirt's objects never leave it.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol, cast
from xml.etree import ElementTree

import libvirt
import libvirt_qemu
import msgspec
from msgspec import Struct

from engine.errors import ExitCode, NewhopeError
from engine.hosts import event_loop

AGENT_CHANNEL = "org.qemu.guest_agent.0"
_POLL_S = 0.1
_ENTER_EVERY_S = 1.0


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
def connection(uri: str) -> Generator[libvirt.virConnect]:
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


def has_agent_channel(domain: libvirt.virDomain) -> bool:
    """Whether the VM has a channel for an agent, answering or not."""
    return _agent_state(domain) is not None


def wait_for_agent(domain: libvirt.virDomain, *, timeout_s: float) -> None:
    """Wait until the guest agent answers; raises `GuestSilent`."""
    deadline = time.monotonic() + timeout_s
    # The channel's state is asked first: every ping that nobody hears is a line in the daemon's log.
    while not (_agent_state(domain) == "connected" and agent_answers(domain)):
        if time.monotonic() > deadline or not domain.isActive():
            raise GuestSilent(
                f"The agent of practice guest {domain.name()} did not answer within {timeout_s:.0f} s.",
                next_step="`newhope lab status` shows the guests; `newhope lab reset` starts afresh.",
            )
        time.sleep(_POLL_S)


def _agent_state(domain: libvirt.virDomain) -> str | None:
    for target in ElementTree.fromstring(domain.XMLDesc(0)).iterfind("devices/channel/target"):  # noqa: S314
        if target.get("name") == AGENT_CHANNEL:
            return target.get("state", "disconnected")
    return None


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


def _ask(domain: libvirt.virDomain, request: Mapping[str, object]) -> str:
    try:
        return libvirt_qemu.qemuAgentCommand(domain, msgspec.json.encode(request).decode(), 10, 0)
    except libvirt.libvirtError as error:
        raise GuestSilent(
            f"The agent of practice guest {domain.name()} did not answer: {error}.",
            next_step="`newhope lab status` shows the guests; `newhope lab reset` starts afresh.",
        ) from error


class _ConsoleDomain(Protocol):
    def openConsole(self, dev_name: str | None, st: object, flags: int) -> int: ...


class _Stream(Protocol):
    def send(self, data: bytes) -> int: ...

    def recv(self, nbytes: int) -> bytes | int:
        """Give what is there; a number (-2) if nothing is there now."""
        ...


def console_answers(opened: libvirt.virConnect, domain: libvirt.virDomain, *, timeout_s: float) -> str | None:
    """Press Enter on the guest's console until it tells its status; None if it stays silent.

    The only way to see whether a guest without an agent has come up.
    """
    stream = opened.newStream(libvirt.VIR_STREAM_NONBLOCK)
    try:
        cast("_ConsoleDomain", domain).openConsole(None, stream, 0)
        return _status_line(stream, time.monotonic() + timeout_s)
    except libvirt.libvirtError:
        return None
    finally:
        stream.abort()


def _status_line(stream: _Stream, deadline: float) -> str | None:
    heard = b""
    pressed = 0.0
    while time.monotonic() < deadline:
        if time.monotonic() - pressed > _ENTER_EVERY_S:
            stream.send(b"\n")
            pressed = time.monotonic()
        piece = stream.recv(4096)
        if isinstance(piece, int):
            time.sleep(_POLL_S / 2)
            continue
        heard = (heard + piece)[-8192:]
        for line in heard.split(b"\n")[:-1]:
            if line.startswith(b'{"vm"'):
                return line.decode(errors="replace").strip()
    return None
