"""`newhope lab`: practice hosts to learn, drill and test on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.cli.command_line import in_folder
from engine.cli.commands import Group
from engine.cli.invocation import Invocation

if TYPE_CHECKING:
    from engine.cli.table import Cell
    from engine.lab import LabStatus

_FOLDER = click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Folder of the lab; otherwise ~/.local/state/newhope/lab (root: /var/lib/newhope/lab).",
)


@click.group("lab", cls=Group)
def lab() -> None:
    """Practice hosts: real libvirt daemons and small real guests on this machine, without root.

    \b
    Examples:
      newhope lab up               three hosts, five VMs, a repository, and settings for them
      newhope lab break alderaan   a power cut: see what newhope says, and bring its VMs back elsewhere
      newhope lab down             leaves nothing running and nothing behind
    """


@lab.command()
@_FOLDER
@click.pass_obj
def up(invocation: Invocation, folder: Path | None) -> None:
    """Start the lab, or bring back whatever of it does not run."""
    from engine.lab import Lab

    _ready(invocation, Lab.up(folder, tell=_teller(invocation)).status())


@lab.command()
@_FOLDER
@click.pass_obj
def status(invocation: Invocation, folder: Path | None) -> None:
    """Hosts with their processes, VMs with their state, and whether their agents answer."""
    from engine.lab import Lab

    _show(invocation, Lab.open(folder).status())


@lab.command()
@_FOLDER
@click.pass_obj
def down(invocation: Invocation, folder: Path | None) -> None:
    """Stop the lab and remove everything of it."""
    from engine.cli import printing
    from engine.lab import Lab, default_folder

    Lab.remove(folder)
    if invocation.json:
        printing.show_json({"lab": None, "folder": str(folder or default_folder())})
    else:
        printing.say("The lab is gone: no process and no file of it is left.")


@lab.command("break")
@click.argument("host")
@_FOLDER
@click.pass_obj
def break_host(invocation: Invocation, host: str, folder: Path | None) -> None:
    """Cut the power of practice host HOST: its daemon and its VMs die at once."""
    from engine.cli import printing
    from engine.lab import Lab

    practice = Lab.open(folder)
    practice.break_host(host)
    if invocation.json:
        printing.show_json({"lab": practice.status()})
    else:
        printing.say(f"{host} is dead. To bring it back: newhope lab heal {host}{in_folder(folder)}")


@lab.command()
@click.argument("host")
@_FOLDER
@click.pass_obj
def heal(invocation: Invocation, host: str, folder: Path | None) -> None:
    """Start practice host HOST again, with the VMs that ran there."""
    from engine.cli import printing
    from engine.lab import Lab

    practice = Lab.open(folder)
    practice.heal_host(host, tell=_teller(invocation))
    if invocation.json:
        printing.show_json({"lab": practice.status()})


@lab.command()
@_FOLDER
@click.pass_obj
def reset(invocation: Invocation, folder: Path | None) -> None:
    """Throw the lab away, its repository included, and make it anew."""
    from engine.errors import NotFound
    from engine.lab import Lab

    tell = _teller(invocation)
    try:
        Lab.remove(folder)
        tell("The old lab is gone.")
    except NotFound:
        tell("There was no lab yet.")
    _ready(invocation, Lab.up(folder, tell=tell).status())


def _teller(invocation: Invocation) -> Callable[[str], None]:
    began = time.monotonic()

    def tell(text: str) -> None:
        # With --json, stdout belongs to the one document.
        click.echo(f"{time.monotonic() - began:6.1f} s  {text}", err=invocation.json)

    return tell


def _ready(invocation: Invocation, found: LabStatus) -> None:
    from engine.cli import printing

    if invocation.json:
        printing.show_json({"lab": found})
    else:
        printing.say(f"The lab is up. Use it with: newhope --config {found.settings_file}")


def _show(invocation: Invocation, found: LabStatus) -> None:
    from engine.cli import printing, table

    if invocation.json:
        printing.show_json({"lab": found})
        return
    columns = [table.Column(heading) for heading in ("HOST", "STATE", "PID", "VM", "STATE", "AGENT")]
    printing.show_table(columns, _rows(found))
    how = "KVM" if found.acceleration == "kvm" else "emulation"
    printing.say(f"\nGuests run under {how}. Use the lab with: newhope --config {found.settings_file}")


def _rows(found: LabStatus) -> list[list[Cell]]:
    from engine.cli import table

    states = {"running": table.good, "answers": table.good, "down": table.bad, "crashed": table.bad}
    states |= {"silent": table.doubtful, "paused": table.doubtful, "off": table.idle, "none": table.idle}

    def cell(word: str) -> Cell:
        return states.get(word, table.unknown)(word)

    rows: list[list[Cell]] = []
    for host in found.hosts:
        first: list[Cell] = [host.name, cell(host.state), str(host.pid or "")]
        if not host.guests:
            rows.append([*first, "", "", ""])
        for guest in host.guests:
            rows.append([*first, guest.name, cell(guest.state), cell(guest.agent)])
            first = ["", "", ""]
    return rows
