"""Commands that are shown to be typed: complete, so that they can be copied."""

from __future__ import annotations

import shlex
from pathlib import Path

from engine.settings import default_file


def in_folder(folder: Path | None) -> str:
    """How a command about the lab ends: with `--dir FOLDER`, unless it is the one that is found by itself."""
    return f" --dir {shlex.quote(str(folder))}" if folder is not None else ""


def with_config(file: Path, command: str) -> str:
    """The command with `--config FILE`, unless these settings are the ones that are found by themselves."""
    if file.absolute() == default_file().absolute():
        return command
    return command.replace("newhope ", f"newhope --config {shlex.quote(str(file))} ", 1)
