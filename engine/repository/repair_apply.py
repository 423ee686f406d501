"""A repair at work: the steps of a plan, in order, each after another look whether it is still needed.

Between the plan and now somebody may have brought an object back, or another repair may have got as far as it could.
What fails in one step stops the others only where nothing more can be stored, or the lease is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from engine.errors import NewhopeError, NoSpace
from engine.repository.block_store import BlockStore
from engine.repository.condemned import condemn
from engine.repository.errors import LeaseLost, ObjectMissing
from engine.repository.guards import PREFIX as GUARDS
from engine.repository.guards import pin
from engine.repository.healing import unfinished
from engine.repository.lease import HeldLease
from engine.repository.model import Point, WriterLimits
from engine.repository.pack import pack_id_of
from engine.repository.quarantine import set_aside
from engine.repository.repair_blocks import LostBlocks
from engine.repository.repair_ground import Ground
from engine.repository.repair_index import index_anew
from engine.repository.repair_model import DoneRepair, Phase, Remedy, RepairPlan, RepairProgress, RepairStep
from engine.repository.repair_objects import find_cure, finish_healing, heal, is_sound, prefix_of
from engine.repository.repair_packs import PackSurvey, only_there, store_again, survey_pack
from engine.repository.repair_source import Source
from engine.repository.verify_model import Verification

Tell = Callable[[RepairProgress], None]
INDEX = "index/"
STAND_IN = "stands in for a guard that could not be read"


class RepairRun:
    """One repair under way. For one thread."""

    def __init__(
        self,
        ground: Ground,
        lease: HeldLease,
        limits: WriterLimits,
        sources: Sequence[Source],
        plan: RepairPlan,
        tell: Tell,
    ) -> None:
        self._ground = ground
        self._lease = lease
        self._limits = limits
        self._sources = sources
        self._plan = plan
        self._tell = tell
        self.done: list[DoneRepair] = []
        self.rescued_blocks = self.fetched_blocks = self.stored_bytes = 0

    def heal_objects(self) -> None:
        """Bring small objects back, and set those aside that cannot be."""
        steps = [step for step in self._steps(Remedy.HEAL, Remedy.SET_ASIDE) if prefix_of(step.object) != INDEX]
        for number, step in enumerate(steps):
            self._tell(RepairProgress(Phase.OBJECTS, number, len(steps)))
            work = self._healed if step.remedy is Remedy.HEAL else self._set_aside
            self._do(step, work)

    def mend_index(self) -> None:
        """Set damaged index files aside, and index what no other tells of."""
        for step in self._steps(Remedy.SET_ASIDE):
            if prefix_of(step.object) == INDEX:
                self._do(step, self._set_aside)
        for step in self._steps(Remedy.REINDEX):
            self._tell(RepairProgress(Phase.INDEX, 0, 0))
            self._do(step, self._indexed)

    def quarantine_packs(self) -> None:
        """Condemn damaged packs first, all at once, then store again what is sound in them only."""
        steps = self._steps(Remedy.QUARANTINE)
        if not steps:
            return
        self._ground.look()
        found: list[tuple[RepairStep, PackSurvey]] = []
        for number, step in enumerate(steps):
            self._tell(RepairProgress(Phase.PACKS, number, 2 * len(steps)))
            survey = self._still_damaged(step)
            if survey is not None:
                found.append((step, survey))
        self._condemn([survey.pack for _, survey in found])
        for number, (step, survey) in enumerate(found):
            self._tell(RepairProgress(Phase.PACKS, len(found) + number, 2 * len(found)))
            self._do(step, lambda step, survey=survey: self._rescued(survey.pack))

    def fetch_blocks(self, found: Verification) -> None:
        """Store what other repositories have of what is lost now."""
        if not found.losses:
            return
        step = next(iter(self._steps(Remedy.FETCH)), None) or RepairStep(
            Remedy.FETCH, "packs/", "blocks that points need are lost", "they are fetched", "nothing is replaced"
        )
        self._do(step, lambda step: self._fetched(found))

    def forget_missing(self, found: Verification) -> None:
        """Let the index forget packs that are gone and that nothing needs."""
        needed = {key for loss in found.losses for key in loss.objects}
        steps = [step for step in self._steps(Remedy.FORGET) if step.object not in needed]
        if not steps:
            return
        self._ground.look()
        packs = {pack for step in steps if (pack := pack_id_of(step.object)) and pack not in self._ground.packs}

        def forget(step: RepairStep) -> str:
            self._lease.check()
            self._ground.index.forget(packs)
            return "forgotten"

        for step in steps:
            self._do(step, forget)

    def _steps(self, *remedies: Remedy) -> list[RepairStep]:
        return [step for step in self._plan.steps if step.remedy in remedies]

    def _do(self, step: RepairStep, work: Callable[[RepairStep], str]) -> None:
        try:
            outcome = work(step)
        except (LeaseLost, NoSpace):
            raise
        except NewhopeError as error:
            self.done.append(DoneRepair(step, f"{error.what} {error.next_step}".strip(), failed=True))
        else:
            self.done.append(DoneRepair(step, outcome))

    def _healed(self, step: RepairStep) -> str:
        key = step.object
        if key in unfinished(self._ground.storage):
            if finish_healing(self._ground, key, self._lease.check):
                return "brought back"
            if is_sound(self._ground, key):
                return "it was brought back already"
        if is_sound(self._ground, key):
            return "it is sound by now"
        cure = find_cure(self._ground, key, self._sources)
        if cure is None:
            return "its content is no longer where it was; nothing was changed"
        heal(self._ground, key, cure.content, self._lease.check)
        return f"brought back from {cure.source}"

    def _set_aside(self, step: RepairStep) -> str:
        key, storage = step.object, self._ground.storage
        if prefix_of(key) != INDEX and is_sound(self._ground, key):
            return "it is sound by now"
        try:
            if prefix_of(key) == GUARDS:
                self._pin_instead(key)
            return f"moved to {set_aside(storage, key, self._lease.check)}"
        except ObjectMissing:
            return "it is gone already"

    def _pin_instead(self, guard_key: str) -> None:
        _, vm_uuid, name = guard_key.split("/", 2)
        for point in self._points(vm_uuid):
            if point.id == name.partition("-")[0]:
                pin(self._ground.storage, point, STAND_IN, "newhope repo repair", self._ground.keys)

    def _indexed(self, step: RepairStep) -> str:
        self._lease.check()
        self._ground.look()
        packs, blocks = index_anew(self._ground)
        return f"{packs} packs with {blocks} blocks indexed anew"

    def _still_damaged(self, step: RepairStep) -> PackSurvey | None:
        pack = pack_id_of(step.object)
        if pack is None or pack not in self._ground.packs:
            self.done.append(DoneRepair(step, "it is gone"))
            return None
        survey = survey_pack(self._ground, pack)
        if survey.sound:
            self.done.append(DoneRepair(step, "it is sound by now"))
            return None
        return survey

    def _condemn(self, packs: Iterable[bytes]) -> None:
        new = [pack for pack in packs if pack not in self._ground.condemned]
        if new:
            self._lease.check()
            condemn(self._ground.storage, new, self._ground.keys)
        self._ground.look()

    def _rescued(self, pack: bytes) -> str:
        survey = survey_pack(self._ground, pack)
        stored = self._stored(lambda store: store_again(self._ground, survey, only_there(self._ground, survey), store))
        self.rescued_blocks += stored
        return f"condemned; {stored} blocks stored again"

    def _fetched(self, found: Verification) -> str:
        self._ground.look()

        def fetch(store: BlockStore) -> int:
            search = LostBlocks(self._ground, {}, self._sources, store.store)
            search.remaining(found.losses, self._points())
            return search.blocks

        fetched = self._stored(fetch)
        self.fetched_blocks += fetched
        return f"{fetched} blocks stored"

    def _stored(self, work: Callable[[BlockStore], int]) -> int:
        """Do what stores blocks, in packs of this repair; how many."""
        ground = self._ground
        ground.index.spare(ground.condemned | ground.damaged)
        store = BlockStore(ground.storage, ground.index, self._limits, bytes.fromhex(self._lease.id), ground.keys)
        try:
            count = work(store)
            store.finish()
        except BaseException as error:
            store.fail(error)
            store.abandon()
            raise
        self.stored_bytes += store.durable_bytes
        return count

    def _points(self, vm_uuid: str = "") -> list[Point]:
        return self._ground.points(vm_uuid)
