"""The repository that a command is about: one of the settings, or one at a path or address that no settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.cli.invocation import Invocation

if TYPE_CHECKING:
    from engine import repository
    from engine.settings import Repository


def repository_named(invocation: Invocation, name: str | None) -> Repository:
    """The repository of that name, path or `s3://` address; for None the first of the settings.

    With a path or an address no settings are read, for the day when nothing else is left.
    """
    from engine.settings import find_repository, repository_at

    if name is not None and "/" in name:
        return repository_at(name)
    return find_repository(invocation.settings, name)


def opened(invocation: Invocation, name: str | None) -> repository.Repository:
    """Open it; the terminal is asked for a passphrase that nothing else gives."""
    from engine.cli.passphrase_prompt import prompt_here
    from engine.fleet import open_repository

    return open_repository(repository_named(invocation, name), prompt=prompt_here())
