"""`newhope serve`: lend a recovery point's disks to any other program."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from engine.cli.commands import Command
from engine.cli.failures import Usage
from engine.cli.invocation import Invocation
from engine.cli.points import REPOSITORY

if TYPE_CHECKING:
    from engine.errors import NewhopeError
    from engine.nbd import Server, TcpAddress
    from engine.repository import DiskRecord, Point


@click.command("serve", cls=Command)
@click.argument("name", metavar="VM@SELECTOR")
@click.option("--disk", "targets", multiple=True, metavar="TARGET", help="Only this disk; may be said again.")
@click.option(
    "--socket",
    "socket_path",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Unix socket to listen on, for you alone. [default: one in newhope's state folder, the same for every call]",
)
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="TCP port of this machine's loopback instead: every user of this machine can then read the disks.",
)
@REPOSITORY
@click.pass_obj
def serve(
    invocation: Invocation,
    name: str,
    targets: tuple[str, ...],
    socket_path: Path | None,
    port: int | None,
    repository: str | None,
) -> None:
    """Export the disks of a recovery point over NBD, read-only, until Ctrl-C: for qemu-img, nbdcopy, QEMU.

    Nothing is restored and no host is asked; the point stays whole meanwhile, whoever drops it. Every block is
    verified before it is handed out; what is damaged is an I/O error for whoever reads it, and is told here. Any
    number of programs may read at the same time. A program that writes needs a copy-on-write image over it
    (`qemu-img create -f qcow2 -F raw -b URI`).

    \b
    Examples:
      newhope serve web@latest
      newhope serve web@-1 --disk vda --socket /run/web.sock
      newhope serve web@latest --port 10809
    """
    from engine.cli.named import find_point
    from engine.cli.opened_repository import open_named
    from engine.cli.points import read_points
    from engine.restore.serving import disks_to_serve, served

    if socket_path is not None and port is not None:
        raise Usage("--socket and --port are two ways to listen.", next_step="say one of them.")
    _, found = read_points(invocation, repository)
    point = find_point(found, name)
    disks = disks_to_serve(point, targets)
    where = _where(point, socket_path, port)
    with (
        open_named(lambda: invocation.settings, repository or point.repository) as opened,
        _until_told_to_end() as end,
        opened.hold(point, f"newhope serve {point.manifest.vm.name}") as unheld,
        served(opened.reader(), disks, where, _tell_damage) as server,
    ):
        if unheld:
            click.echo(f"! The point is not kept from being pruned meanwhile: {unheld}", err=True)
        _announce(invocation, point, disks, server)
        end.wait()
    if not invocation.json:
        from engine.cli import printing

        printing.say("Ended. Nothing was changed.")


def _where(point: Point, socket_path: Path | None, port: int | None) -> Path | TcpAddress:
    from engine.nbd import TcpAddress
    from engine.settings import default_state

    if port is not None:
        return TcpAddress("127.0.0.1", port)
    if socket_path is not None:
        return socket_path.absolute()
    # The same path for the same point: a program whose server was killed finds the next one there.
    folder = default_state() / "serve"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder / f"{point.id[:16]}.sock"


@contextmanager
def _until_told_to_end() -> Generator[threading.Event]:
    """Set by Ctrl-C, a closed terminal, and `kill`: all of them end it in order."""
    end = threading.Event()
    before = {
        number: signal.signal(number, lambda _number, _frame: end.set())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield end
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell_damage(target: str, reason: NewhopeError) -> None:
    click.echo(f"! {target}: {reason.what} Whoever reads there gets an I/O error. {reason.next_step}", err=True)


def _announce(invocation: Invocation, point: Point, disks: tuple[DiskRecord, ...], server: Server) -> None:
    import shlex

    from engine.cli import printing
    from engine.cli.table import Column
    from engine.cli.wording import local, size

    vm = point.manifest.vm.name
    uris = [server.address.uri(disk.target) for disk in disks]
    if invocation.json:
        rows = [
            {"target": disk.target, "size_bytes": disk.size_bytes, "uri": uri}
            for disk, uri in zip(disks, uris, strict=True)
        ]
        printing.show_json({"serving": {"vm": vm, "point": point.id, "repository": point.repository, "disks": rows}})
        return
    printing.say(f"{vm}@{point.id[:8]} of {local(point.manifest.moment)}, from {point.repository}: served read-only.")
    printing.say("Ctrl-C ends it.")
    printing.say()
    columns = (Column("DISK"), Column("SIZE", right=True), Column("URI"))
    printing.show_table(
        columns, [(disk.target, size(disk.size_bytes), uri) for disk, uri in zip(disks, uris, strict=True)]
    )
    uri = shlex.quote(uris[0])
    target = disks[0].target
    printing.say()
    printing.say("For example:")
    printing.say(f"  nbdcopy {uri} {vm}-{target}.raw")
    printing.say(f"  qemu-img convert -O qcow2 {uri} {vm}-{target}.qcow2")
    printing.say(f"  qemu-img create -f qcow2 -F raw -b {uri} {vm}-{target}-writable.qcow2")
