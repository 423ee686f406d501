"""Which VMs are to be backed up now, in which order, and when the others will be. Pure.

A VM is due before its newest point gets too old, so that there is time for the backup itself, for one that fails and
for others that are before it: once the point's age reaches a share of the level's RPO. That share is a little different
for each VM, always the same for one, so that VMs that were backed up in one go do not all become due in one go again.
A backup that takes long in comparison with the RPO begins so early that twice its time is left.

What was missed (a machine that was off, a timer that did not run) is simply due: nothing is remembered but the points.
Files that are kept from inside guests become due by the `every` of their section, as if it were an RPO.

Only for VMs whose last attempts failed does the journal count: they wait, longer after each failure, but never so long
that one that would succeed again stays late for more than half its RPO.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from engine.fleet import Fleet, known_vms, points_by_vm
from engine.hosts.model import HostStatus, Vm
from engine.repository.model import Point, PointKind
from engine.requirements.levels import excluded_by, level_of
from engine.settings import Level, Settings, guest_files_for

EARLIEST_SHARE = 0.5
LATEST_SHARE = 0.75
SHORTEST_SHARE = 0.25
"""However long a backup takes, it is not begun before this much of the RPO is over: that would be without a pause."""
FIRST_WAIT_S = 300
LONGEST_WAIT_S = 12 * 3600
CLOCKS_DIFFER_S = 300
"""A point that is further in the future was made by a wrong clock: waiting for that time could take years."""


class Attempts(Struct, frozen=True):
    """What came of the last backups of a VM, as the journal knows it."""

    failed: int = 0
    """How many in a row did, up to the newest."""
    last: datetime | None = None
    """When the newest of those ended."""
    last_job: int | None = None
    """Which one that was."""
    job: int | None = None
    """The job that backs it up now, or has it on its list."""


class Due(Struct, frozen=True):
    """A VM that is to be backed up now."""

    vm_uuid: str
    vm: str
    host: str
    level: Level
    newest: datetime | None
    why: str
    kind: PointKind = PointKind.VM


class Later(Struct, frozen=True):
    """A VM that is not to be backed up yet."""

    vm_uuid: str
    vm: str
    host: str
    level: str
    due_at: datetime | None
    """None where that depends on something else, which `why` names."""
    why: str
    failed: int = 0
    """How many attempts in a row failed, where that is what it waits for."""
    kind: PointKind = PointKind.VM


class LeftOut(Struct, frozen=True):
    """A VM that no run backs up as things are."""

    vm_uuid: str
    vm: str
    host: str
    why: str
    silent: bool = False
    """Whether it would be due, and only its host, which does not answer, keeps it from being backed up."""


class DuePlan(Struct, frozen=True):
    """Every VM that any host showed, in one of three lists."""

    due: tuple[Due, ...]
    """The worst first: those without any point, then by how much of their RPO is over."""
    later: tuple[Later, ...]
    """The next first."""
    left_out: tuple[LeftOut, ...]


def plan_due(settings: Settings, fleet: Fleet, attempts: Mapping[str, Attempts], now: datetime) -> DuePlan:
    """Return what is due at `now`; `attempts` by `attempts_key`, which may be missing."""
    points = points_by_vm(fleet)
    online = {snapshot.host for snapshot in fleet.snapshots if snapshot.status is HostStatus.ONLINE}
    due: list[tuple[tuple[bool, float, str, str], Due]] = []
    later: list[Later] = []
    left_out: list[LeftOut] = []
    for vm in known_vms(fleet):
        rule, level = excluded_by(settings, vm), level_of(settings, vm)
        if rule is not None:
            left_out.append(LeftOut(vm.uuid, vm.name, vm.host, f"excluded by {rule}"))
            continue
        verdicts = [_weigh_guest_files(settings, fleet, vm, attempts, now)]
        if level is None:
            left_out.append(LeftOut(vm.uuid, vm.name, vm.host, "no level is for it"))
        else:
            soonest = now + timedelta(seconds=CLOCKS_DIFFER_S)
            newest = next((point for point in points.get(vm.uuid, ()) if point.manifest.moment <= soonest), None)
            verdicts.append(_weigh(vm, level, newest, attempts.get(vm.uuid, Attempts()), now))
        for verdict in verdicts:
            if isinstance(verdict, Later):
                later.append(verdict)
            elif verdict is not None and vm.host not in online:
                left_out.append(LeftOut(vm.uuid, vm.name, vm.host, f"{vm.host} does not answer", silent=True))
            elif verdict is not None:
                due.append((_urgency(verdict, now), verdict))
    return DuePlan(
        due=tuple(found for _, found in sorted(due, key=lambda pair: pair[0])),
        later=tuple(sorted(later, key=lambda found: (found.due_at or now, found.vm, found.vm_uuid))),
        left_out=tuple(left_out),
    )


def attempts_key(vm_uuid: str, kind: PointKind) -> str:
    """By what attempts to back up a VM, or files of its guest, are told apart."""
    return vm_uuid if kind is PointKind.VM else f"guest-files:{vm_uuid}"


def _weigh_guest_files(
    settings: Settings, fleet: Fleet, vm: Vm, attempts: Mapping[str, Attempts], now: datetime
) -> Due | Later | None:
    """Whether files of a guest are due; None where nobody asks for them by themselves."""
    section = guest_files_for(settings, vm.name, host=vm.host, tags=vm.tags)
    if section is None or section.every_s is None:
        return None
    newest = next(
        (
            point
            for point in fleet.guest_points
            if point.manifest.vm.uuid == vm.uuid
            and point.manifest.guest_files is not None
            and point.manifest.guest_files.section == section.name
            and point.manifest.moment <= now + timedelta(seconds=CLOCKS_DIFFER_S)
        ),
        None,
    )
    asked = Level(f"files: {section.name}", section.every_s, section.every_s)
    tried = attempts.get(attempts_key(vm.uuid, PointKind.GUEST), Attempts())
    return replace(_weigh(vm, asked, newest, tried, now), kind=PointKind.GUEST)


def due_age_s(level: Level, vm_uuid: str, took_s: float = 0.0) -> float:
    """Return the age in seconds at which a VM's newest point is to be followed by another; it took `took_s` to make."""
    share = EARLIEST_SHARE + (LATEST_SHARE - EARLIEST_SHARE) * _fraction(vm_uuid)
    return max(SHORTEST_SHARE * level.rpo_s, min(share * level.rpo_s, level.rpo_s - 2 * took_s))


