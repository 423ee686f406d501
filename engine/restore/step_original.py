"""The original makes room: it is shut down and kept aside under another name, and comes back as it was.

Only a restore that takes its place has these steps, and they come when all disks are written: until then the original
runs. Its disks, NVRAM and TPM state are never touched.
"""

from __future__ import annotations

from datetime import UTC, datetime

from msgspec import structs

from engine.errors import Conflict
from engine.hosts import HostLane, MissingOnHost, aside, power
from engine.hosts.errors import GuestDidNotShutDown
from engine.hosts.model import VmState
from engine.jobs import StepHandle
from engine.restore.host_note import leave_note
from engine.restore.model import Aside
from engine.restore.steps import Step
from engine.restore.work import Ground, Work

SHUT_DOWN_S = 180.0
_OFF = (VmState.OFF, VmState.CRASHED)


def stop(work: Work, step: Step, handle: StepHandle) -> str:
    """Shut it down, or cut its power if that was agreed. Raises GuestDidNotShutDown."""
    wanted, lane = _wanted(work), _lane(work)
    try:
        off = power.vm_state(lane, wanted.uuid) in _OFF
    except MissingOnHost:
        if power.name_of(lane, wanted.kept_uuid) != wanted.kept_name:
            raise
        return "it is aside already"
    note = "it was off"
    if not off:
        note = "it shut down"
        try:
            power.shut_down(lane, wanted.uuid, timeout_s=SHUT_DOWN_S)
        except GuestDidNotShutDown:
            if not work.request.power_off:
                raise
            power.power_off(lane, wanted.uuid)
            note = "it did not shut down: its power was cut"
            work.warn(f"{wanted.name} did not shut down, so its power was cut, as was agreed.")
    since = work.entry.created if off else datetime.now(UTC)
    work.note(lambda entry: structs.replace(entry, original_off=entry.original_off or since))
    return note


def set_aside(work: Work, step: Step, handle: StepHandle) -> str:
    """Let it be known by its other name. All of what it was is durable here and on the host before."""
    wanted, lane = _wanted(work), _lane(work)
    if work.entry.original is None:
        kept = aside.look(lane, wanted.uuid)
        work.note(lambda entry: structs.replace(entry, original=kept))
        leave_note(work.lane, work.entry)
    original = work.entry.original
    if original is not None:
        aside.set_aside(lane, original, wanted.kept_name, wanted.kept_uuid)
    work.context.log(f"{wanted.name} is kept aside on {wanted.host} as {wanted.kept_name}")
    return f"as {wanted.kept_name}"


def put_back(ground: Ground, step: Step) -> None:
    """Let it be known as it was."""
    wanted, original = ground.request.aside, ground.entry.original
    if wanted is None or original is None:
        return
    lane = _lane(ground)
    if power.name_of(lane, wanted.kept_uuid) == wanted.kept_name and power.vm_state(lane, wanted.kept_uuid) not in _OFF:
        raise Conflict(
            f"{wanted.kept_name} on {wanted.host} runs, so it cannot become {wanted.name} again.",
            untouched="It was left as it is.",
            next_step=f"shut it down, then undo the restore again: newhope restores undo {ground.entry.id}",
        )
    aside.put_back(lane, original, wanted.kept_uuid)


def start_again(ground: Ground, step: Step) -> None:
    """Start it, if it ran when the restore began."""
    wanted = ground.request.aside
    if wanted is None or not wanted.runs:
        return
    lane = _lane(ground)
    if power.vm_state(lane, wanted.uuid) in _OFF:
        power.start(lane, wanted.uuid)


def _wanted(ground: Ground) -> Aside:
    if ground.request.aside is None:
        raise ValueError("a restore that puts nothing aside has no such step")
    return ground.request.aside


def _lane(ground: Ground) -> HostLane:
    return ground.lanes[_wanted(ground).host]
