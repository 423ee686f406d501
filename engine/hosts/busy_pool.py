"""A storage pool that is at work for somebody else.

While libvirt makes a volume in a pool it refuses to look what else is there (`virStoragePoolRefresh`: "has asynchronous
jobs running"). That takes a moment for an empty image, and minutes for a copy; two restores to one pool meet so. So
whatever may want a look is begun again until it gets it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from engine.hosts.errors import PoolBusy
from engine.hosts.lane import HostLane

if TYPE_CHECKING:
    import libvirt

_PATIENCE_S = 120.0
_PAUSE_S = 0.02

T = TypeVar("T")


def run_when_free(lane: HostLane, work: Callable[[libvirt.virConnect], T], *, timeout_s: float = 15.0) -> T:
    """Run `work`, again and again while its pool is at work for somebody else; others have the lane in between.

    It changes nothing before its look, so that it can begin anew. Raises PoolBusy after two minutes, and what
    `HostLane.run` raises.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return lane.run(work, timeout_s=timeout_s)
        except PoolBusy:
            if time.monotonic() > deadline:
                raise
        time.sleep(_PAUSE_S)
