"""`newhope repo`: create, look at, verify and repair a repository, make room in it, its keys, its storage."""

from __future__ import annotations

import click

from engine.cli.commands import Group
from engine.cli.invocation import Invocation
from engine.cli.repo_init import create
from engine.cli.repo_key import key
from engine.cli.repo_pin import pin, protect, unpin
from engine.cli.repo_prune import prune
from engine.cli.repo_repair import repair
from engine.cli.repo_sync import sync
from engine.cli.repo_test_storage import test_storage
from engine.cli.repo_unlock import unlock
from engine.cli.repo_verify import verify


@click.group("repo", cls=Group)
def repo() -> None:
    """Repositories: where recovery points are kept.

    \b
    Examples:
      newhope repo init            create the first repository of the settings, encrypted
      newhope repo info vault      what it holds and what room is left
      newhope repo verify --full   whether every byte in it is as it was written
      newhope repo repair vault    heal what is damaged, and name what stays lost
      newhope repo prune vault     drop the points that no rule keeps, and free the space
      newhope repo unlock vault    who writes to it, and end what a killed process left
      newhope repo key list        the passphrases that open it, by name
      newhope repo sync vault far  have every recovery point in a second repository too
      newhope repo test-storage    whether its folder or bucket keeps what a repository relies on
    """


repo.add_command(create)
repo.add_command(key)
repo.add_command(verify)
repo.add_command(repair)
repo.add_command(prune)
repo.add_command(pin)
repo.add_command(unpin)
repo.add_command(protect)
repo.add_command(test_storage)
repo.add_command(unlock)
repo.add_command(sync)


@repo.command()
@click.argument("name", required=False, metavar="[NAME]")
@click.pass_obj
def info(invocation: Invocation, name: str | None) -> None:
    """What a repository holds, what room is left, who is at work on it, how long ago it was verified, what it keeps.

    NAME may also be the path or s3:// address of a repository that is in no settings file, for the day when nothing
    else is left.
    """
    from engine.cli import printing, repository_facts
    from engine.cli.documents import plain
    from engine.cli.opened_repository import is_place, open_named
    from engine.cli.wording import local, size

    with open_named(lambda: invocation.settings, name) as repository:
        found = repository.info()
        encrypted = repository.encrypted
        keys = repository.keys() if encrypted else ()
        verification = repository.verification_state()
        guarded = len(repository.guarded())
    if invocation.json:
        described = {**plain(found), "encrypted": encrypted, "keys": [plain(key) for key in keys]}
        printing.show_json({"repository": described, "verification": plain(verification), "guarded": guarded})
        return
    kept = [] if is_place(name) else repository_facts.retention(invocation.settings, guarded)
    sealed = f"encrypted; its keys: {', '.join(key.name for key in keys)}"
    printing.show_facts(
        [
            ("repository", f"{found.name} ({found.id})"),
            ("path", found.path),
            ("format", f"{found.format_version}, blocks of {size(found.block_bytes)}"),
            ("created", local(found.created)),
            ("secrecy", sealed if encrypted else "none: whoever can read its files can read every disk in it"),
            ("holds", f"{found.points} recovery points of {found.vms} VMs"),
            ("stored", f"{size(found.stored_bytes)} in {found.packs} packs, {found.blocks} blocks"),
            ("free", "not told by object storage" if found.free_bytes is None else size(found.free_bytes)),
            *repository_facts.at_work(found),
            *repository_facts.soundness(verification),
            *kept,
        ]
    )
