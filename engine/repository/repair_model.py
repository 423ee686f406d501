"""What a repair is asked, plans, shows while it runs, and answers."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from engine.repository.verify_model import DiskLoss, Extent, Finding


class Remedy(StrEnum):
    """What is done about one object, in the order in which a repair does it."""

    HEAL = "heal"
    """A small object's own content is put in its place; the damaged one is kept in `quarantine/`."""
    SET_ASIDE = "set aside"
    """An object that cannot be read is moved to `quarantine/`."""
    REINDEX = "index"
    """Packs that no sound index file tells of are indexed anew, from their tables or their records."""
    QUARANTINE = "quarantine"
    """A pack is condemned: nobody leans on it any more. What is sound in it, and only there, is stored again."""
    FETCH = "fetch"
    """Blocks that are lost here are read from other repositories, checked against their names, and stored."""
    FORGET = "forget"
    """The index forgets packs that are gone and that no point needs."""


class RepairRequest(Struct, frozen=True):
    """What to repair."""

    extent: Extent = Extent.QUICK
    """How much is looked at first. Packs that were found damaged before are read again in any case."""
    set_aside: bool = False
    """Also move away what cannot be read and cannot be healed, where that gives something up (the plan says what)."""


class RepairStep(Struct, frozen=True):
    """One step, as it is shown before and done afterwards."""

    remedy: Remedy
    object: str
    """Key of the object; `index/` and `packs/` for a step that is about no single one."""
    what: str
    """What is wrong, in a sentence that goes on from the key."""
    does: str
    """What is done about it."""
    keeps: str
    """What becomes of the original."""
    size_bytes: int = 0
    """What will be stored for it."""


class LeftAlone(Struct, frozen=True):
    """Something damaged that this repair leaves as it is."""

    object: str
    what: str
    remedy: str
    """What somebody can do about it."""


class RepairPlan(Struct, frozen=True):
    """Everything that a repair will do, and what stays lost nevertheless."""

    repository: str
    request: RepairRequest
    steps: tuple[RepairStep, ...]
    left: tuple[LeftAlone, ...]
    losses: tuple[DiskLoss, ...]
    """What cannot be restored even after all steps."""

    @property
    def size_bytes(self) -> int:
        """Room that the steps take, less what compression spares."""
        return sum(step.size_bytes for step in self.steps)


class Phase(StrEnum):
    """What a repair is doing."""

    LOOK = "look what is damaged"
    OBJECTS = "heal small objects"
    INDEX = "index packs anew"
    PACKS = "quarantine damaged packs"
    FETCH = "fetch lost blocks"
    CHECK = "look what stays lost"


class RepairProgress(Struct, frozen=True):
    """How far a repair is in a phase: objects, packs or blocks done, of how many (0 where that is not known)."""

    phase: Phase
    done: int
    total: int


class DoneRepair(Struct, frozen=True):
    """A step and what came of it."""

    step: RepairStep
    outcome: str
    failed: bool = False


class RepairReport(Struct, frozen=True):
    """What a repair did, and what it found when it was done."""

    repository: str
    began: datetime
    finished: datetime
    done: tuple[DoneRepair, ...]
    rescued_blocks: int
    """Read from damaged packs and stored again."""
    fetched_blocks: int
    """Read from other repositories."""
    stored_bytes: int
    findings: tuple[Finding, ...]
    """What the look afterwards found; notes too."""
    losses: tuple[DiskLoss, ...]
    """Exactly what stays lost."""
    left: tuple[LeftAlone, ...]

    @property
    def whole(self) -> bool:
        """Whether every recovery point that is listed is whole, and nothing was left undone."""
        return not self.losses and not any(done.failed for done in self.done)
