"""`newhope repo key`: the passphrases that open an encrypted repository, and its recovery sheet."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.cli.commands import Group
from engine.cli.failures import Usage
from engine.cli.invocation import Invocation
from engine.errors import Conflict, ExitCode

if TYPE_CHECKING:
    from engine import repository
    from engine.repository import Passphrase
    from engine.settings import Repository

NAME = click.argument("name", required=False, metavar="[NAME]")
LONGEST_SHEET_BYTES = 64 * 1024


@click.group("key", cls=Group)
def key() -> None:
    """Keys: the passphrases that open a repository. Each has a name and can be taken away by itself.

    NAME is a repository of the settings (the first one, if none is named), or the path or s3:// address of any.
    `newhope repo init --help` tells where passphrases come from.

    \b
    Examples:
      newhope repo key list vault
      newhope repo key add vault --key anna              one more passphrase, asked for twice
      newhope repo key remove vault --key anna           that passphrase opens it no longer
      newhope repo key export vault --to sheet.txt       the recovery sheet: print it, put it into a safe
      newhope repo key add vault --key new --from-sheet sheet.txt     when every passphrase is lost
    """


@key.command("list")
@NAME
@click.pass_obj
def list_keys(invocation: Invocation, name: str | None) -> None:
    """The keys of a repository, oldest first."""
    from engine.cli import printing
    from engine.cli.documents import plain
    from engine.cli.opened_repository import open_named
    from engine.cli.table import Column
    from engine.cli.wording import local

    with open_named(lambda: invocation.settings, name) as repository:
        _refuse_plain(repository)
        keys = repository.keys()
    if invocation.json:
        printing.show_json({"keys": [plain(each) for each in keys]})
        return
    rows = [(each.name, each.id, local(each.created)) for each in keys]
    printing.show_table((Column("KEY", gives_way=True), Column("ID"), Column("SINCE")), rows)


@key.command()
@NAME
@click.option("--key", "key_name", required=True, metavar="KEY", help="Its name: who has it, or where it is kept.")
@click.option(
    "--new-passphrase-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The new passphrase, on one line. [default: it is asked for twice]",
)
@click.option(
    "--from-sheet",
    metavar="FILE",
    help="Open the repository with its recovery sheet, for when every passphrase is lost. - reads it from the input.",
)
@click.pass_obj
def add(
    invocation: Invocation, name: str | None, key_name: str, new_passphrase_file: Path | None, from_sheet: str | None
) -> None:
    """Let one passphrase more open a repository."""
    from engine.cli import printing
    from engine.cli.documents import plain
    from engine.cli.opened_repository import named, open_named
    from engine.fleet import open_with_sheet

    kept = named(lambda: invocation.settings, name)
    sheet = None if from_sheet is None else _read_sheet(from_sheet)
    with open_named(lambda: invocation.settings, name) if sheet is None else open_with_sheet(kept, sheet) as repository:
        _refuse_plain(repository)
        slot = repository.add_key(key_name, _new_passphrase(kept, new_passphrase_file))
    if invocation.json:
        printing.show_json({"key": plain(slot)})
    else:
        printing.say(f"The key {slot.name} ({slot.id}) opens {kept.name} from now on.")


@key.command()
@NAME
@click.option("--key", "key_name", required=True, metavar="KEY", help="Its name or id.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.pass_obj
def remove(invocation: Invocation, name: str | None, key_name: str, yes: bool) -> ExitCode:
    """Take a passphrase away, never the last one.

    It opens the repository no longer. Whoever used it before may have kept the repository's master key, or a copy of
    the repository with that key still in it: against these only a new repository helps (`newhope repo sync`).
    """
    from engine.cli import printing
    from engine.cli.confirmation import confirm
    from engine.cli.opened_repository import named, open_named
    from engine.fleet import source_that_fails

    kept = named(lambda: invocation.settings, name)
    with open_named(lambda: invocation.settings, name) as repository:
        _refuse_plain(repository)
        if not yes and not confirm(invocation, f"Remove the key {key_name} of the repository {kept.name} for good?"):
            printing.say("Nothing was done.")
            return ExitCode.CANCELLED
        repository.remove_key(key_name)
        left = repository.keys()
    useless = source_that_fails(kept)
    if invocation.json:
        printing.show_json({"removed": key_name, "left": [each.name for each in left], "useless_source": useless})
        return ExitCode.OK
    printing.say(f"The key {key_name} opens {kept.name} no longer. Left: {', '.join(each.name for each in left)}.")
    if useless is not None:
        printing.say(f"! The passphrase from {useless} opens nothing now: jobs will fail until it is exchanged.")
    return ExitCode.OK


@key.command()
@NAME
@click.option(
    "--to", "file", type=click.Path(path_type=Path), metavar="FILE", help="A new file that only you may read."
)
@click.pass_obj
def export(invocation: Invocation, name: str | None, file: Path | None) -> None:
    """Print the recovery sheet, which opens a repository when every passphrase is lost.

    It is as secret as everything in the repository: print it, put it into a safe, delete the file.
    """
    from engine.cli import printing
    from engine.cli.opened_repository import open_named

    with open_named(lambda: invocation.settings, name) as repository:
        _refuse_plain(repository)
        sheet = repository.recovery_sheet()
        shown = repository.name
    if file is not None:
        _write_secret(file, sheet)
    if invocation.json:
        printing.show_json({"sheet": {"text": sheet} if file is None else {"file": str(file.absolute())}})
    elif file is None:
        printing.say(sheet.rstrip("\n"))
    else:
        printing.say(f"The recovery sheet of {shown} is in {file}. Print it, put it into a safe, delete the file.")


def _refuse_plain(repository: repository.Repository) -> None:
    if not repository.encrypted:
        raise Conflict(
            f"The repository {repository.name} is not encrypted, so it has no keys.",
            next_step="make another one that is (`newhope repo init`), and copy its recovery points there.",
        )


def _new_passphrase(kept: Repository, file: Path | None) -> Passphrase:
    from engine.cli.passphrase_prompt import refuse_short, typed_twice
    from engine.fleet.passphrase_sources import read_passphrase_file

    if file is not None:
        return refuse_short(read_passphrase_file(file, "--new-passphrase-file"))
    return typed_twice(kept, "name a file with the new one: --new-passphrase-file FILE.")


def _read_sheet(file: str) -> str:
    try:
        if file == "-":
            content = sys.stdin.buffer.read(LONGEST_SHEET_BYTES)
        else:
            with Path(file).open("rb") as stream:
                content = stream.read(LONGEST_SHEET_BYTES)
    except OSError as error:
        raise Usage(
            f"The recovery sheet {file} cannot be read: {error.strerror}.",
            next_step="name the file that holds the sheet, or type its four lines after --from-sheet -.",
        ) from error
    return content.decode(errors="replace")


def _write_secret(file: Path, text: str) -> None:
    try:
        # Made anew and for its owner alone: nothing is overwritten, and no link is followed to somebody else's file.
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise Conflict(
            f"{file} exists already.", untouched="It was not changed.", next_step="name another file."
        ) from error
    except OSError as error:
        raise Usage(f"{file} cannot be made: {error.strerror}.", next_step="name another file.") from error
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(descriptor)
