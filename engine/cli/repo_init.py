"""`newhope repo init`: create a repository, encrypted unless somebody asks for the opposite."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from engine.cli.commands import Command
from engine.cli.failures import Usage
from engine.cli.invocation import Invocation

if TYPE_CHECKING:
    from engine.repository import Passphrase
    from engine.settings import Repository


@click.command("init", cls=Command)
@click.argument("name", required=False, metavar="[NAME]")
@click.option(
    "--no-encryption",
    "in_the_clear",
    is_flag=True,
    help="Whoever can read its files can read every disk in it, and change them unnoticed. Cannot be changed later.",
)
@click.pass_obj
def create(invocation: Invocation, name: str | None, in_the_clear: bool) -> None:
    """Create the repository NAME of the settings (the first one, if none is named) in its folder or bucket.

    It is encrypted. Its passphrase is asked for twice, unless there is one of these, which are also where every other
    command and every job looks, in this order:

    \b
      passphrase_file       in its section of the settings: a file that only its owner may read
      passphrase_command    there: a program that prints it, as a list of words
      a systemd credential  of the repository's name (LoadCredential= in a service)
      a file                that $NEWHOPE_PASSPHRASE_FILE names
      the terminal          if there is one

    Never touches a folder or a prefix that holds anything, and refuses storage that would let a second object
    take the place of a first.
    """
    from engine.cli import printing
    from engine.cli.command_line import with_config
    from engine.cli.documents import plain
    from engine.fleet import create_repository
    from engine.settings import find_repository

    kept = find_repository(invocation.settings, name)
    passphrase, source = (None, "") if in_the_clear else _passphrase(kept)
    if in_the_clear:
        _refuse_passphrase_for_nothing(kept)
    with create_repository(kept, passphrase) as repository:
        info = repository.info()
        encrypted = repository.encrypted
    if invocation.json:
        printing.show_json({"repository": {**plain(info), "encrypted": encrypted}})
        return
    file = invocation.settings.file
    printing.say(f"Repository {kept.name} is ready in {kept.location}.")
    if encrypted:
        export = with_config(file, f"newhope repo key export {kept.name} --to FILE")
        printing.say(f"It is encrypted, and the passphrase from {source} opens it.")
        printing.say(f"Print its recovery sheet for the day when the passphrase is lost: {export}")
    else:
        printing.say("It is not encrypted: whoever can read its files can read every disk in it.")
    printing.say(f"Next: {with_config(file, 'newhope backup VM')}")


def _passphrase(kept: Repository) -> tuple[Passphrase, str]:
    """The passphrase that the repository is to get, and where it came from, in words for a sentence."""
    from engine.cli.passphrase_prompt import refuse_short, typed_twice
    from engine.fleet.passphrase_sources import given

    found = given(kept)
    if found is not None:
        return refuse_short(found.passphrase), found.source
    otherwise = (
        "name a passphrase_file or passphrase_command for it in the settings (`newhope repo init --help`), or a file in"
        " $NEWHOPE_PASSPHRASE_FILE; or add --no-encryption, and whoever can read its files can read every disk in it."
    )
    return typed_twice(kept, otherwise), "the terminal"


def _refuse_passphrase_for_nothing(kept: Repository) -> None:
    from engine.fleet.passphrase_sources import is_bound_to_be_encrypted

    if is_bound_to_be_encrypted(kept):
        raise Usage(
            f"A passphrase is kept for the repository {kept.name}, and --no-encryption would not use it.",
            next_step="leave --no-encryption out, or remove the passphrase's source from the settings.",
        )
