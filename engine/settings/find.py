"""Hosts and repositories by name."""

from __future__ import annotations

from engine.errors import NotFound
from engine.settings.model import Host, Repository, Settings
from engine.settings.nearest import in_words, nearest


def find_host(settings: Settings, name: str) -> Host:
    """Return the host of that name; raises `NotFound`, which names those that look alike."""
    for host in settings.hosts:
        if host.name == name:
            return host
    raise _not_found("host", "hosts", name, [host.name for host in settings.hosts], settings)


def find_repository(settings: Settings, name: str | None) -> Repository:
    """Return the repository of that name, or for None the first in the file; raises `NotFound`."""
    if name is None and settings.repositories:
        return settings.repositories[0]
    for repository in settings.repositories:
        if repository.name == name:
            return repository
    known = [repository.name for repository in settings.repositories]
    if name is None:
        raise NotFound(
            f"No repository is configured in {settings.file}.",
            next_step='add a section [repositories.NAME] with path = "/folder", then `newhope repo init NAME`.',
        )
    raise _not_found("repository", "repositories", name, known, settings)


def _not_found(kind: str, section: str, name: str, known: list[str], settings: Settings) -> NotFound:
    alike = nearest(name, known)
    if alike:
        step = f"did you mean {in_words(alike, last='or')}?"
    elif known:
        step = f"name one of the {section} in {settings.file}: {in_words(known)}."
    else:
        step = f"add a section [{section}.{name}] to {settings.file}, which names none yet."
    return NotFound(f'There is no {kind} "{name}" in the settings.', next_step=step)
