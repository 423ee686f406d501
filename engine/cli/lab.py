"""`newhope lab`: practice hosts to learn, drill and test on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from engine.lab import Lab, LabStatus, default_folder

_DIRECTORY = click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=None,
    help=f"Folder of the lab. [default: {default_folder()}]",
)


@click.group(name="lab")
def lab() -> None:
    """Practice hosts: real libvirt daemons and small real guests on this machine."""


@lab.command()
@_DIRECTORY
def up(folder: Path | None) -> None:
    """Start the lab, or bring back whatever of it does not run."""
    made = Lab.up(folder, tell=_teller())
    click.echo(f"The lab is up. Use it with: newhope --config {made.settings_file}")


@lab.command()
@_DIRECTORY
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(folder: Path | None, as_json: bool) -> None:
    """Show the lab's hosts and VMs."""
    found = Lab.open(folder).status()
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        click.echo("\n".join(_table(found)))


@lab.command()
@_DIRECTORY
def down(folder: Path | None) -> None:
    """Stop the lab and remove everything of it."""
    Lab.remove(folder)
    click.echo("The lab is gone: no process and no file is left.")


@lab.command(name="break")
@click.argument("host")
@_DIRECTORY
def break_host(host: str, folder: Path | None) -> None:
    """Cut a practice host's power: its daemon and VMs die at once."""
    Lab.open(folder).break_host(host)
    click.echo(f"{host} is dead. `newhope lab heal {host}` brings it back.")


@lab.command()
@click.argument("host")
@_DIRECTORY
def heal(host: str, folder: Path | None) -> None:
    """Start a broken practice host again, with the VMs that ran there."""
    Lab.open(folder).heal_host(host, tell=_teller())


@lab.command()
@_DIRECTORY
def reset(folder: Path | None) -> None:
    """Throw the lab away and make it anew."""
    tell = _teller()
    target = folder or default_folder()
    if (target / "lab.json").exists():
        Lab.remove(target)
        tell("The old lab is gone.")
    made = Lab.up(target, tell=tell)
    click.echo(f"The lab is up. Use it with: newhope --config {made.settings_file}")


def _teller() -> Callable[[str], None]:
    began = time.monotonic()

    def tell(text: str) -> None:
        click.echo(f"{time.monotonic() - began:6.1f} s  {text}")

    return tell


def _table(found: LabStatus) -> list[str]:
    rows = [("HOST", "STATE", "PID", "VM", "STATE", "AGENT")]
    for host in found.hosts:
        name, state, pid = host.name, host.state, str(host.pid or "-")
        if not host.guests:
            rows.append((name, state, pid, "-", "-", "-"))
        for guest in host.guests:
            rows.append((name, state, pid, guest.name, guest.state, guest.agent))
            name, state, pid = "", "", ""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*lines, "", f"Settings: {found.settings_file}   guests: {found.acceleration}"]


if __name__ == "__main__":
    lab()
