"""Which level a VM has, and which VMs have none on purpose."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from engine.settings.model import Level, Rules, Settings


def level_for(settings: Settings, name: str, *, host: str = "", tags: Iterable[str] = ()) -> Level | None:
    """Return the level of a VM: the first in the file that has a rule for it, else the default, else None.

    Without its host or tags only the other rules can match. Whether the VM is excluded is not asked here: who backs
    up one that is, by its name, does so as its level says.
    """
    carried = frozenset(tags)
    for level in settings.levels:
        if matching_rule(level.rules, name, host, carried) is not None:
            return level
    return next((level for level in settings.levels if level.default), None)


def exclusion_of(settings: Settings, name: str, *, host: str = "", tags: Iterable[str] = ()) -> str | None:
    """Return the rule that excludes a VM, in the words of the settings (`vms = "tmp-*"`); None if none does."""
    return matching_rule(settings.exclude, name, host, frozenset(tags))


def matching_rule(rules: Rules, name: str, host: str, tags: frozenset[str]) -> str | None:
    """Return the first rule that is true of such a VM, in the words of the settings; None if none is."""
    for pattern in rules.vms:
        if fnmatchcase(name, pattern):
            return f'vms = "{pattern}"'
    for pattern in rules.hosts:
        if host and fnmatchcase(host, pattern):
            return f'hosts = "{pattern}"'
    for tag in rules.tags:
        if tag in tags:
            return f'tags = "{tag}"'
    return None
