"""Which settings file a command is about."""

from __future__ import annotations

import os
from pathlib import Path


def file_in_use(config: Path | None) -> Path | None:
    """The file that was named, or None for the one that is found by itself.

    Whoever has no settings yet and has started the practice hosts means those: then it is the lab's file.
    """
    from engine.settings import default_file

    if config is not None or os.environ.get("NEWHOPE_CONFIG") or default_file().exists():
        return config
    from engine.lab import default_folder

    practice = default_folder() / "newhope.toml"
    return practice if practice.exists() else None
