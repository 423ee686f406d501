"""What is wrong with settings only when they are seen as a whole."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from engine.settings.connection_uri import flaws, same_place
from engine.settings.key_lines import KeyPath
from engine.settings.model import GuestFilesSection, Host, Level, Repository, Rules
from engine.settings.nearest import in_words, nearest
from engine.settings.table import Complaints


def check_hosts(hosts: Sequence[Host], complaints: Complaints) -> None:
    """Two names for one URI would count one machine as two, as a place to restore to and as a place for copies."""
    first_by_place: dict[str, str] = {}
    for host in hosts:
        if flaws(host.uri):
            continue
        first = first_by_place.setdefault(same_place(host.uri), host.name)
        if first != host.name:
            complaints.add(
                ("hosts", host.name, "uri"),
                f'The hosts "{first}" and "{host.name}" have the same URI, so they are one machine.',
                f'Remove one of them, or correct the URI of "{host.name}".',
            )


def check_repositories(repositories: Sequence[Repository], host_names: Sequence[str], complaints: Complaints) -> None:
    """Two names for one place would count one copy as two; an unknown host hides that VM and backup share it."""
    first_by_place: dict[str, str] = {}
    for repository in repositories:
        first = first_by_place.setdefault(_place(repository), repository.name)
        if first != repository.name:
            complaints.add(
                ("repositories", repository.name, "path"),
                f'The repositories "{first}" and "{repository.name}" are the same {_kind(repository)}, '
                "which is one copy, not two.",
                f'Remove one of them, or correct the path of "{repository.name}".',
            )
        on_host = repository.on_host
        if on_host is not None and on_host not in host_names:
            alike = nearest(on_host, host_names)
            known = f"The hosts are {in_words(host_names)}." if host_names else "No host is configured."
            fix = f'Did you mean "{alike[0]}"?' if alike else f"{known} Remove on_host if it is none of them."
            complaints.add(("repositories", repository.name, "on_host"), f'There is no host "{on_host}".', fix)


def check_levels(levels: Sequence[Level], complaints: Complaints) -> None:
    """Find a second default, patterns that an earlier level shadows, and levels that are for no VM."""
    default = None
    earlier: dict[str, list[tuple[str, str]]] = {"vms": [], "hosts": [], "tags": []}
    for level in levels:
        if level.default and default is not None:
            complaints.add(
                ("levels", level.name, "default"),
                f'"{default}" is the default level already, and there can be only one.',
                "Remove default = true from one of the two.",
            )
        default = default or (level.name if level.default else None)
        broken = False
        for key, seen in earlier.items():
            if complaints.about(("levels", level.name, key)):
                broken = True  # what was wrong is missing from the rules here, so conclusions from them would be false
                continue
            values: tuple[str, ...] = getattr(level, key)
            _check_shadows(level, key, values, seen, complaints)
            seen.extend((level.name, value) for value in values)
        if level.rules == Rules() and not level.default and not broken:
            complaints.add(
                ("levels", level.name),
                f'The level "{level.name}" is for no VM.',
                'Add vms = ["PATTERN"], hosts = ["PATTERN"] or tags = ["TAG"], or default = true for all VMs that no '
                "rule matches.",
            )


def _check_shadows(
    level: Level, key: str, values: Sequence[str], earlier: Sequence[tuple[str, str]], complaints: Complaints
) -> None:
    for number, value in enumerate(values):
        shadow = next(
            ((name, wider) for name, wider in earlier if (wider == value if key == "tags" else _covers(wider, value))),
            None,
        )
        if shadow:
            complaints.add(
                ("levels", level.name, key, number),
                f'"{value}" never applies: "{shadow[1]}" of the level "{shadow[0]}" takes those VMs before.',
                f"Put [levels.{level.name}] above [levels.{shadow[0]}], or remove it.",
            )


def check_host_patterns(
    levels: Sequence[Level],
    exclude: Rules,
    guest_files: Sequence[GuestFilesSection],
    host_names: Sequence[str],
    complaints: Complaints,
) -> None:
    """A pattern that no configured host matches is a slip of the pen, and would leave its VMs to another rule."""
    places: list[tuple[KeyPath, Rules]] = [(("levels", level.name, "hosts"), level.rules) for level in levels]
    places += [(("guest_files", section.name, "hosts"), section.rules) for section in guest_files]
    for path, rules in (*places, (("exclude", "hosts"), exclude)):
        if complaints.about(path):
            continue
        for number, pattern in enumerate(rules.hosts):
            if not any(fnmatchcase(name, pattern) for name in host_names):
                alike = nearest(pattern, host_names)
                known = f"The hosts are {in_words(host_names)}." if host_names else "No host is configured."
                fix = f'Did you mean "{alike[0]}"?' if alike else known
                complaints.add((*path, number), f'"{pattern}" is the name of no host.', fix)


def _covers(wider: str, narrower: str) -> bool:
    """Whether every name that `narrower` matches is matched by `wider`; False where that takes more thought.

    With letters and stars only in `wider`, each wildcard of `narrower` must fall under a star, so matching the
    pattern as if it were a name is a proof.
    """
    return wider == narrower or (not re.search(r"[?\[]", wider) and fnmatchcase(narrower, wider))


def _place(repository: Repository) -> str:
    """Equal for two repositories that are one. Endpoint and path count, not by which credentials one gets there."""
    storage = repository.object_storage
    if storage is None:
        return os.path.normpath(repository.path)
    return f"{(storage.endpoint or '').rstrip('/').lower()} {storage.url}"


def _kind(repository: Repository) -> str:
    return "folder" if repository.object_storage is None else "part of a bucket"
