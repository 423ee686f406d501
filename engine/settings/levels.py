"""Which level a name has."""

from __future__ import annotations

from fnmatch import fnmatchcase

from engine.settings.model import Level, Settings


def level_for(settings: Settings, name: str) -> Level | None:
    """Return the level of a VM of that name: the first whose pattern matches, else the default, else None."""
    for level in settings.levels:
        if any(fnmatchcase(name, pattern) for pattern in level.vms):
            return level
    return next((level for level in settings.levels if level.default), None)
