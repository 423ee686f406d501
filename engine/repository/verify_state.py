"""What is known of a repository's soundness without looking at it anew: from the records of earlier verifications."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from engine.repository.pack import pack_id_of
from engine.repository.storage import Storage
from engine.repository.verify_history import History
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


def verification_state(storage: Storage, history: History) -> VerificationState:
    """From what earlier verifications left, and the packs that are there now."""
    packs = [pack for entry in storage.list("packs/") if (pack := pack_id_of(entry.key))]
    known = [at for pack in packs if (at := history.sound_at(pack)) is not None]
    last = None
    if history.last is not None:
        damages = [finding for finding in history.last.findings if finding.severity is not Severity.NOTE]
        hurt = tuple(sorted({point.id for finding in damages for point in finding.points}))
        last = VerifiedLast(history.last.extent, history.last.written, len(damages), hurt)
    return VerificationState(
        last=last,
        interrupted=history.open_run.began if history.open_run else None,
        packs=len(packs),
        never_read=len(packs) - len(known),
        oldest=min(known, default=None),
    )
