"""Which level a VM has."""

from __future__ import annotations

from engine.hosts.model import Vm
from engine.repository.model import VmFacts
from engine.settings import Level, Settings, exclusion_of, level_for


def level_of(settings: Settings, vm: Vm | VmFacts) -> Level | None:
    """Return the level of a VM, by its name, host and tags; see `level_for`."""
    return level_for(settings, vm.name, host=vm.host, tags=vm.tags)


def excluded_by(settings: Settings, vm: Vm | VmFacts) -> str | None:
    """Return the rule that leaves a VM unprotected on purpose, in the words of the settings; None if none does."""
    return exclusion_of(settings, vm.name, host=vm.host, tags=vm.tags)
