"""Hosts and repositories by name."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, unquote

from engine.errors import NotFound
from engine.settings.model import Host, ObjectStorage, Repository, Settings
from engine.settings.nearest import in_words, nearest
from engine.settings.object_storage import KEYS, SCHEME


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


def repository_at(location: str) -> Repository:
    """Return the repository at a folder or `s3://` address, as if the settings named it: for when there are none."""
    if not location.startswith(SCHEME):
        folder = Path(location).absolute()
        return Repository(name=folder.name or location, path=folder)
    address, _, query = location.partition("?")
    values = dict(parse_qsl(query, keep_blank_values=True))
    unknown = [key for key in values if key not in KEYS]
    if unknown:
        raise NotFound(
            f'"{unknown[0]}" is not known in the address of a repository.',
            next_step=f"known there are {in_words(KEYS)}, as in s3://BUCKET/PREFIX?endpoint=https://SERVER:PORT.",
        )
    storage = ObjectStorage(unquote(address), values.get("endpoint"), values.get("region"), values.get("profile"))
    return Repository(name=Path(storage.url).name, path=Path(storage.url), object_storage=storage)


def _not_found(kind: str, section: str, name: str, known: list[str], settings: Settings) -> NotFound:
    alike = nearest(name, known)
    if alike:
        step = f"did you mean {in_words(alike, last='or')}?"
    elif known:
        step = f"name one of the {section} in {settings.file}: {in_words(known)}."
    else:
        step = f"add a section [{section}.{name}] to {settings.file}, which names none yet."
    return NotFound(f'There is no {kind} "{name}" in the settings.', next_step=step)
