"""How much would be lost if a VM's host died now, held against what its level accepts."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from engine.fleet import (
    Fleet,
    ProofStanding,
    ProofState,
    gone_vms,
    known_vms,
    points_by_vm,
    proof_standing,
    proofs_by_vm,
    was_removed,
)
from engine.hosts.model import Vm
from engine.repository.model import Point, VmFacts
from engine.repository.proofs import ProofMark
from engine.requirements.levels import excluded_by, level_of
from engine.settings import Level, Settings


class ExposureState(StrEnum):
    """Where a VM stands against its level, the worst first."""

    NEVER = "never"
    """It has no recovery point: everything would be lost."""
    LATE = "late"
    """Its newest recovery point is older than its level accepts."""
    UNPROTECTED = "unprotected"
    """It has no level, so nothing tells how old its newest recovery point may be."""
    UNKNOWN = "unknown"
    """No recovery point was found, and not every repository could be looked into."""
    OK = "ok"
    EXCLUDED = "excluded"
    """The settings exclude it: nothing is asked of its recovery points, on purpose."""
    GONE = "gone"
    """No host has it, and the one it was on answers: it was removed, and only its recovery points remain."""


_WORST_FIRST = tuple(ExposureState)


class Exposure(Struct, frozen=True):
    """One VM against its level."""

    vm_uuid: str
    vm: str
    host: str
    """Where it was seen; for a VM that no host showed, where its newest recovery point was made."""
    level: Level | None
    newest: datetime | None
    """Moment of its newest recovery point that can be reached."""
    age_s: float | None
    """How long ago that was: the exposure."""
    state: ExposureState
    points: int = 0
    """How many recovery points can be reached."""
    excluded_by: str | None = None
    """The rule that excludes it, in the words of the settings; it has no level then."""
    proof: ProofStanding = ProofStanding(ProofState.NOT_ASKED)
    """How far it is proven that its recovery points bring it back."""

    @property
    def due_in_s(self) -> float | None:
        """Seconds until the newest point is too old, negative if it is; None where no level or no point says."""
        if self.level is None or self.age_s is None:
            return None
        return self.level.rpo_s - self.age_s


def exposures(settings: Settings, fleet: Fleet, now: datetime) -> tuple[Exposure, ...]:
    """Return the exposure of every VM that a host or a recovery point knows, the worst first."""
    points, proofs = points_by_vm(fleet), proofs_by_vm(fleet)
    all_reachable = all(repository.reachable for repository in fleet.repositories)
    found: list[Exposure] = []
    for vm in known_vms(fleet):
        exposure = _exposure(settings, vm, points.get(vm.uuid, ()), now, all_reachable)
        found.append(_with_proof(exposure, proofs.get(vm.uuid, ()), now))
    for facts in gone_vms(fleet):
        exposure = _exposure(settings, facts, points[facts.uuid], now, all_reachable)
        exposure = _with_proof(exposure, proofs.get(facts.uuid, ()), now)
        removed = was_removed(fleet, facts)
        found.append(replace(exposure, state=ExposureState.GONE) if removed else exposure)
    return tuple(sorted(found, key=_urgency))


def worst_per_host(found: tuple[Exposure, ...]) -> dict[str, Exposure]:
    """Return the worst exposure on each host that has any VM, removed ones left out."""
    worst: dict[str, Exposure] = {}
    for exposure in sorted(found, key=_urgency):
        if exposure.state is not ExposureState.GONE:
            worst.setdefault(exposure.host, exposure)
    return worst


def _exposure(
    settings: Settings, vm: Vm | VmFacts, points: tuple[Point, ...], now: datetime, all_reachable: bool
) -> Exposure:
    excluded = excluded_by(settings, vm)
    level = None if excluded else level_of(settings, vm)
    newest = points[0].manifest.moment if points else None
    # A host whose clock is ahead makes points of the future; they are as new as a point can be, not newer.
    age_s = max(0.0, (now - newest).total_seconds()) if newest else None
    return Exposure(
        vm_uuid=vm.uuid,
        vm=vm.name,
        host=vm.host,
        level=level,
        newest=newest,
        age_s=age_s,
        state=ExposureState.EXCLUDED if excluded else _state(level, age_s, all_reachable),
        points=len(points),
        excluded_by=excluded,
    )


def _with_proof(exposure: Exposure, proofs: tuple[ProofMark, ...], now: datetime) -> Exposure:
    return replace(exposure, proof=proof_standing(proofs, exposure.level, now))


def _state(level: Level | None, age_s: float | None, all_reachable: bool) -> ExposureState:
    if level is None:
        return ExposureState.UNPROTECTED
    if age_s is None:
        return ExposureState.NEVER if all_reachable else ExposureState.UNKNOWN
    if age_s > level.rpo_s:
        # A newer point may lie in the silent repository; but what cannot be reached cannot be restored now.
        return ExposureState.LATE
    return ExposureState.OK


def _urgency(exposure: Exposure) -> tuple[int, float, str, str]:
    due_in_s = exposure.due_in_s
    age_s = exposure.age_s
    soonest = due_in_s if due_in_s is not None else -(age_s if age_s is not None else float("inf"))
    return (_WORST_FIRST.index(exposure.state), soonest, exposure.vm, exposure.vm_uuid)
