"""Which level a VM has."""

from __future__ import annotations

from engine.hosts.model import Vm
from engine.settings import Level, Settings, level_for


def level_of(settings: Settings, vm: Vm) -> Level | None:
    """Return the level of a VM, by its name; see `level_for`."""
    return level_for(settings, vm.name)
