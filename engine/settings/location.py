"""Where the settings and this machine's state lie when nobody says otherwise."""

from __future__ import annotations

import os
from pathlib import Path


def default_file() -> Path:
    """Return the settings file that is meant when the operator names none."""
    named = os.environ.get("NEWHOPE_CONFIG")
    if named:
        return Path(named).expanduser().absolute()
    return _xdg_folder("XDG_CONFIG_HOME", ".config") / "newhope" / "newhope.toml"


def default_state() -> Path:
    """Return the folder for journal and caches when the settings name none."""
    return _xdg_folder("XDG_STATE_HOME", ".local/state") / "newhope"


def _xdg_folder(variable: str, below_home: str) -> Path:
    # The XDG base directory specification: a relative path in the variable is invalid and must be ignored.
    named = os.environ.get(variable, "")
    return Path(named) if Path(named).is_absolute() else Path.home() / below_home
