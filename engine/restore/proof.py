"""What a test says about its recovery point."""

from __future__ import annotations

from datetime import UTC, datetime

from engine.errors import ExitCode, NewhopeError
from engine.repository import (
    GuestCheckResult,
    GuestCheckState,
    Point,
    Proof,
    ProofVerdict,
)
from engine.restore.guest_checks import never_asked
from engine.restore.journal import Entry
from engine.restore.model import Mode
from engine.restore.steps import Step, StepKind


class NotProven(NewhopeError):
    """The guest of a recovery point was started, and was not well."""

    exit_code = ExitCode.GUEST


def verdict_of(entry: Entry, point: Point) -> ProofVerdict | None:
    """What a restore proves, once it is over; None for one that was no test, or no test of the whole point."""
    request = entry.request
    if request.mode is not Mode.TEST or not request.start or entry.lost:
        return None
    if entry.seen is not None and not entry.seen.running:
        return ProofVerdict.STOPPED
    if not point.manifest.vm.agent:
        return ProofVerdict.STARTED if entry.is_done(Step(StepKind.WATCH).key) else None
    if not entry.is_done(Step(StepKind.ASK).key):
        # Somebody cancelled it before the guest could answer.
        return None
    if entry.agent_answered_s is None:
        return ProofVerdict.SILENT
    states = {check.state for check in entry.guest_checks}
    if GuestCheckState.FAILED in states:
        return ProofVerdict.FAILED
    whole = GuestCheckState.UNABLE not in states and len(entry.guest_checks) == len(request.checks or ())
    return ProofVerdict.ANSWERED if whole else ProofVerdict.UNCHECKED


def guest_checks_of(entry: Entry, point: Point) -> tuple[GuestCheckResult, ...]:
    """What came of the checks of its level, in their order; those of a guest without an agent are shown too."""
    done = {check.name: check for check in entry.guest_checks}
    why = "it was cancelled before" if point.manifest.vm.agent else "it has no guest agent"
    return tuple(done.get(check.name) or never_asked(check, why) for check in entry.request.checks or ())


def proof_of(entry: Entry, point: Point) -> Proof | None:
    """The proof that a restore is, once it is over; None for one that proves nothing."""
    verdict = verdict_of(entry, point)
    if verdict is None:
        return None
    return Proof(
        vm=point.manifest.vm.name,
        vm_uuid=point.manifest.vm.uuid,
        point_id=point.id,
        at=entry.finished or datetime.now(UTC),
        verdict=verdict,
        host=entry.request.to_host,
        boot_s=entry.agent_answered_s,
        operator=entry.request.operator,
        restore_id=entry.id,
        warnings=entry.warnings,
        checks=guest_checks_of(entry, point),
        seen=entry.seen,
    )
