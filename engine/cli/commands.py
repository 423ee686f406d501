"""How commands are found, and what all of them understand wherever it stands: `--config`, `--json`, `--plain`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from msgspec import Struct

from engine.cli.invocation import Invocation


class CommandSource(Struct, frozen=True):
    """Where a command is, and its line in the list of commands: shown without importing it."""

    module: str
    name: str
    short_help: str
    hidden: bool = False


def common_options() -> list[click.Parameter]:
    """The options that every command takes."""
    return [
        click.Option(
            ["--config"],
            type=click.Path(path_type=Path),
            metavar="FILE",
            expose_value=False,
            callback=_remember_config,
            help="Settings file; otherwise $NEWHOPE_CONFIG, otherwise ~/.config/newhope/newhope.toml.",
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            callback=_remember_json,
            help="Answer with one JSON document on stdout, errors included.",
        ),
        click.Option(
            ["--plain"],
            is_flag=True,
            expose_value=False,
            callback=_remember_plain,
            help="Progress as plain lines, no cursor movement. The default where stdout is no terminal.",
        ),
    ]


def _remember_config(context: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    if value is not None:
        context.ensure_object(Invocation).config = value


def _remember_json(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Invocation).json = True


def _remember_plain(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Invocation).plain = True


class Command(click.Command):
    """A command with the common options."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.params += common_options()


class Group(click.Group):
    """A group with the common options. `default` names the command that is meant when none is named."""

    command_class = Command

    def __init__(self, *arguments: Any, default: str | None = None, **options: Any) -> None:
        super().__init__(*arguments, no_args_is_help=default is None, **options)
        self.params += common_options()
        self._default = default

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """`newhope points web` means `newhope points list web`."""
        if self._default is not None and not {"--help", "-h"} & set(args):
            taking_value = {"--config"}
            position = 0
            while position < len(args) and args[position] in {"--config", "--json", "--plain"}:
                position += 2 if args[position] in taking_value else 1
            if position >= len(args) or args[position] not in self.commands:
                args = [*args[:position], self._default, *args[position:]]
        return super().parse_args(ctx, args)


class LazyGroup(Group):
    """A group whose commands are imported when one of them is used, so that `newhope --help` is instant."""

    def __init__(self, *arguments: Any, sources: Mapping[str, CommandSource], **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._sources = sources

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order of the list, which is the order of a first day."""
        return [name for name, source in self._sources.items() if not source.hidden]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        source = self._sources.get(cmd_name)
        if source is None:
            return None
        return getattr(importlib.import_module(source.module), source.name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Name the nearest command when there is none of that name."""
        from difflib import get_close_matches

        name = args[0]
        if name not in self._sources and not name.startswith("-"):
            near = get_close_matches(name, self.list_commands(ctx), n=1)
            hint = f" Did you mean `newhope {near[0]}`?" if near else ""
            raise click.UsageError(f"There is no command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands from the table alone."""
        rows = [(name, self._sources[name].short_help) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
