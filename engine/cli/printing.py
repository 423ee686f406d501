"""What goes to stdout: tables, sentences, or one JSON document."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence

import click

from engine.cli import table
from engine.cli.table import Cell, Column


def colour_wanted() -> bool:
    """Colour only where somebody looks, and did not say NO_COLOR (empty counts as unset, no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def show_table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> None:
    """Print aligned columns, cut to the screen where there is one."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in table.lines(columns, rows, width=width, colour=colour_wanted()):
        say(line)


def show_facts(facts: Sequence[tuple[str, str]]) -> None:
    """Print labels and values below each other."""
    width = max((len(label) for label, _ in facts), default=0)
    for label, value in facts:
        first, *rest = value.splitlines() or [""]
        say(f"{label:<{width}}  {first}".rstrip())
        for line in rest:
            say(f"{'':<{width}}  {line}")


def say(text: str = "") -> None:
    """Print one line."""
    click.echo(text, color=colour_wanted())


def show_json(document: object) -> None:
    """Print one JSON document."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(document, enc_hook=str), indent=2))


def show_json_line(document: object) -> None:
    """Print one JSON document of a row of many, on one line."""
    import msgspec

    click.echo(msgspec.json.encode(document, enc_hook=str))