def wait_s(level: Level, failed: int) -> float:
    """Return how many seconds pass before the next attempt after that many failed ones in a row."""
    longest = max(FIRST_WAIT_S, min(LONGEST_WAIT_S, level.rpo_s / 2))
    return min(longest, FIRST_WAIT_S * 2.0 ** min(failed - 1, 30)) if failed else 0.0


def _weigh(vm: Vm, level: Level, newest: Point | None, tried: Attempts, now: datetime) -> Due | Later:
    moment = newest.manifest.moment if newest else None
    due_at = now
    if newest is not None:
        took_s = (newest.manifest.finished - newest.manifest.moment).total_seconds()
        due_at = newest.manifest.moment + timedelta(seconds=due_age_s(level, vm.uuid, max(0.0, took_s)))
    if tried.job is not None:
        return Later(vm.uuid, vm.name, vm.host, level.name, None, f"job {tried.job} sees to it")
    if due_at > now:
        return Later(vm.uuid, vm.name, vm.host, level.name, due_at, "its newest point is new enough")
    if tried.failed and tried.last is not None:
        again_at = tried.last + timedelta(seconds=wait_s(level, tried.failed))
        if again_at > now:
            times = "the last attempt" if tried.failed == 1 else f"the last {tried.failed} attempts"
            why = f"{times} failed" + (f" (job {tried.last_job})" if tried.last_job else "")
            return Later(vm.uuid, vm.name, vm.host, level.name, again_at, why, tried.failed)
    return Due(vm.uuid, vm.name, vm.host, level, moment, _why(level, moment, now))


def _why(level: Level, moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return "no recovery point of it can be reached"
    used = round(100 * (now - moment).total_seconds() / level.rpo_s)
    return f"late: {used} % of its RPO is over" if used > 100 else f"{used} % of its RPO is over"


def _urgency(due: Due, now: datetime) -> tuple[bool, float, str, str]:
    if due.newest is None:
        return (False, float(due.level.rpo_s), due.vm, due.vm_uuid)
    return (True, -(now - due.newest).total_seconds() / due.level.rpo_s, due.vm, due.vm_uuid)


def _fraction(vm_uuid: str) -> float:
    """Return a number from 0 to 1 that is the same for a VM wherever and whenever it is asked for."""
    return int.from_bytes(hashlib.sha256(vm_uuid.encode()).digest()[:8]) / 2**64
