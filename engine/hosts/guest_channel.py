"""A channel for bulk data between this machine and the inside of a running guest, plugged in for one transfer.

The agent only controls: its replies must stay small. Bytes go over a virtio-serial port of their own, which libvirt
hands on as a stream, over any connection (`virDomainOpenChannel`).

1. `plugged` hot-plugs the port into the running VM, never into its definition, and takes it away at the end. In the
   guest it is a device whose name stands in `/sys/class/virtio-ports/*/name`; who opens it there is up to the caller.
2. `Incoming` is what a process in the guest writes into it, `Outgoing` what one reads from it. The stream has a lane of
   its own, so that the agent can be asked meanwhile; it is open before the process in the guest begins.
3. A guest that closes its end is not seen here. So whoever reads also looks whether the process still runs.

Traps, each seen with libvirt 9.0 and QEMU 7.2: what is sent while no process in the guest has the port open stops the
whole controller, and so the agent, hence `wait_for_reader`; one process at a time can have the port open.

A port's name says whose it is, `org.newhope.MACHINE-PID-START` (`owner`): `clear_leftovers` unplugs those of dead
processes, and never others.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from engine.errors import NewhopeError
from engine.hosts.errors import NO_DOMAIN, OPERATION_INVALID, GuestDidNotAnswer, HostRefused
from engine.hosts.lane import HostLane
from engine.hosts.model import Vm
from engine.hosts.owner import Owner, is_dead, read_mark, this_process
from engine.hosts.xml_tree import parse, to_bytes

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    import libvirt

PREFIX = "org.newhope."
NO_PORT = 90
FIND_PORT = f"""
tries=0 port=
while [ -z "$port" ]; do
    for entry in /sys/class/virtio-ports/*; do
        [ "$(cat "$entry/name" 2>/dev/null)" = "$name" ] && [ -c "/dev/${{entry##*/}}" ] && port=/dev/${{entry##*/}}
    done
    tries=$((tries + 1))
    [ -n "$port" ] && break
    [ $tries -lt 100 ] || {{ echo "the channel $name did not appear in the guest" >&2; exit {NO_PORT}; }}
    sleep 0.1 2>/dev/null || sleep 1
done
"""
"""Lines for a guest's shell: wait for the channel `$name`, whose device is then `$port`."""
PIECE_BYTES = 256 * 1024
HELD_PIECES = 16
LONGEST_S = 7 * 86400.0
UNPLUG_TIMEOUT_S = 20.0
_MARK = re.compile(r"([0-9a-f]+)-([0-9a-f]+)-([0-9a-f]+)")
_DEVICE_MISSING = 99
_LOOK_S = 0.25
_LATE_S = 10.0
"""What a process wrote before it ended is on its way for less than this, however loaded its host is."""


class ChannelRefused(NewhopeError):
    """The host cannot plug a channel into the VM; there is another way to its files."""


def left_behind(lane: HostLane, vm: Vm) -> tuple[tuple[str, Owner], ...]:
    """The channels that killed processes left in a VM, each with its process. Raises HostUnreachable, MissingOnHost."""
    found: list[tuple[str, Owner]] = []
    for name in _names(lane, vm.uuid):
        mark = _MARK.fullmatch(name.removeprefix(PREFIX))
        owner = read_mark(mark[1], mark[2], mark[3]) if mark else None
        if owner is not None and is_dead(owner, lane):
            found.append((name, owner))
    return tuple(found)


def clear_leftovers(lane: HostLane, vm: Vm) -> tuple[str, ...]:
    """Unplug the channels that killed processes left in a VM; what was done, in sentences."""
    done: list[str] = []
    for name, owner in left_behind(lane, vm):
        unplug(lane, vm.uuid, name)
        done.append(f"Unplugged the channel {name} of {vm.name}, which {owner} had left.")
    return tuple(done)


@contextmanager
def plugged(lane: HostLane, vm: Vm) -> Generator[str]:
    """A channel in the running VM; its name. Raises ChannelRefused, HostUnreachable, MissingOnHost."""
    name = PREFIX + this_process().mark
    try:
        lane.run(partial(_plug, vm_uuid=vm.uuid, name=name), timeout_s=30)
    except HostRefused as refused:
        raise ChannelRefused(
            f"{vm.host} cannot plug a channel into {vm.name}: {refused.text}.",
            next_step="Give the VM a virtio-serial controller with a free port; an agent's channel brings one.",
        ) from None
    try:
        yield name
    finally:
        unplug(lane, vm.uuid, name)


