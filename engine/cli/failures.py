"""How every failure ends: three labelled lines on stderr (or one JSON object on stdout), and an exit status.

    what       the sentence that says what happened
    untouched  what is as it was
    next       a command, or a thing to look at

A failure that no package foresaw is a defect: its traceback goes into a file and never on the screen.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from engine.cli.printing import folded
from engine.errors import ExitCode, NewhopeError

LABEL_WIDTH = 11


class Usage(NewhopeError):
    """The command line asks for something that cannot be meant, or needs somebody who confirms."""

    exit_code = ExitCode.USAGE


def answer_of(error: BaseException, arguments: Sequence[str]) -> int:
    """Tell a failure of the command line `arguments`; answers the exit status."""
    as_json = "--json" in arguments
    match error:
        case NewhopeError():
            tell(error.what, error.untouched, error.next_step, error.exit_code, as_json=as_json)
            return error.exit_code
        case click.exceptions.Exit():
            return error.exit_code
        case click.ClickException():
            context = error.ctx if isinstance(error, click.UsageError) else None
            command = context.command_path if context else "newhope"
            tell(
                error.format_message(),
                "Nothing was changed.",
                f"see `{command} --help`.",
                ExitCode.USAGE,
                as_json=as_json,
            )
            return ExitCode.USAGE
        case KeyboardInterrupt() | click.Abort():
            print("\ninterrupted", file=sys.stderr)  # noqa: T201
            return ExitCode.INTERRUPTED
        case BrokenPipeError():
            _forget_stdout()
            return ExitCode.OK
        case SystemExit():
            return error.code if isinstance(error.code, int) else ExitCode.DEFECT
        case _:
            _tell_defect(error, as_json=as_json)
            return ExitCode.DEFECT


def tell(what: str, untouched: str, next_step: str, exit_code: int, *, as_json: bool) -> None:
    """Print one failure."""
    if as_json:
        import msgspec

        document = {
            "error": {
                "what": what,
                "untouched": untouched,
                "next_step": next_step,
                "exit_code": int(exit_code),
                "name": ExitCode(exit_code).name.lower() if exit_code in list(ExitCode) else "unknown",
            }
        }
        click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))
        return
    for label, text in (("what", what), ("untouched", untouched), ("next", next_step)):
        click.echo(_labelled(label, text), err=True)


def _labelled(label: str, text: str) -> str:
    first, *rest = folded(text, beside=LABEL_WIDTH, stream=sys.stderr) or [""]
    return "\n".join([f"{label:<{LABEL_WIDTH}}{first}", *(" " * LABEL_WIDTH + line for line in rest)])


def _forget_stdout() -> None:
    # What is still in its buffer would raise again when Python ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell_defect(error: BaseException, *, as_json: bool) -> None:
    text = "".join(traceback.format_exception(error))
    try:
        kept = f"report it with the file {_keep(text)}."
    except OSError as unwritable:
        kept = f"free some space and try again: its traceback could not be written either ({unwritable.strerror})."
    what = f"A defect in newhope: {type(error).__name__}."
    tell(what, "What was done before it, if anything, is in `newhope jobs`.", kept, ExitCode.DEFECT, as_json=as_json)


def _keep(text: str) -> Path:
    import tempfile

    from engine.settings import default_state

    name = f"{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.log"
    folder = default_state() / "defects"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = folder / name
        file.touch(mode=0o600)
    except OSError:
        file = Path(tempfile.mkdtemp(prefix="newhope-defect-")) / name
    file.write_text(text)
    return file
