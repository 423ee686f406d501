"""What the VM of an instant restore hangs on while its disks are not in their place yet, looked at from outside."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from engine.hosts import HostLanes, HostUnreachable, MissingOnHost, disk_move, power
from engine.hosts.model import VmState
from engine.restore import point_server
from engine.restore.journal import Entry, RestoreJournal
from engine.restore.point_server import PointServer
from engine.restore.steps import Step, StepKind
from engine.settings import Settings


class GuestNow(StrEnum):
    """What the guest of an instant restore is doing."""

    RUNS = "runs"
    STOPPED = "stopped"
    """Paused, because a disk could not be read or written."""
    PAUSED = "paused"
    """By somebody."""
    OFF = "off"
    MISSING = "missing"
    UNKNOWN = "unknown"
    """Its host does not answer."""


class Hanging(Struct, frozen=True):
    """A VM on layers over a recovery point."""

    disks: tuple[str, ...]
    """Targets of those that are not in their place."""
    socket: str
    server: PointServer
    guest: GuestNow


def hangs(entry: Entry) -> bool:
    """Whether a VM runs, or may run, on layers of this restore."""
    layers = any(disk.overlay for disk in entry.disks)
    return layers and not entry.phase.over and entry.begun(Step(StepKind.START).key)


def hanging(settings: Settings, entry: Entry) -> Hanging | None:
    """What the VM of a restore hangs on; None for one that hangs on nothing. Asks its host."""
    if entry.serving is None or not hangs(entry):
        return None
    disks = tuple(disk.target for disk in entry.disks if disk.overlay)
    server = point_server.look(RestoreJournal(settings.state), entry.id)
    return Hanging(disks, entry.serving.socket, server, _guest(settings, entry))


def _guest(settings: Settings, entry: Entry) -> GuestNow:
    uuid = entry.request.new_uuid
    try:
        with HostLanes(settings) as lanes:
            lane = lanes[entry.request.to_host]
            if disk_move.stopped_by_error(lane, uuid):
                return GuestNow.STOPPED
            state = power.vm_state(lane, uuid)
    except MissingOnHost:
        return GuestNow.MISSING
    except HostUnreachable:
        return GuestNow.UNKNOWN
    return {VmState.RUNNING: GuestNow.RUNS, VmState.PAUSED: GuestNow.PAUSED}.get(state, GuestNow.OFF)
