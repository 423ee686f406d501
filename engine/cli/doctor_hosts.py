"""What `newhope doctor` says of the configured hosts: how each is, and what dead jobs were at on its VMs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import NamedTuple

from msgspec import Struct

from engine import backup
from engine.backup import Leftover
from engine.cli import printing
from engine.cli.invocation import Invocation
from engine.cli.table import Cell, Column, bad, good
from engine.cli.wording import count, size, took
from engine.doctor import HostCheck, examine_host, not_done
from engine.errors import NewhopeError
from engine.fleet.side_by_side import ask_all
from engine.hosts import HostLane, HostLanes
from engine.hosts.model import Vm
from engine.settings import Settings

LOOK_WITHIN_S = 90.0
"""A host with hundreds of VMs at the end of a slow link takes its time; one that is stuck is not waited for."""


class HostsSeen(Struct, frozen=True):
    """What was seen on all hosts."""

    hosts: tuple[HostCheck, ...]
    leftovers: tuple[Leftover, ...] = ()
    """What dead jobs were at; what only the repositories tell of is for `--repair`."""
    unseen: tuple[str, ...] = ()
    """What could not be looked at, in sentences."""

    @property
    def sound(self) -> bool:
        """Whether there is nothing to be done."""
        return not any(check.faults for check in self.hosts) and all(each.left_alone for each in self.leftovers)


class _HostSeen(NamedTuple):
    check: HostCheck
    vms: tuple[Vm, ...] = ()
    leftovers: tuple[Leftover, ...] = ()
    unseen: tuple[str, ...] = ()


def look_at_hosts(invocation: Invocation) -> HostsSeen:
    """Look at every host of the settings, side by side. A host that does not answer is a check that says so."""
    try:
        settings = invocation.settings
    except NewhopeError as error:
        return HostsSeen((), unseen=(f"No host was looked at. {error.what}",))
    with HostLanes(settings) as lanes, invocation.patience("looking at hosts"):
        seen = ask_all(
            {host.name: partial(_look, lanes[host.name], settings) for host in settings.hosts},
            timeout_s=LOOK_WITHIN_S,
        )
        for host in settings.hosts:
            if host.name not in seen:
                seen[host.name] = _HostSeen(not_done(lanes[host.name], LOOK_WITHIN_S))
        of_no_vm = _of_no_vm(lanes, seen)
    in_order = [seen[host.name] for host in settings.hosts]
    return HostsSeen(
        tuple(each.check for each in in_order),
        (*(leftover for each in in_order for leftover in each.leftovers), *of_no_vm),
        tuple(sentence for each in in_order for sentence in each.unseen),
    )


def _look(lane: HostLane, settings: Settings) -> _HostSeen:
    check, vms = examine_host(lane)
    return _HostSeen(check, vms, *left_on_each(vms, lambda vm: backup.dead_work_on(lane, vm, settings)))


def left_on_each(
    vms: Iterable[Vm], look: Callable[[Vm], Iterable[Leftover]]
) -> tuple[tuple[Leftover, ...], tuple[str, ...]]:
    """What a look at each VM finds, and those that could not be looked at, in sentences."""
    leftovers: list[Leftover] = []
    unseen: list[str] = []
    for vm in vms:
        try:
            leftovers.extend(look(vm))
        except NewhopeError as error:
            unseen.append(f"{vm.name} on {vm.host} could not be looked at: {error.what}")
    return tuple(leftovers), tuple(unseen)


def _of_no_vm(lanes: HostLanes, seen: Mapping[str, _HostSeen]) -> tuple[Leftover, ...]:
    """Files for VMs that no host has; nobody can tell while a host is silent."""
    if any(each.check.way is None for each in seen.values()):
        return ()
    vms = tuple(vm for each in seen.values() for vm in each.vms)
    found = ask_all(
        {name: partial(backup.leftovers_on_host, lanes[name], vms) for name in seen}, timeout_s=LOOK_WITHIN_S
    )
    return tuple(leftover for name in seen for leftover in found.get(name, ()))


def show_hosts(seen: HostsSeen) -> None:
    """A table of the hosts, if there are any, then what is to be done about them."""
    if not seen.hosts:
        _show_leftovers(seen)
        return
    columns = (
        Column("STATE"),
        Column("HOST"),
        Column("ANSWERED IN", right=True),
        Column("WAY", gives_way=True),
        Column("LIBVIRT"),
        Column("QEMU"),
        Column("SCRATCH FREE", right=True),
    )
    printing.say()
    printing.show_table(columns, [_row(check) for check in seen.hosts])
    for check in seen.hosts:
        for lack in (*check.faults, *check.limits):
            printing.say()
            printing.say(f"{check.host}: {lack.what}.")
            printing.say(f"  next: {lack.next_step}")
    _show_leftovers(seen)


def _row(check: HostCheck) -> tuple[Cell, ...]:
    room = check.scratch
    return (
        bad("FAIL") if check.faults else good("OK"),
        check.host,
        took(check.answered_in_s) if check.answered_in_s is not None else "",
        check.way.value if check.way is not None else "",
        check.libvirt_version,
        check.qemu_version,
        size(room.free_bytes) if room is not None and room.free_bytes is not None else "",
    )


def _show_leftovers(seen: HostsSeen) -> None:
    for sentence in seen.unseen:
        printing.say()
        printing.say(f"?  {sentence}")
    if not seen.leftovers:
        return
    printing.say()
    printing.say(f"Dead jobs have left {count(len(seen.leftovers), 'thing')}:")
    for leftover in seen.leftovers:
        printing.say(f"  {leftover.where}: {leftover.what}")
    printing.say("  next: newhope doctor --repair --dry-run")
