"""A guest's serial console: the only way to ask one that has no agent, or whose file systems are frozen."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol, cast

from engine.errors import ExitCode, NewhopeError
from engine.hosts import HostLane

if TYPE_CHECKING:
    import libvirt

_ENTER_EVERY_S = 1.0
_POLL_S = 0.05
_LANE_MARGIN_S = 5.0


class ConsoleSilent(NewhopeError):
    """A practice guest did not answer on its console."""

    exit_code = ExitCode.GUEST


class _ConsoleDomain(Protocol):
    def openConsole(self, dev_name: str | None, st: object, flags: int) -> int: ...


class _Stream(Protocol):
    def send(self, data: bytes) -> int: ...

    def recv(self, nbytes: int) -> bytes | int:
        """Give what is there; a number (-2) if nothing is there now."""
        ...


def ask_status(lane: HostLane, uuid: str, *, timeout_s: float) -> str:
    """Press Enter on the guest's console until it tells its status, one JSON object; raises `ConsoleSilent`."""

    def listen(connection: libvirt.virConnect) -> str | None:
        import libvirt

        stream = connection.newStream(libvirt.VIR_STREAM_NONBLOCK)
        domain = connection.lookupByUUIDString(uuid)
        try:
            cast("_ConsoleDomain", domain).openConsole(None, stream, 0)
            return _status_line(stream, time.monotonic() + timeout_s)
        finally:
            stream.abort()

    told = lane.run(listen, timeout_s=timeout_s + _LANE_MARGIN_S)
    if told is None:
        raise ConsoleSilent(
            f"Practice guest {uuid} on {lane.host.name} did not answer on its console within {timeout_s:.0f} s.",
            next_step="`newhope lab status` shows the guests; `newhope lab reset` starts afresh.",
        )
    return told


def _status_line(stream: _Stream, deadline: float) -> str | None:
    heard = b""
    pressed = 0.0
    while time.monotonic() < deadline:
        if time.monotonic() - pressed > _ENTER_EVERY_S:
            stream.send(b"\n")
            pressed = time.monotonic()
        piece = stream.recv(4096)
        if isinstance(piece, int):
            time.sleep(_POLL_S)
            continue
        heard = (heard + piece)[-8192:]
        for line in heard.split(b"\n")[:-1]:
            if line.startswith(b'{"vm"'):
                return line.decode(errors="replace").strip()
    return None
