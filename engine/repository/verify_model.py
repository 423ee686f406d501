"""What a verification is asked, shows while it runs, and answers."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from engine.repository.model import DataRun


class Extent(StrEnum):
    """How much of a repository is looked at. Each one includes the one before."""

    QUICK = "quick"
    """Every small object and every map is read; packs must be there with their exact sizes."""
    SAMPLE = "sample"
    """And a part of the packs is read to the last byte, those first that were found sound longest ago."""
    FULL = "full"
    """And every pack is read to the last byte."""


class Severity(StrEnum):
    """What a finding means for recovery points."""

    LOSS = "loss"
    """At least one recovery point can no longer be restored as a whole."""
    DAMAGE = "damage"
    """Something is not as it was written, but every recovery point is whole."""
    NOTE = "note"
    """Nothing is wrong with what is there; somebody should know of it nevertheless."""


class PointName(Struct, frozen=True, order=True):
    """A recovery point, for people and for programs."""

    vm: str
    """The VM's name, or its UUID where the manifest cannot be read."""
    time: str
    """`20261122T081355Z`."""
    id: str

    def __str__(self) -> str:
        return f"{self.vm}@{self.time} ({self.id[:6]})"


class Finding(Struct, frozen=True):
    """Something in a repository that is not as it should be."""

    object: str
    """Its key; `packs/` or `index/` where it is one that is no longer there and whose name nobody knows."""
    severity: Severity
    what: str
    """What is wrong with it, in a sentence that goes on from its key: `it is missing`."""
    points: tuple[PointName, ...] = ()
    """Recovery points that cannot be restored as a whole because of it."""

    def __str__(self) -> str:
        hurt = f" (hurts {', '.join(map(str, self.points))})" if self.points else ""
        return f"{self.object}: {self.what}{hurt}"


class DiskLoss(Struct, frozen=True):
    """The ranges of one disk, or of one small file, of one recovery point that cannot be read back."""

    point: PointName
    name: str
    """The disk's target (`vda`), or the role and name of a file."""
    size_bytes: int
    ranges: tuple[DataRun, ...]
    """In order, in whole blocks as far as the disk goes. Everything outside of them can be restored."""
    objects: tuple[str, ...]
    """Keys of the objects that would have to come back."""

    @property
    def lost_bytes(self) -> int:
        """Bytes in the ranges."""
        return sum(run.length for run in self.ranges)


class VerifyRequest(Struct, frozen=True):
    """What to look at."""

    extent: Extent = Extent.QUICK
    sample_percent: float = 5.0
    """How many of the packs a sample reads, at least one."""
    anew: bool = False
    """Read every pack even where an interrupted full verification could go on."""


class VerifyLimits(Struct, frozen=True):
    """What a verification may use."""

    workers: int = 0
    """Packs read at the same time; 0 means one a processor."""
    window_bytes: int = 4 << 20
    """Read at once: memory is this times two for each worker."""
    batch_packs: int = 256
    """After how many packs what was found is written down."""
    batch_s: float = 60.0
    """And after how long: what a killed verification has to do again."""
    resume_days: float = 30.0
    """An interrupted full verification that began longer ago is not gone on with."""


class VerifyPlan(Struct, frozen=True):
    """What a verification will read."""

    extent: Extent
    points: int
    packs: int
    """In the repository."""
    packs_to_read: int
    bytes_to_read: int
    resumes: datetime | None
    """When the interrupted run began that this one goes on with."""
    never_read: int
    """Packs that no verification has ever found sound."""
    oldest: datetime | None
    """Of the others, when the one was found sound that waits longest; None if there are none."""


class Stage(StrEnum):
    """What a verification is doing."""

    OBJECTS = "small objects"
    MAPS = "maps"
    PACKS = "packs"


class VerifyProgress(Struct, frozen=True):
    """How far a verification is."""

    stage: Stage
    done: int
    """Bytes of packs; for maps, bytes of the disks and files that they describe; small objects are counted."""
    total: int
    """0 where it is not known."""
    damaged: int
    """Damaged objects met so far."""


class Verification(Struct, frozen=True):
    """What a verification found."""

    repository: str
    extent: Extent
    began: datetime
    finished: datetime
    points: int
    packs: int
    packs_read: int
    bytes_read: int
    resumed: datetime | None
    findings: tuple[Finding, ...]
    losses: tuple[DiskLoss, ...]
    """Exactly what cannot be restored; empty if every recovery point is whole."""
    unrecorded: str | None
    """Why the results could not be kept in the repository (it may be read-only); None if they were."""

    @property
    def sound(self) -> bool:
        """Whether nothing is damaged."""
        return all(finding.severity is Severity.NOTE for finding in self.findings)
