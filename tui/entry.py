"""The `newhope` command: alone it opens the console, with anything else it is the command line.

The console is imported only when it opens, so that `newhope --help` stays instant and timers never load a screen.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

_USAGE = """Usage: newhope [--config FILE] tui [fleet | vm NAME | restore VM@POINT | restores | jobs | job ID | checks]

Opens the console, at its first screen or at the one named. `newhope` alone does the same.
"""


def main() -> int:
    """Run this process's command line; answers its exit status."""
    arguments = sys.argv[1:]
    config, rest = _taken_config(arguments)
    if rest and rest[0] != "tui":
        from engine.cli.main import main as command_line

        return command_line(arguments)
    return open_console(config, rest[1:])


def open_console(config: Path | None, words: Sequence[str]) -> int:
    """Open the console, or say why it cannot be opened and what to use instead."""
    from engine.errors import ExitCode, NewhopeError

    if "--help" in words or "-h" in words:
        print(_USAGE, end="")  # noqa: T201
        return ExitCode.OK
    from tui.destination import destination_of

    destination = destination_of(words)
    if destination is None:
        print(_USAGE, end="", file=sys.stderr)  # noqa: T201
        return ExitCode.USAGE

    from tui.terminal import terminal_here, why_unsuitable

    terminal = terminal_here()
    reason = why_unsuitable(terminal)
    if reason is not None:
        _complain(reason, "Nothing was changed.", "newhope vms, newhope jobs and newhope --help work everywhere.")
        return ExitCode.USAGE
    try:
        from engine.cli.passphrase_prompt import ask_for_what_is_missing
        from engine.cli.settings_in_use import file_in_use
        from engine.settings import load

        settings = load(file_in_use(config))
        # Once the console is open nobody can be asked; what is not opened here is shown as locked, with what to do.
        ask_for_what_is_missing(settings.repositories)
    except NewhopeError as error:
        _complain(error.what, error.untouched, error.next_step)
        return error.exit_code
    if terminal.remote:
        # Ten frames a second, and nothing that moves by itself, are what a slow line can carry.
        os.environ.setdefault("TEXTUAL_FPS", "10")
        os.environ.setdefault("TEXTUAL_ANIMATIONS", "none")
    from tui.app import Console

    console = Console(settings, terminal, destination)
    console.run(mouse=not terminal.remote)
    code = console.return_value if console.return_value is not None else console.return_code
    if code:
        # Ended by a signal, there may be no terminal any more, and Python would die of its last flush to it.
        _let_go_of_terminal()
        return code
    _say_what_goes_on(console.running_jobs())
    return ExitCode.OK


def _let_go_of_terminal() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _taken_config(arguments: Sequence[str]) -> tuple[Path | None, list[str]]:
    """`--config FILE` may stand before `tui`; everything else is the command line's to understand."""
    rest = list(arguments)
    if rest and rest[0].startswith("--config="):
        return Path(rest[0].removeprefix("--config=")), rest[1:]
    if len(rest) >= 2 and rest[0] == "--config":
        return Path(rest[1]), rest[2:]
    return None, rest


def _complain(what: str, untouched: str, next_step: str) -> None:
    print(f"newhope: {what}\nUntouched: {untouched}\nNext: {next_step}", file=sys.stderr)  # noqa: T201


def _say_what_goes_on(running: Sequence[str]) -> None:
    if running:
        plural = "s go" if len(running) > 1 else " goes"
        print(f"{len(running)} job{plural} on without the console: {', '.join(running)}.")  # noqa: T201
        print("See: newhope jobs")  # noqa: T201
