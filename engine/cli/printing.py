"""What goes to stdout: tables, sentences, or one JSON document."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TextIO

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
    """Print labels and values below each other; long values go on below themselves where there is a screen."""
    width = max((len(label) for label, _ in facts), default=0)
    for label, value in facts:
        first, *rest = folded(value, beside=width + 2) or [""]
        say(f"{label:<{width}}  {first}".rstrip())
        for line in rest:
            say(f"{'':<{width}}  {line}")


def say_below(text: str, *, indent: int) -> None:
    """Print a text under what it belongs to, its lines folded where there is a screen."""
    for line in folded(text, beside=indent):
        say(f"{'':<{indent}}{line}")


def folded(text: str, *, beside: int, stream: TextIO | None = None) -> list[str]:
    """A text in lines that fit on the screen beside so many columns; as it is for pipes and files.

    Commands' words and paths stay in one piece, to be copied.
    """
    lines = text.strip().splitlines()
    if not (stream or sys.stdout).isatty():
        return lines
    width = max(shutil.get_terminal_size().columns - beside, 30)
    pieces = [textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""] for line in lines]
    return [piece for some in pieces for piece in some]


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
