"""A snapshot of a host: its VMs, pools, networks and facts, as it answers now.

1. Pools, networks and VMs (`vms_of_host`) are read in one piece of work of the host's lane.
2. If that does not end in most of its time, one VM's QEMU may hang, and with it the question that it was asked. The
   lane has left that question behind; the host is read again without asking any QEMU, so that one VM does not take
   its host off the screen.
3. Facts come last and may take longer: a daemon that was just started first tries every QEMU it has, for seconds.
4. A host that does not answer is a snapshot with the reason.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from engine.errors import NewhopeError
from engine.hosts.errors import HostUnreachable
from engine.hosts.facts import read_facts
from engine.hosts.files_of_host import HostFiles
from engine.hosts.lane import HostLane
from engine.hosts.model import HostSnapshot, HostStatus, Network, Pool, Vm
from engine.hosts.names import not_found
from engine.hosts.vms_of_host import read_vms
from engine.hosts.volumes import available_bytes
from engine.hosts.xml_tree import attribute_of, parse, text_of

if TYPE_CHECKING:
    import libvirt

FACTS_TIMEOUT_S = 20.0
_SPARE_S = 0.5
_FIRST_SHARE = 0.7


def take_snapshots(lanes: Iterable[HostLane], *, timeout_s: float = 10.0) -> tuple[HostSnapshot, ...]:
    """Snapshots of all hosts, taken side by side, in the order of `lanes`. Never raises for a host."""
    lanes = tuple(lanes)
    snapshots: dict[int, HostSnapshot] = {}

    def take(number: int) -> None:
        snapshots[number] = take_snapshot(lanes[number], timeout_s=timeout_s)

    threads = [threading.Thread(target=take, args=(number,), daemon=True) for number in range(len(lanes))]
    for thread in threads:
        thread.start()
    # Each bounds itself by its lane's time limit; the sum here is only a second wall.
    deadline = time.monotonic() + timeout_s + FACTS_TIMEOUT_S + _SPARE_S
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return tuple(
        snapshots.get(number) or _offline(lane, _too_slow(lane, timeout_s)) for number, lane in enumerate(lanes)
    )


def take_snapshot(lane: HostLane, *, timeout_s: float = 10.0) -> HostSnapshot:
    """A snapshot of one host; an offline one, with the reason, if it does not answer within `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    try:
        try:
            snapshot = _ask(lane, timeout_s * _FIRST_SHARE, ask_qemu=True)
        except HostUnreachable:
            snapshot = _ask(lane, deadline - time.monotonic(), ask_qemu=False)
        return _with_facts(lane, snapshot, max(deadline - time.monotonic(), FACTS_TIMEOUT_S))
    except NewhopeError as error:
        return _offline(lane, error)
    except Exception as error:
        # What we cannot read on one host must not take the other hosts off the screen.
        return _offline(
            lane,
            HostUnreachable(
                lane.host.name,
                f"newhope could not read its answer ({type(error).__name__}: {error})",
                next_step="This is a defect of newhope: please report it with this sentence.",
            ),
        )


def first_answer(lane: HostLane) -> None:
    """Have the host answer the shortest question there is, opening the connection to it. Raises HostUnreachable."""
    lane.run(lambda connection: connection.getLibVersion(), timeout_s=lane.reach.open_timeout_s)


def require_snapshot(lane: HostLane, *, untouched: str = "Nothing was changed.") -> HostSnapshot:
    """A snapshot of one host; raises HostUnreachable if it does not answer."""
    snapshot = take_snapshot(lane)
    if snapshot.status is not HostStatus.ONLINE:
        raise HostUnreachable(
            lane.host.name,
            snapshot.reason or "no answer",
            untouched=untouched,
            next_step=snapshot.next_step or f"newhope hosts shows when {lane.host.name} answers again.",
        )
    return snapshot


def find_vm(snapshot: HostSnapshot, name_or_uuid: str) -> Vm:
    """The VM of that name or UUID. Raises NotFound with the nearest names, and the host's error if it is offline."""
    if snapshot.status is HostStatus.OFFLINE:
        raise HostUnreachable(
            snapshot.host,
            snapshot.reason or "it is offline",
            next_step=snapshot.next_step or "newhope hosts",
        )
    for vm in snapshot.vms:
        if name_or_uuid in (vm.name, vm.uuid) or name_or_uuid.lower() == vm.uuid:
            return vm
    raise not_found(
        f"VM on host {snapshot.host}",
        name_or_uuid,
        [vm.name for vm in snapshot.vms],
        next_step="See the VMs: newhope vms.",
    )


def _ask(lane: HostLane, timeout_s: float, *, ask_qemu: bool) -> HostSnapshot:
    return lane.run(lambda connection: _read_host(connection, lane, ask_qemu=ask_qemu), timeout_s=timeout_s)


def _with_facts(lane: HostLane, snapshot: HostSnapshot, timeout_s: float) -> HostSnapshot:
    try:
        facts = lane.run(lambda connection: read_facts(connection, lane.reach), timeout_s=timeout_s)
    except NewhopeError as error:
        return msgspec.structs.replace(snapshot, reason=error.what, next_step=error.next_step)
    return msgspec.structs.replace(snapshot, facts=facts)


def _offline(lane: HostLane, error: NewhopeError) -> HostSnapshot:
    return HostSnapshot(
        host=lane.host.name,
        uri=lane.host.uri,
        status=HostStatus.OFFLINE,
        taken_at=datetime.now(UTC),
        reason=error.reason if isinstance(error, HostUnreachable) else error.what,
        next_step=error.next_step,
    )


def _too_slow(lane: HostLane, timeout_s: float) -> HostUnreachable:
    return HostUnreachable(
        lane.host.name,
        f"it did not finish within {timeout_s:.0f} s what it was asked",
        next_step="Check that its libvirt daemon is not stopped or overloaded.",
    )


def _read_host(connection: libvirt.virConnect, lane: HostLane, *, ask_qemu: bool) -> HostSnapshot:
    taken_at = datetime.now(UTC)
    pools = _read_pools(connection, lane.files)
    return HostSnapshot(
        host=lane.host.name,
        uri=lane.host.uri,
        status=HostStatus.ONLINE,
        taken_at=taken_at,
        vms=read_vms(connection, lane.host.name, lane.files, ask_qemu=ask_qemu),
        pools=pools,
        networks=_read_networks(connection),
    )


def _read_pools(connection: libvirt.virConnect, files: HostFiles) -> tuple[Pool, ...]:
    found: list[Pool] = []
    for pool in connection.listAllStoragePools():
        root = parse(pool.XMLDesc())
        capacity = pool.info()[1]
        found.append(
            Pool(
                name=pool.name(),
                kind=root.get("type", ""),
                path=text_of(root, "target/path"),
                active=bool(pool.isActive()),
                capacity_bytes=capacity,
                available_bytes=available_bytes(pool, files),
            )
        )
    return tuple(sorted(found, key=lambda pool: pool.name))


def _read_networks(connection: libvirt.virConnect) -> tuple[Network, ...]:
    found: list[Network] = []
    for network in connection.listAllNetworks():
        root = parse(network.XMLDesc())
        forward = root.find("forward")
        found.append(
            Network(
                name=network.name(),
                active=bool(network.isActive()),
                forward=forward.get("mode", "nat") if forward is not None else "isolated",
                bridge=attribute_of(root, "bridge", "name"),
            )
        )
    return tuple(sorted(found, key=lambda network: network.name))
