"""From what a verification found to what a repair will do about it: the plan that is shown first.

Nothing is changed here. Every remedy is tried out as far as reading goes: a plan says what will be healed, and what
stays lost, not what might.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from engine.repository.block_record import BlockKind
from engine.repository.guards import PREFIX as GUARDS
from engine.repository.healing import unfinished
from engine.repository.manifest import PREFIX as POINTS
from engine.repository.model import Point
from engine.repository.pack import pack_id_of, pack_key
from engine.repository.repair_blocks import LostBlocks
from engine.repository.repair_ground import Ground
from engine.repository.repair_model import LeftAlone, Remedy, RepairPlan, RepairRequest, RepairStep
from engine.repository.repair_objects import (
    GIVES_NOTHING_UP,
    KINDS,
    MEANINGS,
    find_cure,
    is_copy,
    is_sound,
    prefix_of,
)
from engine.repository.repair_packs import PackSurvey, block_kind, lying_index_files, only_there, survey_pack
from engine.repository.repair_source import Source
from engine.repository.verify_model import Finding, Severity, Verification

INDEX = "index/"
PACKS = "packs/"
KEPT = "it is kept in quarantine/"


class PackWork(Struct, frozen=True):
    """What is to be done about packs that are called damaged."""

    steps: tuple[RepairStep, ...]
    rescued: dict[bytes, bytes | None]
    """What lies sound in damaged packs only, by name; of nodes the content."""
    lying: tuple[str, ...]
    """Index files that name wrong places in sound packs."""


def plan_repair(
    ground: Ground,
    found: Verification,
    request: RepairRequest,
    sources: Sequence[Source],
) -> RepairPlan:
    """What to do about what a verification found."""
    points = ground.points()
    steps: list[RepairStep] = []
    left: list[LeftAlone] = []
    for finding in found.findings:
        if prefix_of(finding.object) in KINDS and finding.severity is not Severity.NOTE:
            told = _about_object(ground, finding, points, request, sources)
            steps += [told] if isinstance(told, RepairStep) else []
            left += [told] if isinstance(told, LeftAlone) else []
        elif prefix_of(finding.object) not in (INDEX, PACKS) and finding.severity is not Severity.NOTE:
            advice = "Bring it back from a copy of the repository."
            left.append(LeftAlone(finding.object, finding.what, advice))
    packs = _about_packs(ground, _present_packs(ground, found.findings))
    steps += _about_indexes(found.findings, packs.lying)
    steps += packs.steps
    search = LostBlocks(ground, packs.rescued, sources)
    losses = search.remaining(found.losses, points)
    steps += _about_losses(search, sources)
    steps += _about_missing(ground, found.findings, {key for loss in losses for key in loss.objects})
    order = list(Remedy)
    steps.sort(key=lambda step: (order.index(step.remedy), step.object))
    return RepairPlan(found.repository, request, tuple(steps), tuple(left), losses)


def _about_object(
    ground: Ground, finding: Finding, points: Sequence[Point], request: RepairRequest, sources: Sequence[Source]
) -> RepairStep | LeftAlone | None:
    key, prefix = finding.object, prefix_of(finding.object)
    if key in unfinished(ground.storage):
        return RepairStep(Remedy.HEAL, key, finding.what, "it is brought back as that repair meant to", KEPT)
    if is_sound(ground, key):
        return _about_sound(key, finding)
    cure = find_cure(ground, key, sources)
    if cure is not None:
        does = f"its own content is brought back from {cure.source}"
        return RepairStep(Remedy.HEAL, key, finding.what, does, "the damaged one is kept in quarantine/")
    copied = is_copy(ground, key)
    if copied is not None:
        does = f"it is set aside: it is a copy of {copied}, which is sound"
        return RepairStep(Remedy.SET_ASIDE, key, finding.what, does, KEPT)
    if prefix in GIVES_NOTHING_UP or (prefix == GUARDS and not _guards_something(key, points)):
        return RepairStep(Remedy.SET_ASIDE, key, finding.what, "it is set aside; nothing needs it", KEPT)
    meaning = MEANINGS[prefix]
    if request.set_aside:
        return RepairStep(Remedy.SET_ASIDE, key, finding.what, f"it is set aside: {meaning.does}", KEPT)
    return LeftAlone(key, finding.what, meaning.advice)


def _about_sound(key: str, finding: Finding) -> LeftAlone | None:
    if prefix_of(key) == POINTS and finding.points:
        advice = "Its frame is whole: a newer newhope made it, or what it says of its disks is wrong. Nothing is done."
        return LeftAlone(key, finding.what, advice)
    return None


def _guards_something(key: str, points: Iterable[Point]) -> bool:
    _, vm_uuid, name = key.split("/", 2) if key.count("/") == 2 else ("", "", key)
    point_id = name.partition("-")[0]
    return any(point.manifest.vm.uuid == vm_uuid and point.id == point_id for point in points)


def _present_packs(ground: Ground, findings: Iterable[Finding]) -> list[bytes]:
    named = (pack_id_of(finding.object) for finding in findings if finding.object.startswith(PACKS))
    return [pack for pack in named if pack is not None and pack in ground.packs]


def _about_packs(ground: Ground, packs: list[bytes]) -> PackWork:
    steps: list[RepairStep] = []
    rescued: dict[bytes, bytes | None] = {}
    lying: dict[str, None] = {}
    ground.damaged.update(packs)
    waiting = list(packs)
    looked: set[bytes] = set()
    while waiting:
        pack = waiting.pop()
        looked.add(pack)
        survey = survey_pack(ground, pack)
        if survey.sound:
            ground.damaged.discard(pack)
            lying |= dict.fromkeys(lying_index_files(ground, pack))
            continue
        step = _quarantine(ground, survey, rescued)
        steps += [step] if step else []
        # Reading elsewhere what this pack holds may have shown that others are damaged too.
        waiting += [other for other in ground.damaged if other not in looked and other not in waiting]
    return PackWork(tuple(steps), rescued, tuple(lying))


def _quarantine(ground: Ground, survey: PackSurvey, rescued: dict[bytes, bytes | None]) -> RepairStep | None:
    size_bytes = blocks = 0
    for entry in only_there(ground, survey):
        blocks += 1
        size_bytes += entry.record_length
        node = block_kind(entry.kind) is BlockKind.MAP
        rescued[entry.name] = survey.block(ground, entry) if node else None
    condemned = survey.pack in ground.condemned
    if condemned and not blocks:
        return None
    what = f"{len(survey.records)} of its blocks are sound, {survey.broken} are not"
    does = "it is condemned: no backup leans on it any more" if not condemned else "it is condemned already"
    if blocks:
        does += f"; {blocks} blocks that can be read nowhere else are stored again"
    keeps = "it stays where it is until a prune finds that nothing in it is needed"
    return RepairStep(Remedy.QUARANTINE, pack_key(survey.pack), what, does, keeps, size_bytes)


def _about_indexes(findings: Iterable[Finding], lying: Iterable[str]) -> Iterator[RepairStep]:
    damaged = {f.object: f.what for f in findings if f.object.startswith(INDEX) and f.severity is not Severity.NOTE}
    damaged |= {INDEX + name: "it names places of blocks where they do not lie" for name in lying}
    for key, what in damaged.items():
        if key != INDEX:
            yield RepairStep(Remedy.SET_ASIDE, key, what, "it is set aside", KEPT)
    if damaged:
        what = damaged.get(INDEX, "packs are in no sound index file once the damaged ones are set aside")
        does = "every pack that no sound index file tells of is indexed anew from its table, or its records"
        yield RepairStep(Remedy.REINDEX, INDEX, what, does, "packs are only read")


def _about_losses(search: LostBlocks, sources: Sequence[Source]) -> Iterator[RepairStep]:
    if search.blocks:
        names = ", ".join(source.name for source in sources)
        what = f"{search.blocks} blocks that points need are in no pack that can be read"
        does = f"they are read from {names}, checked against their names, and stored"
        yield RepairStep(Remedy.FETCH, PACKS, what, does, "nothing is replaced", search.size_bytes)


def _about_missing(ground: Ground, findings: Iterable[Finding], needed: set[str]) -> Iterator[RepairStep]:
    for finding in findings:
        pack = pack_id_of(finding.object) if finding.object.startswith(PACKS) else None
        # Of a pack that was condemned, a collection makes the index forget.
        gone = pack is not None and pack not in ground.packs and pack not in ground.condemned
        if gone and finding.object not in needed:
            does = "the index forgets it: nothing in it is needed, or will be once this repair is done"
            yield RepairStep(Remedy.FORGET, finding.object, finding.what, does, "there is nothing to keep")
