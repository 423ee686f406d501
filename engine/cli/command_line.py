"""Commands that are shown to be typed: complete, so that they can be copied."""

from __future__ import annotations

import shlex
from pathlib import Path

from engine.settings import default_file


def with_config(file: Path, command: str) -> str:
    """The command with `--config FILE`, unless these settings are the ones that are found by themselves."""
    if file.absolute() == default_file().absolute():
        return command
    return command.replace("newhope ", f"newhope --config {shlex.quote(str(file))} ", 1)
