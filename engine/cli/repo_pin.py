"""`newhope repo pin|unpin|protect`: which recovery points stay whatever the keep rules say."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from engine.cli.commands import Command
from engine.cli.invocation import Invocation

if TYPE_CHECKING:
    from engine.repository import Guard, Point, Repository

POINT = click.argument("point_name", metavar="VM@SELECTOR")
REPOSITORY = click.option("--repository", metavar="NAME", help="The repository. [default: the first of the settings]")
WHY = click.option("--why", default="no reason given", help="For whoever wonders later why it is still there.")


@click.command("pin", cls=Command)
@POINT
@REPOSITORY
@WHY
@click.pass_obj
def pin(invocation: Invocation, point_name: str, repository: str | None, why: str) -> None:
    """Keep a recovery point until it is unpinned."""
    from engine.jobs import operator_name

    with _opened(invocation, repository, point_name) as (opened, point):
        guard = opened.pin(point, why=why, by=operator_name())
    _tell(invocation, point, guard, "It stays until it is unpinned.")


@click.command("unpin", cls=Command)
@POINT
@REPOSITORY
@click.pass_obj
def unpin(invocation: Invocation, point_name: str, repository: str | None) -> None:
    """Take the pins of a recovery point away. A protection stays until its time."""
    from engine.cli import printing
    from engine.cli.wording import count

    with _opened(invocation, repository, point_name) as (opened, point):
        number = opened.unpin(point)
    if invocation.json:
        printing.show_json({"unpinned": {"vm": point.manifest.vm.name, "id": point.id, "pins": number}})
    else:
        printing.say(f"Took {count(number, 'pin')} away from {point.manifest.vm.name}@{point.id[:8]}.")


@click.command("protect", cls=Command)
@POINT
@click.option("--for", "duration", required=True, metavar="TIME", help="How long from now on, such as 30d or 12h.")
@REPOSITORY
@WHY
@click.pass_obj
def protect(invocation: Invocation, point_name: str, duration: str, repository: str | None, why: str) -> None:
    """Keep a recovery point for a time, whatever anybody asks for. Cannot be taken back, only prolonged."""
    from engine.cli.wording import local
    from engine.jobs import operator_name
    from engine.settings import parse_duration

    until = datetime.now(UTC) + timedelta(seconds=parse_duration(duration))
    with _opened(invocation, repository, point_name) as (opened, point):
        guard = opened.protect(point, until=until, why=why, by=operator_name())
    _tell(invocation, point, guard, f"It stays until {local(until)} at least.")


@contextmanager
def _opened(invocation: Invocation, repository: str | None, point_name: str) -> Generator[tuple[Repository, Point]]:
    from engine.cli.named import find_point
    from engine.cli.opened_repository import open_named

    with open_named(lambda: invocation.settings, repository) as opened:
        yield opened, find_point(opened.points(), point_name)


def _tell(invocation: Invocation, point: Point, guard: Guard, what: str) -> None:
    from engine.cli import printing
    from engine.cli.documents import plain

    if invocation.json:
        printing.show_json({"guard": plain(guard)})
    else:
        printing.say(f"{guard.kind.value.capitalize()} of {point.manifest.vm.name}@{point.id[:8]} is set. {what}")
