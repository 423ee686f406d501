"""Look at one host as a backup or restore would find it, without changing anything there."""

from __future__ import annotations

import time

from msgspec import Struct

from engine.errors import NewhopeError
from engine.fleet.host_lacks import Lack, lacks
from engine.hosts import HostLane, HostUnreachable, take_snapshot
from engine.hosts.inventory import first_answer
from engine.hosts.model import HostStatus, Vm, Way
from engine.hosts.scratch import ScratchRoom, room_on


class HostCheck(Struct, frozen=True):
    """How one host is."""

    host: str
    uri: str
    answered_in_s: float | None = None
    """From nothing to libvirt's first answer, logging in included; None for a host that gave none."""
    way: Way | None = None
    libvirt_version: str = ""
    qemu_version: str = ""
    scratch: ScratchRoom | None = None
    """None where its files cannot be looked at."""
    faults: tuple[Lack, ...] = ()
    """What keeps backups or restores from it, each with what to do."""
    limits: tuple[Lack, ...] = ()
    """What the way to it does not bring: no fault, as long as nobody needs it."""


def examine_host(lane: HostLane) -> tuple[HostCheck, tuple[Vm, ...]]:
    """Look at a host, and list its VMs. One that does not answer is a check with that fault, never an error."""
    host = lane.host
    began_s = time.monotonic()
    try:
        first_answer(lane)
        answered_in_s = time.monotonic() - began_s
        scratch = room_on(lane)
    except HostUnreachable as error:
        return HostCheck(
            host.name, host.uri, faults=(Lack(f"it does not answer: {error.reason}", error.next_step),)
        ), ()
    except NewhopeError as error:
        return HostCheck(host.name, host.uri, faults=(Lack(_clause(error.what), error.next_step),)), ()
    snapshot = take_snapshot(lane)
    facts = snapshot.facts
    if snapshot.status is not HostStatus.ONLINE or facts is None:
        fault = Lack(f"it stopped answering: {snapshot.reason}", snapshot.next_step or f"newhope hosts {host.name}")
        return HostCheck(host.name, host.uri, answered_in_s, faults=(fault,)), ()
    lacking = lacks(host.name, facts)
    troubles = (Lack(_clause(scratch.trouble), scratch.next_step),) if scratch is not None and scratch.trouble else ()
    return HostCheck(
        host.name,
        host.uri,
        answered_in_s,
        facts.way,
        facts.libvirt_version,
        facts.qemu_version,
        scratch,
        faults=(*(lacking if facts.way.has_files else ()), *troubles),
        limits=() if facts.way.has_files else lacking,
    ), snapshot.vms


def not_done(lane: HostLane, within_s: float) -> HostCheck:
    """For a host that has not let itself be looked at in that time."""
    fault = Lack(
        f"it could not be looked at within {within_s:.0f} s",
        "Check that its storage and its libvirt daemon answer.",
    )
    return HostCheck(lane.host.name, lane.host.uri, faults=(fault,))


def _clause(sentence: str) -> str:
    """As a lack is worded: it follows the host's name, and has no full stop."""
    return sentence.removesuffix(".")
