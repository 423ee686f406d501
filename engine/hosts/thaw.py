"""Thawing a guest's file systems, again and again until the guest itself says that they are thawed.

One call is not enough: a freeze that ran into its time limit here may still go on in the guest (a hook that sleeps),
and succeed half a minute later. The agent works off its commands one after the other, so when it says `thawed` after
them, no earlier freeze is left under way. Thawing what is not frozen does nothing.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec import Struct

from engine.hosts.agent import AgentRefused, ask
from engine.hosts.errors import (
    OPERATION_INVALID,
    GuestDidNotAnswer,
    HostRefused,
    HostUnreachable,
    MissingOnHost,
)

if TYPE_CHECKING:
    import libvirt

    from engine.hosts.lane import HostLane

_THAW_ANSWER_S = 5
_LANE_MARGIN_S = 8.0
_EVERY_S = 0.5
_NO_CHANNEL = 74

# VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK, what libvirt starts every VM with; it cannot be asked.
WAIT_FOR_EVER = -2


class ThawResult(Struct, frozen=True):
    """How the attempts to thaw a guest ended."""

    thawed: bool
    """Nothing is frozen any more: the guest says so, or it is off."""
    reason: str = ""
    """Why not, in a sentence."""
    had_been_thawed: bool = False
    """The very first thaw found nothing frozen: somebody else had thawed before."""


def until_thawed(lane: HostLane, uuid: str, *, timeout_s: float) -> ThawResult:
    """Thaw until the guest says that it is thawed, for up to `timeout_s` (and always once). Raises nothing."""
    deadline = time.monotonic() + timeout_s
    first = True
    while True:
        count, reason = -1, ""
        try:
            try:
                count = _thaw(lane, uuid)
            except HostRefused as refused:
                if _nothing_to_thaw(lane, uuid, refused):
                    return ThawResult(thawed=True)
                # A hook that fails makes the whole thaw an error, after the file systems were thawed: ask the guest.
                reason = refused.what
            if freeze_status(lane, uuid) == "thawed":
                return ThawResult(thawed=True, had_been_thawed=first and count == 0)
            reason = reason or "The guest thawed, and says that it is frozen."
        except MissingOnHost:
            return ThawResult(thawed=True)
        except (HostRefused, HostUnreachable, GuestDidNotAnswer, AgentRefused) as failure:
            reason = reason or failure.what
        first = False
        if time.monotonic() + _EVERY_S > deadline:
            return ThawResult(thawed=False, reason=reason)
        time.sleep(_EVERY_S)
        # A daemon that has just been restarted must not be waited for longer than it takes to come up.
        lane.forget_failure()


def freeze_status(lane: HostLane, uuid: str) -> str:
    """`frozen` or `thawed`, as the guest's agent remembers it. Raises what `agent.ask` raises."""
    return ask(lane, uuid, "guest-fsfreeze-status", str)


def _thaw(lane: HostLane, uuid: str) -> int:
    """How many file systems were thawed."""

    def thaw(connection: libvirt.virConnect) -> int:
        import libvirt

        domain = connection.lookupByUUIDString(uuid)
        domain.agentSetResponseTimeout(_THAW_ANSWER_S)
        try:
            return domain.fsThaw()
        finally:
            # Refused if it stopped in between: a stopped VM has forgotten the setting.
            with suppress(libvirt.libvirtError):
                domain.agentSetResponseTimeout(WAIT_FOR_EVER)

    return lane.run(thaw, timeout_s=_THAW_ANSWER_S + _LANE_MARGIN_S)


def _nothing_to_thaw(lane: HostLane, uuid: str, refused: HostRefused) -> bool:
    """Whether a failed thaw means that nothing is frozen: the VM is off, or never had a channel to freeze by."""
    if isinstance(refused, MissingOnHost) or refused.code == _NO_CHANNEL:
        return True
    if refused.code != OPERATION_INVALID:
        return False
    return lane.run(lambda connection: not connection.lookupByUUIDString(uuid).isActive())
