"""Repair: what is damaged is replaced, quarantined, found elsewhere, or named as lost. Plan, show, apply.

 1. *Look.* A verification of its own, quick or full; packs that an earlier one found damaged are read again. What is to
    be done follows from what it finds (`repair_plan`), and every remedy is tried out by reading before it is shown.
 2. *Small objects* are brought back from where their own content still is, or set aside (`repair_objects`).
 3. *Index files* that are damaged, or that lie, are set aside; packs that no sound one tells of are indexed anew.
 4. *Damaged packs* are condemned, and what is sound in them and nowhere else is stored again (`repair_packs`).
 5. *Lost blocks* are fetched from other repositories (`repair_blocks`).
 6. *Look again*, quickly: what is lost now stays lost until the next backup meets its content, or another repair finds
    it. The index forgets packs that are gone and no longer needed.

Why nothing sound is lost, whenever it is killed. Packs are never deleted here, and never changed: a damaged one is
condemned, which only keeps writers from leaning on it, and deleting it is left to a collection, with all its proofs.
Anything else that makes room for its own sound content, or is set aside, is first copied to `quarantine/`. Each step
looks anew whether it is still needed, and may be done twice.

It holds a collector's lease. So no collector runs beside it, which might delete a pack whose blocks it copies, and
whose condemnations it might bring back. Writers and readers go on: it takes away only what they cannot read, and what
it adds is what they would add. It deletes no manifest, guard, condemnation, pending point or lease that can be read.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

import msgspec

from engine.errors import NewhopeError
from engine.repository.collection import Collector
from engine.repository.frame import FrameKind, encode_frame
from engine.repository.identity import Identity
from engine.repository.keys import Keys
from engine.repository.model import WriterLimits
from engine.repository.repair_apply import RepairRun, Tell
from engine.repository.repair_ground import Ground
from engine.repository.repair_model import Phase, RepairPlan, RepairProgress, RepairReport, RepairRequest
from engine.repository.repair_plan import plan_repair
from engine.repository.repair_source import Source
from engine.repository.storage import Storage
from engine.repository.verify import USUAL_VERIFY_LIMITS, Verifier
from engine.repository.verify_model import Extent, Verification, VerifyLimits, VerifyProgress, VerifyRequest

RECORDS = "records/repairs/"


def _silent(progress: RepairProgress) -> None:
    """Nobody watches."""


class Repairer:
    """Plans repairs of one repository, and carries them out."""

    def __init__(
        self,
        storage: Storage,
        identity: Identity,
        repository: str,
        owner: str,
        sources: Sequence[Source],
        limits: WriterLimits,
        verify_limits: VerifyLimits = USUAL_VERIFY_LIMITS,
        keys: Keys | None = None,
    ) -> None:
        self._storage = storage
        self._identity = identity
        self._repository = repository
        self._owner = owner
        self._sources = sources
        self._limits = limits
        self._verify_limits = verify_limits
        self._keys = keys

    def plan(self, request: RepairRequest, tell: Tell = _silent) -> RepairPlan:
        """Look what is damaged, and say what would be done. Changes nothing, but what it found is kept as a record."""
        found = self._verified(request.extent, Phase.LOOK, tell)
        return plan_repair(self._ground(), found, request, self._sources)

    def apply(self, plan: RepairPlan, tell: Tell = _silent) -> RepairReport:
        """Do what a plan says, as far as it is still needed. Raises `Conflict` beside a collection or a repair."""
        began = datetime.now(UTC)
        with Collector(self._storage, self._identity, self._owner, self._limits, self._keys) as collector:
            run = RepairRun(self._ground(), collector.lease, self._limits, self._sources, plan, tell)
            run.heal_objects()
            run.mend_index()
            run.quarantine_packs()
            if self._sources:
                run.fetch_blocks(self._verified(Extent.QUICK, Phase.FETCH, tell))
            found = self._verified(Extent.QUICK, Phase.CHECK, tell)
            run.forget_missing(found)
        report = RepairReport(
            repository=self._repository,
            began=began,
            finished=datetime.now(UTC),
            done=tuple(run.done),
            rescued_blocks=run.rescued_blocks,
            fetched_blocks=run.fetched_blocks,
            stored_bytes=run.stored_bytes,
            findings=found.findings,
            losses=found.losses,
            left=plan.left,
        )
        self._keep(report)
        return report

    def _ground(self) -> Ground:
        return Ground(self._storage, self._identity, self._keys)

    def _verified(self, extent: Extent, phase: Phase, tell: Tell) -> Verification:
        def told(progress: VerifyProgress) -> None:
            tell(RepairProgress(phase, progress.done, progress.total))

        request = VerifyRequest(extent)
        limits, keys = self._verify_limits, self._keys
        return Verifier(self._storage, self._identity, self._repository, request, limits, keys=keys).run(told)

    def _keep(self, report: RepairReport) -> None:
        if not report.done:
            return
        key = f"{RECORDS}{report.began:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}.json"
        with suppress(NewhopeError):
            # A report that cannot be kept takes nothing from what was done.
            self._storage.create(key, encode_frame(key, FrameKind.RECORD, msgspec.json.encode(report), self._keys))
