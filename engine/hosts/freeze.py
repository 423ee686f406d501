"""Freezing a guest's file systems for the moment of a hot recovery point, with a thaw that cannot be forgotten.

1. Look whether freezing makes sense: the VM runs, its agent answers, nobody else has frozen it. If not, that is the
   outcome, not an error: the recovery point is then as after a power cut, and says so.
2. Start the second process (`thaw_guard`) and wait until it is ready. It thaws if this process dies or hangs.
3. Freeze, with a time limit. Where the answer does not come (it was lost, or is late; or the command was), the guest is
   asked for a while what it is: frozen counts. A failed or late freeze is undone like a good one, because it may still
   come true.
4. The caller fixes its moment.
5. Thaw until the guest says that it is thawed; only then release the second process.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec import Struct

from engine.errors import ExitCode, NewhopeError
from engine.hosts import second_process, thaw, thaw_guard
from engine.hosts.agent import AgentRefused
from engine.hosts.errors import AGENT_UNRESPONSIVE, GuestDidNotAnswer, HostRefused, HostUnreachable
from engine.settings.model import Host

if TYPE_CHECKING:
    import libvirt

    from engine.hosts.lane import HostLane

LONGEST_S = 60.0
THAW_TIMEOUT_S = 90.0

_LANE_MARGIN_S = 8.0
_LATE_ANSWER_S = 5.0
_ASK_AGAIN_S = 0.2


class FreezeOutcome(Struct, frozen=True):
    """Whether the guest's file systems were frozen, and the sentence that the recovery point will carry."""

    frozen: bool
    note: str


class GuestStillFrozen(NewhopeError):
    """A guest could not be thawed: its programs stand still at their next write."""

    exit_code = ExitCode.GUEST


class FreezeDidNotHold(NewhopeError):
    """Something thawed the guest before the moment was fixed."""

    exit_code = ExitCode.GUEST


@contextmanager
def frozen(
    host: Host,
    lane: HostLane,
    uuid: str,
    *,
    freeze_timeout_s: float = 10,
    longest_s: float = LONGEST_S,
    thaw_timeout_s: float = THAW_TIMEOUT_S,
) -> Generator[FreezeOutcome]:
    """Hold the guest's file systems frozen for the length of the context, if that can be done.

    The context should last a moment; after `longest_s` the second process thaws, whatever happens here.
    Raises HostUnreachable and MissingOnHost before it begins; at its end GuestStillFrozen if the guest could not be
    thawed within `thaw_timeout_s` (the second process goes on trying), FreezeDidNotHold if it had been thawed before.
    """
    name, paused = _name_and_paused(lane, uuid)
    reason = _why_not(lane, uuid, paused=paused)
    if reason is not None:
        yield FreezeOutcome(frozen=False, note=reason)
        return
    guard = second_process.start(
        thaw_guard.__name__, [second_process.argument(host), uuid, str(freeze_timeout_s + longest_s)]
    )
    if guard is None:
        note = "Not frozen: the second process, which guarantees the thaw, could not be started."
        yield FreezeOutcome(frozen=False, note=note)
        return
    outcome = FreezeOutcome(frozen=False, note="")
    result = thaw.ThawResult(thawed=False, reason="Nobody has tried yet.")
    try:
        outcome = _freeze(lane, uuid, freeze_timeout_s)
        yield outcome
    finally:
        try:
            result = thaw.until_thawed(lane, uuid, timeout_s=thaw_timeout_s)
        finally:
            second_process.release(guard, done=result.thawed)
        if not result.thawed:
            raise _still_frozen(host, name, result, sure=outcome.frozen)
    if outcome.frozen and result.had_been_thawed:
        raise FreezeDidNotHold(
            f"The file systems of {name} were thawed before the moment was fixed.",
            next_step="Try again; if it happens again, look in the guest for what thaws it (Windows does after 10 s).",
            untouched="The guest runs, thawed.",
        )


