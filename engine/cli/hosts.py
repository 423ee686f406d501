"""`newhope hosts`: every configured host, and whether it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from engine.cli.commands import Command
from engine.cli.invocation import Invocation
from engine.errors import ExitCode

if TYPE_CHECKING:
    from engine.cli.table import Cell
    from engine.hosts.model import HostSnapshot


@click.command("hosts", cls=Command)
@click.argument("host", required=False, metavar="[HOST]")
@click.pass_obj
def hosts(invocation: Invocation, host: str | None) -> ExitCode:
    """Hosts: whether they answer, what runs there, what room is left.

    A host that does not answer is a line with its reason; what one lacks for backups and restores is said below. The
    exit status is 4 only when none answers (or the one that was named does not).

    \b
    Examples:
      newhope hosts
      newhope hosts alderaan --json
    """
    from engine.cli import printing
    from engine.cli.documents import plain
    from engine.hosts import HostLanes, take_snapshots
    from engine.hosts.model import HostStatus
    from engine.settings import find_host

    wanted = [find_host(invocation.settings, host)] if host else list(invocation.settings.hosts)
    with HostLanes(invocation.settings) as lanes, invocation.patience("asking hosts"):
        snapshots = take_snapshots([lanes[each.name] for each in wanted])
    silent = [snapshot for snapshot in snapshots if snapshot.status is not HostStatus.ONLINE]
    if invocation.json:
        printing.show_json({"hosts": [plain(snapshot) for snapshot in snapshots]})
    elif not snapshots:
        printing.say(f"No host is configured. Add one to {invocation.settings.file}.")
    else:
        _show(snapshots)
    return ExitCode.HOST_UNREACHABLE if silent and len(silent) == len(snapshots) else ExitCode.OK


def _show(snapshots: tuple[HostSnapshot, ...]) -> None:
    from engine.cli import printing
    from engine.cli.table import Column
    from engine.fleet.host_lacks import lacks

    columns = (
        Column("HOST"),
        Column("STATE"),
        Column("VMS", right=True),
        Column("ON", right=True),
        Column("CPUS", right=True),
        Column("MEM FREE", right=True),
        Column("POOL FREE", right=True),
        Column("ACCEL"),
        Column("QEMU"),
    )
    printing.show_table(columns, [_row(snapshot) for snapshot in snapshots])
    for snapshot in snapshots:
        if snapshot.reason:
            printing.say()
            printing.say(f"{snapshot.host}: {snapshot.reason}")
            printing.say(f"  next: {snapshot.next_step}" if snapshot.next_step else "  next: is the machine up?")
        for lack in lacks(snapshot.host, snapshot.facts) if snapshot.facts else ():
            printing.say()
            printing.say(f"{snapshot.host}: {lack.what}")
            printing.say(f"  next: {lack.next_step}")


def _row(snapshot: HostSnapshot) -> list[Cell]:
    from engine.cli import states
    from engine.cli.wording import size
    from engine.hosts.model import VmState

    state = states.HOST[snapshot.status]
    facts = snapshot.facts
    if facts is None:
        return [snapshot.host, state, "", "", "", "", "", "", ""]
    running = sum(vm.state is VmState.RUNNING for vm in snapshot.vms)
    room = max((pool.available_bytes for pool in snapshot.pools if pool.active), default=None)
    return [
        snapshot.host,
        state,
        str(len(snapshot.vms)),
        str(running),
        str(facts.cpus),
        size(facts.memory_free_bytes),
        size(room) if room is not None else "no pool",
        "kvm" if facts.kvm else "none",
        facts.qemu_version,
    ]
