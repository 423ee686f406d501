"""Open the repository that a command or a job names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from engine.repository import Repository
from engine.settings import Settings, find_repository


def is_place(name: str | None) -> bool:
    """Whether a repository is named by its path or s3:// address, which no settings file has to know."""
    return name is not None and "/" in name


def wherever(name: str) -> str:
    """The same name for a process that works in another folder."""
    return str(Path(name).absolute()) if is_place(name) and "://" not in name else name


def open_named(settings: Callable[[], Settings], name: str | None) -> Repository:
    """The repository of that name in the settings (the first one for None), or the one at that path or address.

    `settings` is asked for names only: a repository must open on the day when nothing else is left.
    """
    if name is not None and is_place(name):
        return Repository.open(name, name=Path(name.partition("?")[0]).name)
    kept = find_repository(settings(), name)
    return Repository.open(kept.location, name=kept.name)
