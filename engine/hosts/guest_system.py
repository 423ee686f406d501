"""What a guest runs, as far as it matters for running commands in it."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from engine.hosts.agent import AgentRefused, ask

if TYPE_CHECKING:
    from engine.hosts.lane import HostLane


class GuestSystem(StrEnum):
    """How commands are run in a guest."""

    UNIX = "unix"
    """It has `/bin/sh`."""
    WINDOWS = "windows"


def system_of(lane: HostLane, vm_uuid: str) -> GuestSystem:
    """What the agent says of its system; an agent that is too old to tell is a Unix one. Raises what `ask` raises."""
    try:
        told = ask(lane, vm_uuid, "guest-get-osinfo", dict[str, str])
    except AgentRefused:
        return GuestSystem.UNIX
    return GuestSystem.WINDOWS if told.get("id") == "mswindows" else GuestSystem.UNIX