def unplug(lane: HostLane, vm_uuid: str, name: str) -> None:
    """Take a channel out of a VM, and wait until it is gone; one that is not there is none to take out."""
    deadline = time.monotonic() + UNPLUG_TIMEOUT_S
    ask = True
    while lane.run(partial(_still_plugged, vm_uuid=vm_uuid, name=name, ask=ask)):
        ask = False
        if time.monotonic() > deadline:
            raise GuestDidNotAnswer(
                f"The guest does not let go of the channel {name}.",
                next_step="The next backup of its files tries again; a restart of the VM removes it as well.",
                untouched="The VM runs on.",
            )
        time.sleep(0.05)


def wait_for_reader(
    lane: HostLane, vm_uuid: str, name: str, still_runs: Callable[[], bool], *, timeout_s: float
) -> bool:
    """Wait until a process in the guest has the channel open; False if it ended, or did not in time."""
    deadline = time.monotonic() + timeout_s
    while not lane.run(partial(_is_open, vm_uuid=vm_uuid, name=name)):
        if not still_runs() or time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_S)
    return True


class Incoming:
    """What a process in the guest writes into a channel. `read` belongs to one thread."""

    def __init__(self, lane: HostLane, vm_uuid: str, name: str) -> None:
        self._lane = HostLane(lane.host)
        self._vm_uuid = vm_uuid
        self._name = name
        self._pieces: queue.Queue[bytes | BaseException] = queue.Queue(HELD_PIECES)
        self._opened = threading.Event()
        self._closed = False
        self._rest = b""
        self._thread = threading.Thread(target=self._receive, name=f"channel {name}", daemon=True)

    def open(self, *, timeout_s: float = 20.0) -> None:
        """Open the stream, before a process in the guest begins to write. Raises what a lane raises."""
        self._thread.start()
        if not self._opened.wait(timeout_s):
            raise _not_opened(self._name, timeout_s)
        if not self._pieces.empty():
            self._raise_if_failed(self._pieces.queue[0])

    def read(self, length: int, still_runs: Callable[[], bool], *, stall_s: float, late_s: float = _LATE_S) -> bytes:
        """Up to so many bytes; none once the process has ended and nothing came for `late_s` after.

        `still_runs` is asked while nothing comes, and may raise to end the reading. Raises GuestDidNotAnswer when
        nothing comes for `stall_s` from a process that runs.
        """
        if not self._rest:
            self._rest = self._next_piece(still_runs, stall_s, late_s)
        piece, self._rest = self._rest[:length], self._rest[length:]
        return piece

    def close(self) -> None:
        """End the stream. A thread that waits for the guest ends when the channel is unplugged."""
        self._closed = True
        with suppress(queue.Empty):
            while True:
                self._pieces.get_nowait()
        self._lane.begin_close()

    def _next_piece(self, still_runs: Callable[[], bool], stall_s: float, late_s: float) -> bytes:
        stalled_at = time.monotonic() + stall_s
        over_at: float | None = None
        while True:
            try:
                piece = self._pieces.get(timeout=_LOOK_S)
            except queue.Empty:
                now = time.monotonic()
                if over_at is not None:
                    if now > over_at:
                        return b""
                elif not still_runs():
                    over_at = now + late_s
                elif now > stalled_at:
                    raise GuestDidNotAnswer(
                        f"Nothing came out of the guest for {stall_s:.0f} s.",
                        next_step="Look in the guest what the process that reads its files waits for.",
                    ) from None
                continue
            self._raise_if_failed(piece)
            return piece if isinstance(piece, bytes) else b""

    def _raise_if_failed(self, piece: bytes | BaseException) -> None:
        if isinstance(piece, BaseException):
            raise piece

    def _receive(self) -> None:
        try:
            self._lane.run(self._pump, timeout_s=LONGEST_S)
        except BaseException as error:
            self._hand(error)
        finally:
            self._opened.set()

    def _pump(self, connection: libvirt.virConnect) -> None:
        import libvirt

        stream = connection.newStream(0)
        connection.lookupByUUIDString(self._vm_uuid).openChannel(self._name, stream, 0)
        self._opened.set()
        try:
            while not self._closed and (piece := stream.recv(PIECE_BYTES)):
                self._hand(piece)
        finally:
            with suppress(libvirt.libvirtError):
                stream.abort()

    def _hand(self, piece: bytes | BaseException) -> None:
        while not self._closed:
            with suppress(queue.Full):
                self._pieces.put(piece, timeout=_LOOK_S)
                return


