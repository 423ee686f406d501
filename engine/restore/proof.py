"""What a test says about its recovery point."""

from __future__ import annotations

from datetime import UTC, datetime

from engine.repository import Point, Proof, ProofVerdict
from engine.restore.journal import Entry
from engine.restore.model import Mode


def proof_of(entry: Entry, point: Point) -> Proof | None:
    """The proof that a restore is, once it is over; None for one that was no test, or no test of the whole point."""
    request = entry.request
    if request.mode is not Mode.TEST or not request.start or entry.lost:
        return None
    if not point.manifest.vm.agent:
        verdict = ProofVerdict.STARTED
    else:
        verdict = ProofVerdict.SILENT if entry.agent_answered_s is None else ProofVerdict.ANSWERED
    return Proof(
        vm=point.manifest.vm.name,
        vm_uuid=point.manifest.vm.uuid,
        point_id=point.id,
        at=entry.finished or datetime.now(UTC),
        verdict=verdict,
        host=request.to_host,
        boot_s=entry.agent_answered_s,
        operator=request.operator,
        restore_id=entry.id,
        warnings=entry.warnings,
    )
