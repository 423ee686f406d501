"""From what was seen to findings: pure, one finding an object, each with the recovery points that it hurts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from engine.repository.block_evidence import NO_PACK
from engine.repository.manifest import PREFIX as POINTS
from engine.repository.pack import pack_key
from engine.repository.verify_history import History
from engine.repository.verify_model import DiskLoss, Finding, PointName, Severity
from engine.repository.verify_structure import View

INDEX = "index/"
WORST_FIRST = (Severity.LOSS, Severity.DAMAGE, Severity.NOTE)


def findings_of(
    view: View,
    losses: Sequence[DiskLoss],
    wrong: Mapping[bytes, str],
    unindexed: int,
    small: Iterable[Finding],
    condemned: Collection[bytes] = (),
) -> tuple[Finding, ...]:
    """All findings, the worst first. `wrong`: packs and what was met in them; `unindexed`: packs in no index file.

    Of a damaged pack that is condemned nobody needs to hear more than a note, unless it costs a point something.
    """
    met: dict[str, Finding] = {}
    for pack, what in {**view.wrong_packs(), **wrong}.items():
        # What no point needs may have been collected; an index file may then still tell of it.
        severity = Severity.DAMAGE if pack in view.packs else Severity.NOTE
        met[pack_key(pack)] = Finding(pack_key(pack), severity, what)
    for finding in (*view.findings, *small):
        met[finding.object] = finding
    for key in {pack_key(pack) for pack in condemned} & met.keys():
        what = f"{met[key].what}; nothing leans on it any more, and a prune deletes it when nothing in it is needed"
        met[key] = Finding(key, Severity.NOTE, what)
    index_damaged = any(finding.object.startswith(INDEX) for finding in view.findings)
    if unindexed and not index_damaged:
        packs = "1 pack that recovery points need is" if unindexed == 1 else f"{unindexed} packs that points need are"
        met[INDEX] = Finding(INDEX, Severity.DAMAGE, f"{packs} in no index file: an index file is gone")
    for key, points in _hurt(losses).items():
        known = met.get(key)
        what = known.what if known else _what_of(key)
        before = known.points if known else ()
        met[key] = Finding(key, Severity.LOSS, what, tuple(sorted({*before, *points})))
    return tuple(sorted(met.values(), key=lambda finding: (WORST_FIRST.index(finding.severity), finding.object)))


def gone_since(history: History, seen: Iterable[str]) -> tuple[Finding, ...]:
    """Notes about points and records that were there at the verification before and are not now."""
    last = history.last
    if last is None:
        return ()
    what = f"it was here when the repository was verified on {last.written:%Y-%m-%d %H:%M} UTC: deleted since, or lost"
    return tuple(Finding(key, Severity.NOTE, what) for key in sorted(set(last.seen) - set(seen)))


def _hurt(losses: Sequence[DiskLoss]) -> dict[str, set[PointName]]:
    hurt: dict[str, set[PointName]] = {}
    for loss in losses:
        for key in loss.objects:
            hurt.setdefault(key, set()).add(loss.point)
    return hurt


def _what_of(key: str) -> str:
    if key in NO_PACK:
        return "blocks that recovery points need are in no pack: a pack is gone, and what named it is too"
    if key.startswith(POINTS):
        return "a map in it does not fit its disk's size"
    return "it does not hold the blocks that an index names in it"
