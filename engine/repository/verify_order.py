"""Which packs a verification reads, and in which order: pure, from what is there and what was found before."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime

from engine.repository.verify_history import History
from engine.repository.verify_model import Extent, VerifyRequest

NEVER = datetime.min.replace(tzinfo=UTC)


def packs_to_read(packs: Mapping[bytes, int], history: History, request: VerifyRequest) -> tuple[bytes, ...]:
    """Names of the packs to read: known damaged ones, then those that were found sound longest ago or never."""
    damaged = sorted(history.known_damaged() & packs.keys())
    others = sorted(packs.keys() - set(damaged), key=lambda pack: (history.sound_at(pack) or NEVER, pack))
    match request.extent:
        case Extent.QUICK:
            chosen = []
        case Extent.SAMPLE:
            chosen = others[: math.ceil(len(others) * request.sample_percent / 100)]
        case Extent.FULL:
            chosen = [pack for pack in others if not _done(pack, history, request)]
    return (*damaged, *chosen)


def _done(pack: bytes, history: History, request: VerifyRequest) -> bool:
    """Whether the interrupted run that is gone on with has found a pack sound already."""
    if request.anew or history.open_run is None:
        return False
    at = history.sound_at(pack)
    return at is not None and at >= history.open_run.began
