"""Which plan and which work a request means: a whole VM, or files from inside its guest."""

from __future__ import annotations

from engine.backup import guest_files, recovery_point
from engine.backup.plan import BackupPlan, Request, locate, refuse_plain
from engine.backup.plan import plan as plan_vm
from engine.fleet import Fleet
from engine.jobs import JobContext
from engine.repository import Point, PointKind
from engine.settings import Settings, find_repository


def plan(settings: Settings, fleet: Fleet, request: Request) -> BackupPlan:
    """Plan a backup as the fleet was last seen. Raises what stands in its way."""
    if request.kind is PointKind.VM:
        return plan_vm(settings, fleet, request)
    kept = find_repository(settings, request.repository)
    _, vm = locate(fleet, request)
    view = next((each for each in fleet.repositories if each.name == kept.name), None)
    if view is not None and view.info is not None:
        refuse_plain(vm, request, kept, sealed=view.info.encrypted)
    return guest_files.plan_guest_files(settings, vm, request)


def make_recovery_point(settings: Settings, request: Request, context: JobContext) -> Point:
    """Make the recovery point that is asked for. Raises a `NewhopeError`; then none was made."""
    make = recovery_point.make_recovery_point if request.kind is PointKind.VM else guest_files.make_guest_point
    return make(settings, request, context)
