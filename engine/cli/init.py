"""`newhope init`: a first settings file for this machine."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import click

from engine.cli.commands import Command
from engine.cli.failures import Usage
from engine.cli.invocation import Invocation
from engine.errors import Conflict


@click.command("init", cls=Command)
@click.option(
    "--repository", type=click.Path(path_type=Path), metavar="FOLDER", help="Where recovery points will be kept."
)
@click.pass_obj
def init(invocation: Invocation, repository: Path | None) -> None:
    """Write a first settings file: this machine as the only host, one repository, three levels to change.

    Never overwrites a file. The repository is best on another machine's disks (a network file system, or at least
    another disk): a backup beside its VM dies with it.

    \b
    Examples:
      newhope init
      newhope init --repository /mnt/vault/newhope
    """
    from engine.cli import printing
    from engine.cli.command_line import with_config
    from engine.settings import default_file, propose, save, to_text

    file = (invocation.config or default_file()).absolute()
    if _exists(file):
        raise Conflict(
            f"{file} exists already.",
            untouched="It was not changed.",
            next_step="edit it, or name another file: `newhope --config FILE init`.",
        )
    if repository is None:
        if not invocation.can_ask:
            raise Usage(
                "There is no terminal to ask at for the repository's folder.",
                next_step="name it: `newhope init --repository FOLDER`.",
            )
        repository = Path(click.prompt("Folder for recovery points, best on another machine's disks"))
    settings = propose(repository, file=file)
    save(settings, file)
    if invocation.json:
        printing.show_json({"settings": {"file": str(file), "text": to_text(settings)}})
        return
    printing.say(f"Wrote {file}:")
    printing.say()
    for line in to_text(settings).splitlines():
        printing.say(f"  {line}".rstrip())
    printing.say()
    printing.say("Next:")
    printing.show_facts(
        [
            (
                f"  {with_config(file, 'newhope repo init')}",
                "creates the repository in its folder, encrypted: asks for a passphrase, and --help tells"
                "\nwhere jobs from timers can find it (passphrase_file, passphrase_command, ...)",
            ),
            (f"  {with_config(file, 'newhope hosts')}", "asks the host"),
            (f"  {with_config(file, 'newhope doctor')}", "looks for what this machine lacks"),
        ]
    )


def _exists(file: Path) -> bool:
    try:
        mode = os.lstat(file).st_mode
    except OSError:
        return False
    return stat.S_IFMT(mode) != 0