def _why_not(lane: HostLane, uuid: str, *, paused: bool) -> str | None:
    """Why there is no point in freezing, in a sentence; None if there is."""
    if paused:
        return "Not frozen: the VM was paused."
    try:
        status = thaw.freeze_status(lane, uuid)
    except GuestDidNotAnswer as silence:
        return f"Not frozen: {silence.what}"
    except AgentRefused as refused:
        return f"Not frozen: {refused.what}"
    if status == "frozen":
        # To thaw now would break a promise that somebody else gave; whether they hold theirs is not known here.
        return "Not frozen by newhope: somebody else had frozen the file systems, and left or took them so."
    return None


def _name_and_paused(lane: HostLane, uuid: str) -> tuple[str, bool]:
    def look(connection: libvirt.virConnect) -> tuple[str, bool]:
        import libvirt

        domain = connection.lookupByUUIDString(uuid)
        return domain.name(), domain.state()[0] == libvirt.VIR_DOMAIN_PAUSED

    return lane.run(look)


def _freeze(lane: HostLane, uuid: str, timeout_s: float) -> FreezeOutcome:
    """Freeze now. Raises HostUnreachable; everything else is an outcome."""

    def freeze(connection: libvirt.virConnect) -> int:
        domain = connection.lookupByUUIDString(uuid)
        # Of the VM, not of this call, so the thaw sets it back. Without it a silent agent holds the lane for ever.
        domain.agentSetResponseTimeout(max(1, round(timeout_s)))
        return domain.fsFreeze()

    try:
        count = lane.run(freeze, timeout_s=timeout_s + _LANE_MARGIN_S)
    except HostRefused as refused:
        if refused.code == AGENT_UNRESPONSIVE:
            return _without_answer(lane, uuid, timeout_s)
        return FreezeOutcome(frozen=False, note=_failed_because(refused))
    except HostUnreachable:
        # A daemon that was restarted in the middle took the answer with it; one that is gone says so again.
        lane.forget_failure()
        return _without_answer(lane, uuid, timeout_s)
    if count == 0:
        return FreezeOutcome(frozen=False, note="Not frozen: the guest had no file system that can be frozen.")
    plural = "s" if count > 1 else ""
    return FreezeOutcome(frozen=True, note=f"The guest agent froze {count} file system{plural}.")


def _without_answer(lane: HostLane, uuid: str, timeout_s: float) -> FreezeOutcome:
    """What became of a freeze whose answer did not come, by the word of the guest. Raises HostUnreachable.

    The agent does one thing after the other, so it only answers when the freeze is over, or never reached it.
    """
    status = ""
    deadline = time.monotonic() + _LATE_ANSWER_S
    while not status and time.monotonic() < deadline:
        try:
            status = thaw.freeze_status(lane, uuid)
        except (GuestDidNotAnswer, AgentRefused, HostRefused):
            time.sleep(_ASK_AGAIN_S)
    if not status:
        return FreezeOutcome(
            frozen=False, note=f"Not frozen: the guest did not finish freezing within {timeout_s:.0f} s."
        )
    if status == "frozen":
        return FreezeOutcome(frozen=True, note="The guest agent froze the file systems: it answered late, and says so.")
    return FreezeOutcome(
        frozen=False, note="Not frozen: the guest agent lost the command; it was restarted, or gave up."
    )


def _failed_because(refused: HostRefused) -> str:
    if "hook" in refused.text:
        return f"Not frozen: a freeze hook in the guest failed ({refused.text.rpartition(': ')[2].rstrip('.')})."
    return f"Not frozen: {refused.text.rstrip('.')}."


def _still_frozen(host: Host, name: str, result: thaw.ThawResult, *, sure: bool) -> GuestStillFrozen:
    state = "is still frozen" if sure else "may be frozen"
    return GuestStillFrozen(
        f"The guest {name} on {host.name} {state}: it could not be thawed. {result.reason}",
        next_step=f"Thaw it by hand: virsh -c '{host.uri}' domfsthaw {name}; if the VM is paused, resume it first.",
        untouched="No data is lost; the guest's programs wait at their next write. A second process goes on trying "
        f"for {thaw_guard.KEEP_THAWING_S / 60:.0f} minutes.",
    )
