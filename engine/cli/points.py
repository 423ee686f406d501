"""`newhope points`: recovery points. They are read from the repositories alone; no host has to be up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from engine.cli.commands import Group
from engine.cli.invocation import Invocation

if TYPE_CHECKING:
    from engine.fleet import RepositoryView
    from engine.repository import Point

REPOSITORY = click.option(
    "--repository", metavar="NAME", help="Only this one: its name, or a path or s3:// address that no settings name."
)


@click.group("points", cls=Group, default="list")
def points() -> None:
    """Recovery points: everything needed to bring a VM back as it was at one moment.

    A recovery point is named VM@latest, VM@-1 (the one before), VM@2026-11-22T08:13 (local time, as far as it is
    needed), or by the first digits of its id.

    \b
    Examples:
      newhope points                    all, newest first
      newhope points web                those of one VM
      newhope points show web@latest    one in full
    """


@points.command("list")
@click.argument("vm", required=False, metavar="[VM]")
@REPOSITORY
@click.option("-n", "--limit", default=0, type=click.IntRange(0), help="Only so many.")
@click.pass_obj
def list_points(invocation: Invocation, vm: str | None, repository: str | None, limit: int) -> None:
    """The recovery points, newest first. Those made by the method `guest` hold files of a guest, no VM."""
    from engine.cli import printing
    from engine.cli.documents import of_point
    from engine.cli.named import of_vm
    from engine.errors import NotFound
    from engine.repository import one_of_each

    views, found = read_points(invocation, repository)
    if vm is not None:
        found = of_vm(found, vm)
        if not found:
            raise NotFound(f"VM {vm} has no recovery point.", next_step=f"make one: `newhope backup {vm}`.")
    if limit:
        named = {(each.manifest.vm.uuid, each.original_id) for each in one_of_each(found)[:limit]}
        found = tuple(each for each in found if (each.manifest.vm.uuid, each.original_id) in named)
    if invocation.json:
        printing.show_json({"points": [of_point(point) for point in found]})
        return
    if found:
        _show(found)
    else:
        printing.say("There is no recovery point yet. `newhope backup VM` makes one.")
    for view in views:
        if not view.reachable:
            printing.say(f"! repository {view.name} cannot be read: {view.reason}")
        for damage in view.damaged:
            printing.say(f"! repository {view.name}: {damage}")


@points.command()
@click.argument("name", metavar="VM@SELECTOR")
@REPOSITORY
@click.pass_obj
def show(invocation: Invocation, name: str, repository: str | None) -> None:
    """One recovery point: its moment, what the guest knew of it, its disks and files."""
    from engine.cli import printing
    from engine.cli.documents import of_point
    from engine.cli.named import find_point

    point = find_point(read_points(invocation, repository)[1], name)
    if invocation.json:
        printing.show_json({"point": of_point(point)})
        return
    _show_one(point)


def read_points(invocation: Invocation, repository: str | None) -> tuple[tuple[RepositoryView, ...], tuple[Point, ...]]:
    """All recovery points of the repositories that can be read, newest first; raises if none can."""
    from engine.cli.named import refuse_without_repository
    from engine.cli.opened_repository import named
    from engine.cli.passphrase_prompt import ask_for_what_is_missing
    from engine.fleet import look_into_repository

    # Asking for the first one raises where there is none.
    first = named(lambda: invocation.settings, repository)
    wanted = invocation.settings.repositories if repository is None else (first,)
    ask_for_what_is_missing(wanted)
    with invocation.patience("reading repositories"):
        looked = [look_into_repository(each) for each in wanted]
    views = tuple(view for view, _ in looked)
    refuse_without_repository(views)
    found = [point for _, several in looked for point in several]
    return views, tuple(sorted(found, key=lambda point: point.manifest.moment, reverse=True))


def _show(found: tuple[Point, ...]) -> None:
    from engine.cli import printing
    from engine.cli.table import Column
    from engine.cli.wording import local, since, size
    from engine.repository import one_of_each

    homes: dict[tuple[str, str], list[str]] = {}
    for point in found:
        homes.setdefault((point.manifest.vm.uuid, point.original_id), []).append(point.repository)
    columns = (
        Column("ID"),
        Column("VM", gives_way=True),
        Column("MOMENT"),
        Column("AGE", right=True),
        Column("HOW"),
        Column("GUEST"),
        Column("SIZE", right=True),
        Column("IN", gives_way=True),
    )
    rows = [
        (
            point.id[:8],
            point.manifest.vm.name,
            local(point.manifest.moment)[:16],
            since(point.manifest.moment),
            point.manifest.method,
            _guest(point),
            size(point.size_bytes),
            ",".join(homes[point.manifest.vm.uuid, point.original_id]),
        )
        for point in one_of_each(found)
    ]
    printing.show_table(columns, rows)


def _guest(point: Point) -> str:
    return {"crash": "crash", "filesystem": "frozen", "off": "off", "files": "files"}.get(
        point.manifest.consistency.value, "?"
    )


def _show_one(point: Point) -> None:
    from engine.cli import printing
    from engine.cli.table import Column
    from engine.cli.wording import consistency, local, since, size

    manifest = point.manifest
    vm = manifest.vm
    facts = [
        ("point", f"{vm.name}@{point.id} in {point.repository}"),
        ("moment", f"{local(manifest.moment)}, {since(manifest.moment)} ago"),
        ("consistency", f"{consistency(manifest.consistency.value)}: {manifest.consistency_note}"),
        ("method", manifest.method + (f", {manifest.downtime_s:.1f} s of downtime" if manifest.downtime_s else "")),
        ("vm", f"{vm.name} ({vm.uuid}) on {vm.host}"),
        (
            "hardware",
            f"{vm.vcpus} CPUs, {size(vm.memory_bytes)}, {vm.arch} {vm.machine}, {vm.virt_type}, {vm.firmware}",
        ),
        ("networks", ", ".join(nic.removesuffix(":") for nic in vm.nics) or "none"),
        ("to restore", size(point.size_bytes)),
        ("read", f"{size(manifest.read_bytes)}, of which new in the repository {size(manifest.new_bytes)}"),
        ("written by", f"{manifest.writer}, finished {local(manifest.finished)}"),
    ]
    if manifest.origin:
        facts.insert(1, ("copy of", f"{vm.name}@{manifest.origin.point}, made in another repository"))
    printing.show_facts(facts)
    printing.say()
    disks = [
        (disk.target, disk.format, size(disk.size_bytes), size(disk.data_bytes), disk.read_reason)
        for disk in manifest.disks
    ]
    disk_columns = (
        Column("DISK"),
        Column("FORMAT"),
        Column("SIZE", right=True),
        Column("DATA", right=True),
        Column("READ", gives_way=True),
    )
    printing.show_table(disk_columns, disks)
    printing.say()
    files = [(file.role, size(file.size_bytes), file.name) for file in manifest.files]
    printing.show_table((Column("FILE"), Column("SIZE", right=True), Column("WAS", gives_way=True)), files)
    printing.say()
    printing.say(f"Bring it back with: newhope restore {vm.name}@{point.id[:8]} --to HOST")
