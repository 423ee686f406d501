"""Which VMs are to be proven now, in which order, and when the others will be. Pure.

A VM whose level says `prove_every` is due when nine tenths of that time are over since its newest proof, or when there
is none; what is proven is its newest recovery point. Proofs that were missed are simply due: nothing is remembered but
the proofs, which are kept with the points.

After a proof that failed, and after an attempt that did not come to a proof, the next one waits: an hour, then twice as
long each time, and no longer than the level's own interval. The last word of a guest without an agent is not
conclusive; it counts, for the next one would say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from msgspec import Struct

from engine.fleet import (
    Fleet,
    ProofStanding,
    gone_vms,
    known_vms,
    points_by_vm,
    proof_standing,
    proofs_by_vm,
    was_removed,
)
from engine.hosts.model import Vm
from engine.repository.model import Point, VmFacts
from engine.requirements.due import Attempts, Later, LeftOut
from engine.requirements.levels import excluded_by, level_of
from engine.settings import Settings

DUE_SHARE = 0.9
FIRST_WAIT_S = 3600


class ProofDue(Struct, frozen=True):
    """A VM whose newest recovery point is to be proven now."""

    vm_uuid: str
    vm: str
    host: str
    """Where the VM is; its point is proven wherever there is a place."""
    point_id: str
    repository: str
    moment: datetime
    level: str
    last: datetime | None
    """When its newest proof was."""
    why: str


class ProofPlan(Struct, frozen=True):
    """Every VM that a host or a recovery point knows and whose level asks for proofs, in one of three lists."""

    due: tuple[ProofDue, ...]
    """The worst first: those that were never proven, then by how much of their interval is over."""
    later: tuple[Later, ...]
    """The next first."""
    left_out: tuple[LeftOut, ...]


def plan_proofs(settings: Settings, fleet: Fleet, attempts: Mapping[str, Attempts], now: datetime) -> ProofPlan:
    """Return what is to be proven at `now`; `attempts` by the VM's UUID, which may be missing.

    A VM whose host is silent is due like any other: its points can be proven elsewhere, and may soon be needed.
    """
    points, proofs = points_by_vm(fleet), proofs_by_vm(fleet)
    due: list[tuple[tuple[bool, float, str, str], ProofDue]] = []
    later: list[Later] = []
    left_out: list[LeftOut] = []
    for vm in _protected(settings, fleet):
        level = level_of(settings, vm)
        every_s = level.prove_every_s if level is not None else None
        if level is None or every_s is None:
            continue
        newest = next(iter(points.get(vm.uuid, ())), None)
        if newest is None:
            left_out.append(LeftOut(vm.uuid, vm.name, vm.host, "no recovery point of it can be reached"))
            continue
        standing = proof_standing(proofs.get(vm.uuid, ()), level, now)
        verdict = _weigh(newest, vm, level.name, every_s, standing, attempts.get(vm.uuid, Attempts()), now)
        if isinstance(verdict, Later):
            later.append(verdict)
        else:
            due.append((_urgency(verdict, every_s, now), verdict))
    return ProofPlan(
        due=tuple(found for _, found in sorted(due, key=lambda pair: pair[0])),
        later=tuple(sorted(later, key=lambda found: (found.due_at or now, found.vm, found.vm_uuid))),
        left_out=tuple(left_out),
    )


def wait_after_failures_s(every_s: float, failed: int) -> float:
    """Return how many seconds pass before the next attempt after that many failed ones in a row."""
    return min(every_s, FIRST_WAIT_S * 2.0 ** min(failed - 1, 30)) if failed else 0.0


def _protected(settings: Settings, fleet: Fleet) -> list[Vm | VmFacts]:
    hidden = [facts for facts in gone_vms(fleet) if not was_removed(fleet, facts)]
    return [vm for vm in (*known_vms(fleet), *hidden) if excluded_by(settings, vm) is None]


def _weigh(
    newest: Point, vm: Vm | VmFacts, level: str, every_s: int, standing: ProofStanding, tried: Attempts, now: datetime
) -> ProofDue | Later:
    if tried.job is not None:
        return Later(vm.uuid, vm.name, vm.host, level, None, f"job {tried.job} sees to it")
    last = standing.last.at if standing.last is not None else None
    failed, again_at = _failures(every_s, standing, tried)
    if again_at is not None and again_at > now:
        times = "the last attempt" if failed == 1 else f"the last {failed} attempts"
        why = f"{times} failed" + (f" (job {tried.last_job})" if tried.last_job else "")
        return Later(vm.uuid, vm.name, vm.host, level, again_at, why, failed)
    if not failed and last is not None:
        due_at = last + timedelta(seconds=DUE_SHARE * every_s)
        if due_at > now:
            return Later(vm.uuid, vm.name, vm.host, level, due_at, "its last proof is new enough")
    why = "it was never proven"
    if standing.failed:
        why = "its last proof failed"
    elif last is not None:
        why = f"{round(100 * (now - last).total_seconds() / every_s)} % of the time between proofs is over"
    manifest = newest.manifest
    return ProofDue(vm.uuid, vm.name, vm.host, newest.id, newest.repository, manifest.moment, level, last, why)


def _failures(every_s: int, standing: ProofStanding, tried: Attempts) -> tuple[int, datetime | None]:
    """How often it failed in a row, by the proofs that are kept and by this machine's journal; until when that waits.

    A job that came to a proof that failed is in both, so that they are not added up.
    """
    waits: list[tuple[datetime, int]] = []
    if standing.failed and standing.last is not None:
        waits.append((standing.last.at, standing.failed))
    if tried.failed and tried.last is not None and (standing.last is None or tried.last >= standing.last.at):
        waits.append((tried.last, max(tried.failed, standing.failed)))
    if not waits:
        return 0, None
    last, failed = max(waits)
    return failed, last + timedelta(seconds=wait_after_failures_s(every_s, failed))


def _urgency(due: ProofDue, every_s: int, now: datetime) -> tuple[bool, float, str, str]:
    if due.last is None:
        return (False, float(every_s), due.vm, due.vm_uuid)
    return (True, -(now - due.last).total_seconds() / every_s, due.vm, due.vm_uuid)
