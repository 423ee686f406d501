"""libvirt's domain states (`virDomainState`) in our words."""

from __future__ import annotations

from engine.hosts.model import VmState

_STATES = {
    1: VmState.RUNNING,
    2: VmState.RUNNING,
    3: VmState.PAUSED,
    4: VmState.RUNNING,
    5: VmState.OFF,
    6: VmState.CRASHED,
    7: VmState.PAUSED,
}
"""Blocked (2) runs and waits for I/O; being shut down (4) still runs; 7 is suspended to memory by its guest."""


def from_libvirt(number: int) -> VmState:
    """The state for libvirt's number; OTHER for one that we do not know."""
    return _STATES.get(number, VmState.OTHER)
