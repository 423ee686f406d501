"""Open the repository that a command or a job names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from engine.cli.passphrase_prompt import prompt_here
from engine.fleet import open_repository
from engine.repository import Repository
from engine.settings import Repository as RepositorySettings
from engine.settings import Settings, find_repository, repository_at


def is_place(name: str | None) -> bool:
    """Whether a repository is named by its path or s3:// address, which no settings file has to know."""
    return name is not None and "/" in name


def wherever(name: str) -> str:
    """The same name for a process that works in another folder."""
    return str(Path(name).absolute()) if is_place(name) and "://" not in name else name


def named(settings: Callable[[], Settings], name: str | None) -> RepositorySettings:
    """The repository of that name in the settings (the first one for None), or the one at that path or address.

    `settings` is asked for names only: a repository must open on the day when nothing else is left.
    """
    if name is not None and is_place(name):
        return repository_at(name)
    return find_repository(settings(), name)


def open_named(settings: Callable[[], Settings], name: str | None) -> Repository:
    """Open it. Where nothing else gives a passphrase it is asked for at the terminal, which a job does not have."""
    return open_repository(named(settings, name), prompt=prompt_here())
