"""The `newhope` command as an operator types it, with a settings file."""

from __future__ import annotations

import sys
from pathlib import Path


def newhope(settings_file: Path, *words: str) -> list[str]:
    """What is to be run."""
    return [sys.executable, "-m", "engine.cli", "--config", str(settings_file), *words]
