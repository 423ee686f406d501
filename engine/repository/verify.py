"""Looks whether everything in a repository is as it was written, and says which recovery points are hurt.

1. Small objects: every manifest, index file, record and lease is read and checked; packs are listed.
2. Maps: every map of every point is walked, what versions share once. Each node is read and checked; each block must be
   indexed in a pack that is there with its exact size. This much is the *quick* verification.
3. Packs: all of them (*full*), or some (*sample*), are read to the last byte, several at once. Those go first that were
   found sound longest ago, or never. Packs known to be damaged are read again whatever was asked for: somebody may
   have brought them back.
4. If anything is wrong, 1 and 2 are done once more with what is known now: a collector at work beside removes objects,
   and what it removed is no finding. What then is lost is named range by range.
5. What was found is written down: every batch of packs while they are read, the findings at the end.

It needs no lease: it only reads, and creates records under names of its own. Beside a writer it is a reader like any
other. Two verifications at once do the same work twice and harm nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from engine.repository.block_evidence import BlockEvidence
from engine.repository.condemned import readable_condemned
from engine.repository.damage import disk_losses
from engine.repository.identity import IDENTITY_KEY, Identity
from engine.repository.keys import Keys
from engine.repository.storage import Storage
from engine.repository.verify_findings import findings_of, gone_since
from engine.repository.verify_history import PREFIX as VERIFY_RECORDS
from engine.repository.verify_history import History, OpenRun, VerifyLog, now_utc, read_history
from engine.repository.verify_model import (
    DiskLoss,
    Extent,
    Stage,
    Verification,
    VerifyLimits,
    VerifyPlan,
    VerifyProgress,
    VerifyRequest,
)
from engine.repository.verify_order import packs_to_read
from engine.repository.verify_reading import read_packs
from engine.repository.verify_structure import View, check_records, look

Progress = Callable[[VerifyProgress], None]
LOOKS = 3
TELL_EVERY = 64
USUAL_VERIFY_LIMITS = VerifyLimits()


class Verifier:
    """One verification. Use it once; `plan` may be asked before."""

    def __init__(
        self,
        storage: Storage,
        identity: Identity,
        repository: str,
        request: VerifyRequest,
        limits: VerifyLimits,
        clock: Callable[[], datetime] = now_utc,
        keys: Keys | None = None,
    ) -> None:
        self._storage = storage
        self._keys = keys
        self._identity = identity
        self._repository = repository
        self._request = request
        self._limits = limits
        self._clock = clock
        self._tell: Progress = lambda progress: None
        self._met = 0
        self._damaged = 0
        self._bytes_read = 0

    def plan(self) -> VerifyPlan:
        """What `run` would read."""
        view = look(self._storage, self._repository, keys=self._keys)
        history = self._history()
        chosen = packs_to_read(view.packs, history, self._request)
        ages = [history.sound_at(pack) for pack in view.packs]
        known = [age for age in ages if age is not None]
        resumed = self._resumed(history)
        return VerifyPlan(
            extent=self._request.extent,
            points=len(view.point_keys),
            packs=len(view.packs),
            packs_to_read=len(chosen),
            bytes_to_read=sum(view.packs[pack] for pack in chosen),
            resumes=resumed.began if resumed else None,
            never_read=len(ages) - len(known),
            oldest=min(known, default=None),
        )

    def run(self, tell: Progress = lambda progress: None) -> Verification:
        """Verify. Raises `NewhopeError` where the storage as a whole does not answer."""
        self._tell = tell
        began = self._clock()
        history = self._history()
        resumed = self._resumed(history)
        limits = self._limits
        log = VerifyLog(
            self._storage, self._request.extent, resumed, limits.batch_packs, limits.batch_s, self._clock, self._keys
        )
        records, small = check_records(self._storage, self._object_met, self._keys)
        view = look(self._storage, self._repository, self._object_met, self._keys)
        self._damaged = len(small) + len(view.findings)
        losses, evidence = self._walk(view, {})
        self._damaged += len(evidence.wrong)
        chosen = packs_to_read(view.packs, history, self._request)
        suspects, gone = self._read(view, chosen, log)
        if losses or suspects or gone or evidence.wrong or evidence.unindexed:
            view, losses, evidence = self._look_again(suspects)
            for pack in (evidence.wrong.keys() & view.packs.keys()) - suspects.keys():
                log.add(pack, evidence.wrong[pack])
        wrong = {**evidence.wrong, **{pack: what for pack, what in suspects.items() if pack in view.packs}}
        seen = (*view.point_keys, *(key for key in records if not key.startswith(VERIFY_RECORDS)))
        findings = (
            *findings_of(
                view, losses, wrong, len(evidence.unindexed), small, set(readable_condemned(self._storage, self._keys))
            ),
            *gone_since(history, seen),
        )
        log.close(findings, seen, set(view.packs), self._history())
        return Verification(
            repository=self._repository,
            extent=self._request.extent,
            began=began,
            finished=self._clock(),
            points=len(view.point_keys),
            packs=len(view.packs),
            packs_read=len(chosen),
            bytes_read=self._bytes_read,
            resumed=resumed.began if resumed else None,
            findings=findings,
            losses=losses,
            unrecorded=log.unwritten,
        )

    def _walk(self, view: View, suspects: dict[bytes, str]) -> tuple[tuple[DiskLoss, ...], BlockEvidence]:
        evidence = BlockEvidence(self._storage, view.index, view.packs, view.indexed, suspects, self._keys)

        def step(done: int, total: int) -> None:
            self._tell(VerifyProgress(Stage.MAPS, done, total, self._damaged + len(evidence.wrong)))

        block_bytes = self._identity.block_bytes
        losses = tuple(disk_losses(view.points, block_bytes, evidence.node, evidence.culprits, step))
        if losses or evidence.wrong:
            # Of a storage that went away meanwhile, nothing may be called damaged.
            self._storage.read(IDENTITY_KEY)
        return losses, evidence

    def _look_again(self, suspects: dict[bytes, str]) -> tuple[View, tuple[DiskLoss, ...], BlockEvidence]:
        """What is lost when nothing is deleted or moved between two looks, or at the last of a few."""
        view = look(self._storage, self._repository, keys=self._keys)
        losses, evidence = self._walk(view, suspects)
        for _ in range(LOOKS):
            after = look(self._storage, self._repository, keys=self._keys)
            if view.same_objects(after) or not (losses or evidence.wrong):
                break
            view = after
            losses, evidence = self._walk(view, suspects)
        return view, losses, evidence

    def _read(self, view: View, chosen: tuple[bytes, ...], log: VerifyLog) -> tuple[dict[bytes, str], bool]:
        """Read packs; the damaged ones with what is wrong, and whether any was gone."""
        suspects: dict[bytes, str] = {}
        gone = False
        total = sum(view.packs[pack] for pack in chosen)
        self._tell(VerifyProgress(Stage.PACKS, 0, total, self._damaged))
        sized = ((pack, view.packs[pack]) for pack in chosen)
        try:
            for verdict in read_packs(self._storage, view.index, sized, self._limits, self._keys):
                self._bytes_read += verdict.size_bytes
                if verdict.gone:
                    gone = True
                    continue
                if verdict.what is not None:
                    suspects[verdict.pack] = verdict.what
                    self._damaged += 1
                log.add(verdict.pack, verdict.what)
                self._tell(VerifyProgress(Stage.PACKS, self._bytes_read, total, self._damaged))
        finally:
            # Also when interrupted: these packs need not be read again.
            log.write()
        return suspects, gone

    def _history(self) -> History:
        return read_history(self._storage, self._clock(), self._limits.resume_days, self._keys)

    def _resumed(self, history: History) -> OpenRun | None:
        full = self._request.extent is Extent.FULL and not self._request.anew
        return history.open_run if full else None

    def _object_met(self) -> None:
        self._met += 1
        if self._met % TELL_EVERY == 0:
            self._tell(VerifyProgress(Stage.OBJECTS, self._met, 0, self._damaged))
