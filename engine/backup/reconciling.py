"""All that dead jobs have left on a VM, found and put right as `newhope doctor --repair` does it."""

from __future__ import annotations

from engine.backup import leftovers, stray_marks
from engine.backup.leftovers import Leftover, LeftoverKind
from engine.backup.vm_notes import KeptNote, VmNotes
from engine.fleet import Fleet
from engine.hosts import HostLane
from engine.hosts.model import Vm
from engine.settings import Settings


def dead_work_on(lane: HostLane, vm: Vm, settings: Settings) -> tuple[Leftover, ...]:
    """What dead jobs were at on a VM, in the order in which it is put right; no repository is asked.

    Raises HostUnreachable, HostRefused, MissingOnHost.
    """
    return (*leftovers.find(lane, vm, VmNotes(settings.state)), *leftovers.find_channels(lane, vm))


def leftovers_of(lane: HostLane, vm: Vm, settings: Settings, fleet: Fleet) -> tuple[Leftover, ...]:
    """The same, and checkpoints and bitmaps that nobody needs; `fleet` tells what recovery points need.

    Raises HostUnreachable, HostRefused, MissingOnHost.
    """
    return (*dead_work_on(lane, vm, settings), *stray_marks.find(lane, vm, fleet, VmNotes(settings.state)))


def put_right(lane: HostLane, vm: Vm, leftover: Leftover, settings: Settings) -> str:
    """Undo one of them; what was done, as a sentence. Raises a `NewhopeError` with what an operator can do."""
    if leftover.kind in (LeftoverKind.CHECKPOINT, LeftoverKind.BITMAP):
        return stray_marks.put_right(lane, vm, leftover, VmNotes(settings.state))
    return leftovers.put_right(lane, vm, leftover, VmNotes(settings.state))


def kept_notes(settings: Settings) -> tuple[KeptNote, ...]:
    """What this machine knows to be at work on VMs, or left there: also on hosts that do not answer."""
    return VmNotes(settings.state).kept()
