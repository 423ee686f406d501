"""`newhope init`: a first settings file for this machine."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.cli.commands import Command
from engine.cli.failures import Usage
from engine.cli.invocation import Invocation
from engine.errors import Conflict, NewhopeError

if TYPE_CHECKING:
    from engine.settings import Host, Repository


@click.command("init", cls=Command)
@click.option(
    "--repository",
    "place",
    metavar="PLACE",
    help="Folder or s3:// address where recovery points will be kept, or are already.",
)
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="[NAME=]URI",
    help="A libvirt host: qemu:///system, qemu+ssh://root@kvm01/system. Can be repeated. [default: this machine]",
)
@click.pass_obj
def init(invocation: Invocation, place: str | None, hosts: tuple[str, ...]) -> None:
    """Write a first settings file: this machine or other hosts, one repository, three levels to change.

    Never overwrites a file. A new repository is best on another machine's disks (a network file system, or at least
    another disk): a backup beside its VM dies with it. A repository that is there already is not touched: on an empty
    machine, name it, and every VM in it can be restored.

    \b
    Examples:
      newhope init
      newhope init --repository /mnt/vault --host qemu+ssh://root@kvm01/system
      newhope init --repository "s3://bucket/prefix?endpoint=https://minio.example.org:9000"
    """
    from engine.cli import printing
    from engine.cli.command_line import with_config
    from engine.settings import default_file, named_host, propose, save, to_text

    file = (invocation.config or default_file()).absolute()
    if _exists(file):
        raise Conflict(
            f"{file} exists already.",
            untouched="It was not changed.",
            next_step="edit it, or name another file: `newhope --config FILE init`.",
        )
    named = [named_host(text) for text in hosts]
    _refuse_two_of_a_name(named)
    if not place:
        if not invocation.can_ask:
            raise Usage(
                "There is no terminal to ask at for the repository's place.",
                next_step="name it: `newhope init --repository FOLDER`.",
            )
        place = click.prompt("Folder or s3:// address for recovery points, best on another machine's disks")
    settings = propose(place, hosts=named, file=file)
    save(settings, file)
    if invocation.json:
        printing.show_json({"settings": {"file": str(file), "text": to_text(settings)}})
        return
    printing.say(f"Wrote {file}:")
    printing.say()
    for line in to_text(settings).splitlines():
        printing.say(f"  {line}".rstrip())
    printing.say()
    with invocation.patience("looking at the repository"):
        found, steps = _what_is_there(settings.repositories[0])
    printing.say(f"{found} Next:")
    printing.show_facts([(f"  {with_config(file, command)}", what) for command, what in steps])


def _refuse_two_of_a_name(hosts: Sequence[Host]) -> None:
    names = [host.name for host in hosts]
    for name in names:
        if names.count(name) > 1:
            raise Usage(
                f"Two hosts would be called {name}.",
                next_step="name them yourself: --host one=URI --host two=URI.",
            )


_HOSTS = ("newhope hosts", "asks the hosts, and says what they lack")


def _what_is_there(kept: Repository) -> tuple[str, list[tuple[str, str]]]:
    """What lies at the repository's place now, in a sentence, and the commands that go on from there."""
    from engine.repository import Repository as Opened
    from engine.repository import RepositoryLocked, RepositoryMissing

    ready = [
        _HOSTS,
        ("newhope points", "what the repository holds"),
        ("newhope restore VM@latest", "shows plan and checks, asks, brings it back on the fittest host"),
        ("newhope", "the console"),
    ]
    try:
        Opened.open(kept.location, name=kept.name).close()
    except RepositoryLocked:
        return f"There is a repository in {kept.location}, encrypted: its passphrase is asked for.", ready
    except RepositoryMissing:
        create = (
            "newhope repo init",
            "creates the repository in its place, encrypted: asks for a passphrase, and --help tells"
            "\nwhere jobs from timers can find it (passphrase_file, passphrase_command, ...)",
        )
        doctor = ("newhope doctor", "looks for what this machine lacks")
        expected = "if there should be, is its file system mounted?"
        return f"There is no repository in {kept.location} yet ({expected}).", [create, _HOSTS, doctor]
    except NewhopeError as error:
        look = f"newhope repo info {shlex.quote(kept.name)}"
        found = f"The repository cannot be opened now: {error.what} What helps: {error.next_step}"
        return found, [(look, "after that"), *ready]
    return f"There is a repository in {kept.location}, not encrypted.", ready


def _exists(file: Path) -> bool:
    try:
        mode = os.lstat(file).st_mode
    except OSError:
        return False
    return stat.S_IFMT(mode) != 0