class Outgoing:
    """What a process in the guest reads from a channel. `open` before that process begins: it would find no host."""

    def __init__(self, lane: HostLane, vm_uuid: str, name: str) -> None:
        self._host = lane
        self._lane = HostLane(lane.host)
        self._vm_uuid = vm_uuid
        self._name = name
        self._pieces: queue.SimpleQueue[Iterable[bytes]] = queue.SimpleQueue()
        self._opened, self._over = threading.Event(), threading.Event()
        self._failure: BaseException | None = None
        self._offered_at: float | None = None
        """Since when the guest has not taken a piece; None while there is none for it."""
        self._thread = threading.Thread(target=self._run, name=f"channel {name}", daemon=True)

    def open(self, *, timeout_s: float = 20.0) -> None:
        """Open the stream. Raises what a lane raises."""
        self._thread.start()
        if not self._opened.wait(timeout_s):
            raise _not_opened(self._name, timeout_s)
        if self._failure is not None:
            raise self._failure

    def send(self, pieces: Iterable[bytes], still_runs: Callable[[], bool], *, stall_s: float) -> None:
        """Write to a process that has the channel open (`wait_for_reader`), and wait for its end.

        Raises what a lane, `pieces` and `still_runs` raise. The stream stays open until the process has ended: QEMU
        throws away what the guest has not read when it is closed. When the guest does not take a piece for `stall_s`,
        the channel is unplugged, so that its agent is not held up any longer, and GuestDidNotAnswer raised; `pieces`
        may take their time.
        """
        self._pieces.put(pieces)
        while still_runs():
            self._thread.join(_LOOK_S)
            if self._failure is not None:
                raise self._failure
            offered_at = self._offered_at
            if offered_at is not None and time.monotonic() - offered_at > stall_s:
                unplug(self._host, self._vm_uuid, self._name)
                raise GuestDidNotAnswer(
                    f"The guest took nothing from the channel for {stall_s:.0f} s.",
                    next_step="Look in the guest what the process that reads it waits for.",
                    untouched="The VM runs on.",
                )

    def close(self) -> None:
        """End the stream."""
        self._over.set()
        self._pieces.put(())
        self._lane.begin_close()

    def _run(self) -> None:
        try:
            self._lane.run(self._pump, timeout_s=LONGEST_S)
        except BaseException as error:
            self._failure = error
        finally:
            self._opened.set()

    def _pump(self, connection: libvirt.virConnect) -> None:
        import libvirt

        stream = connection.newStream(0)
        connection.lookupByUUIDString(self._vm_uuid).openChannel(self._name, stream, 0)
        self._opened.set()
        try:
            for piece in self._pieces.get():
                view = memoryview(piece)
                while view:
                    self._offered_at = time.monotonic()
                    view = view[stream.send(bytes(view[:PIECE_BYTES])) :]
                    self._offered_at = None
            self._over.wait()
        finally:
            with suppress(libvirt.libvirtError):
                stream.abort()


def _not_opened(name: str, timeout_s: float) -> GuestDidNotAnswer:
    return GuestDidNotAnswer(
        f"The channel {name} could not be opened within {timeout_s:.0f} s.",
        next_step="Check that the host's libvirt daemon is not overloaded, then try again.",
    )


def _names(lane: HostLane, vm_uuid: str) -> tuple[str, ...]:
    def look(connection: libvirt.virConnect) -> tuple[str, ...]:
        domain = connection.lookupByUUIDString(vm_uuid)
        return tuple(name for name, _ in _channels(domain)) if domain.isActive() else ()

    return lane.run(look)


def _channels(domain: libvirt.virDomain) -> list[tuple[str, Element]]:
    """Our channels in the running VM, by name."""
    found: list[tuple[str, Element]] = []
    for channel in parse(domain.XMLDesc(0)).iterfind("devices/channel"):
        target = channel.find("target")
        name = target.get("name", "") if target is not None else ""
        if name.startswith(PREFIX):
            found.append((name, channel))
    return found


def _plug(connection: libvirt.virConnect, *, vm_uuid: str, name: str) -> None:
    import libvirt

    xml = f"<channel type='unix'><source mode='bind'/><target type='virtio' name='{name}'/></channel>"
    connection.lookupByUUIDString(vm_uuid).attachDeviceFlags(xml, libvirt.VIR_DOMAIN_AFFECT_LIVE)


def _still_plugged(connection: libvirt.virConnect, *, vm_uuid: str, name: str, ask: bool) -> bool:
    import libvirt

    try:
        domain = connection.lookupByUUIDString(vm_uuid)
        found = dict(_channels(domain)) if domain.isActive() else {}
        if name in found and ask:
            domain.detachDeviceFlags(to_bytes(found[name]).decode(), libvirt.VIR_DOMAIN_AFFECT_LIVE)
            return True
    except libvirt.libvirtError as error:
        if error.get_error_code() == NO_DOMAIN:
            return False
        # It was switched off, or let go of the device, in between: the next look says so.
        if error.get_error_code() not in (OPERATION_INVALID, _DEVICE_MISSING):
            raise
        return True
    return name in found


def _is_open(connection: libvirt.virConnect, *, vm_uuid: str, name: str) -> bool:
    for found, channel in _channels(connection.lookupByUUIDString(vm_uuid)):
        target = channel.find("target")
        if found == name and target is not None:
            return target.get("state") == "connected"
    return False
