"""What is known of a repository's soundness without looking at it anew: from the records of earlier verifications."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from engine.repository.model import Point
from engine.repository.pack import pack_id_of
from engine.repository.storage import Storage
from engine.repository.verify_history import History, VerifyRecord
from engine.repository.verify_model import Extent, Severity


class VerifiedLast(Struct, frozen=True):
    """The newest verification that came to its end."""

    extent: Extent
    finished: datetime
    damaged: int
    """Findings that are more than notes."""
    hurt: tuple[str, ...] = ()
    """Ids of the recovery points that they hurt."""


class VerificationState(Struct, frozen=True):
    """How long ago what was verified."""

    last: VerifiedLast | None
    """None if there never was one."""
    interrupted: datetime | None
    """When a full verification began that was interrupted, and can be gone on with."""
    packs: int
    never_read: int
    """Packs that no verification has found sound, or whose newest verdict is a bad one."""
    oldest: datetime | None
    """Of the others, when the one was found sound that waits longest; None if there are none."""


class Soundness(StrEnum):
    """What the newest verification of its repository says of a recovery point."""

    SOUND = "sound"
    DAMAGED = "damaged"
    NOT_YET = "not yet"
    """It was made since."""
    NEVER = "never"
    """No verification came to its end."""


class VerifiedMark(Struct, frozen=True):
    """Whether a recovery point was verified, and when."""

    state: Soundness
    at: datetime | None = None
    """End of the newest verification."""
    extent: Extent | None = None
    """How much that one read."""


def verified_mark(point: Point, last: VerifiedLast | None) -> VerifiedMark:
    """What the newest verification of its repository says of a point."""
    if last is None:
        return VerifiedMark(Soundness.NEVER)
    if point.id in last.hurt:
        return VerifiedMark(Soundness.DAMAGED, last.finished, last.extent)
    state = Soundness.NOT_YET if point.manifest.finished > last.finished else Soundness.SOUND
    return VerifiedMark(state, last.finished, last.extent)


def verified_last(record: VerifyRecord | None) -> VerifiedLast | None:
    """What a closing record of a verification says."""
    if record is None:
        return None
    damages = [finding for finding in record.findings if finding.severity is not Severity.NOTE]
    hurt = tuple(sorted({point.id for finding in damages for point in finding.points}))
    return VerifiedLast(record.extent, record.written, len(damages), hurt)


def verification_state(storage: Storage, history: History) -> VerificationState:
    """From what earlier verifications left, and the packs that are there now."""
    packs = [pack for entry in storage.list("packs/") if (pack := pack_id_of(entry.key))]
    known = [at for pack in packs if (at := history.sound_at(pack)) is not None]
    return VerificationState(
        last=verified_last(history.last),
        interrupted=history.open_run.began if history.open_run else None,
        packs=len(packs),
        never_read=len(packs) - len(known),
        oldest=min(known, default=None),
    )
