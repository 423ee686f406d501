"""`newhope repo`: create a repository, look at one, verify it, make room in it, test the place where it is kept."""

from __future__ import annotations

from pathlib import Path

import click

from engine.cli.commands import Group
from engine.cli.invocation import Invocation
from engine.cli.repo_pin import pin, protect, unpin
from engine.cli.repo_prune import prune
from engine.cli.repo_sync import sync
from engine.cli.repo_test_storage import test_storage
from engine.cli.repo_verify import verify


@click.group("repo", cls=Group)
def repo() -> None:
    """Repositories: where recovery points are kept.

    \b
    Examples:
      newhope repo init            create the first repository of the settings
      newhope repo info vault      what it holds and what room is left
      newhope repo verify --full   whether every byte in it is as it was written
      newhope repo prune vault     drop the points that no rule keeps, and free the space
      newhope repo sync vault far  have every recovery point in a second repository too
      newhope repo test-storage    whether its folder or bucket keeps what a repository relies on
    """


repo.add_command(verify)
repo.add_command(prune)
repo.add_command(pin)
repo.add_command(unpin)
repo.add_command(protect)
repo.add_command(test_storage)
repo.add_command(sync)


@repo.command("init")
@click.argument("name", required=False, metavar="[NAME]")
@click.pass_obj
def create(invocation: Invocation, name: str | None) -> None:
    """Create the repository NAME of the settings (the first one, if none is named) in its folder or bucket.

    Never touches a folder or a prefix that holds anything, and refuses storage that would let a second object
    take the place of a first.
    """
    from engine.cli import printing
    from engine.cli.documents import plain
    from engine.repository import Repository
    from engine.settings import find_repository

    kept = find_repository(invocation.settings, name)
    with Repository.create(kept.location, name=kept.name) as repository:
        info = repository.info()
    if invocation.json:
        printing.show_json({"repository": plain(info)})
        return
    printing.say(f"Repository {kept.name} is ready in {kept.location}.")
    printing.say("Next: newhope backup VM")


@repo.command()
@click.argument("name", required=False, metavar="[NAME]")
@click.pass_obj
def info(invocation: Invocation, name: str | None) -> None:
    """What a repository holds, what room is left, who writes to it now.

    NAME may also be the path or s3:// address of a repository that is in no settings file, for the day when nothing
    else is left.
    """
    from engine.cli import printing
    from engine.cli.documents import plain
    from engine.cli.wording import local, size
    from engine.repository import Repository
    from engine.settings import find_repository

    if name is not None and "/" in name:
        location, shown = name, Path(name.partition("?")[0]).name
    else:
        kept = find_repository(invocation.settings, name)
        location, shown = kept.location, kept.name
    with Repository.open(location, name=shown) as repository:
        found = repository.info()
    if invocation.json:
        printing.show_json({"repository": plain(found)})
        return
    printing.show_facts(
        [
            ("repository", f"{found.name} ({found.id})"),
            ("path", found.path),
            ("format", f"{found.format_version}, blocks of {size(found.block_bytes)}"),
            ("created", local(found.created)),
            ("holds", f"{found.points} recovery points of {found.vms} VMs"),
            ("stored", f"{size(found.stored_bytes)} in {found.packs} packs, {found.blocks} blocks"),
            ("free", "not told by object storage" if found.free_bytes is None else size(found.free_bytes)),
            ("writers now", str(found.writers)),
        ]
    )
