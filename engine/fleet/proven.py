"""How far each VM is proven to come back: its newest proof, held against what its level asks."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from engine.fleet.model import Fleet
from engine.repository.proofs import ProofMark, ProofOutcome
from engine.settings import Level


class ProofState(StrEnum):
    """Where a VM stands, the worst first."""

    FAILED = "failed"
    """The newest proof of it failed, whether its level asks for proofs or not."""
    NEVER = "never proven"
    LATE = "proven too long ago"
    OPEN = "not conclusive"
    """The newest proof could not tell."""
    NOT_ASKED = "not asked for"
    """It was never proven, and its level asks for no proofs."""
    PROVEN = "proven"


class ProofStanding(Struct, frozen=True):
    """One VM's newest proof against its level."""

    state: ProofState
    last: ProofMark | None = None
    age_s: float | None = None
    failed: int = 0
    """How many proofs in a row failed, up to the newest."""

    @property
    def alarming(self) -> bool:
        """Whether somebody should do something about it."""
        return self.state in (ProofState.FAILED, ProofState.NEVER, ProofState.LATE)


def proofs_by_vm(fleet: Fleet) -> dict[str, tuple[ProofMark, ...]]:
    """Return every proof that is kept in a repository that can be read, by the UUID of its VM, newest first."""
    found: dict[str, list[ProofMark]] = {}
    for view in fleet.repositories:
        for mark in view.proofs:
            found.setdefault(mark.vm_uuid, []).append(mark)
    return {vm: tuple(sorted(marks, key=lambda mark: mark.at, reverse=True)) for vm, marks in found.items()}


def proof_standing(proofs: tuple[ProofMark, ...], level: Level | None, now: datetime) -> ProofStanding:
    """Return where a VM stands by its proofs, newest first.

    A proof of an earlier point counts for the VM: what is proven is that its backups come back, not one of them.
    """
    every_s = level.prove_every_s if level is not None else None
    if not proofs:
        return ProofStanding(ProofState.NOT_ASKED if every_s is None else ProofState.NEVER)
    last = proofs[0]
    age_s = max(0.0, (now - last.at).total_seconds())
    outcome = last.verdict.outcome
    failed = next((n for n, mark in enumerate(proofs) if mark.verdict.outcome is not ProofOutcome.FAILED), len(proofs))
    state = ProofState.PROVEN
    if outcome is ProofOutcome.FAILED:
        state = ProofState.FAILED
    elif every_s is not None and age_s > every_s:
        state = ProofState.LATE
    elif outcome is ProofOutcome.OPEN:
        state = ProofState.OPEN
    return ProofStanding(state, last, age_s, failed)
