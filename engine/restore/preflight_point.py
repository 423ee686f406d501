"""Whether the recovery point can be read whole, and how far what it holds can be trusted. Pure."""

from __future__ import annotations

from engine.fleet import CheckState, FitnessCheck, Fleet
from engine.repository import Point, doubts
from engine.repository.model import Consistency
from engine.restore.decide import holds_memory
from engine.restore.evidence import RepositoryEvidence
from engine.restore.model import Mode, Request

_STOPS = "reading stops at the first block that is lost, and everything is taken back"


def point_checks(
    fleet: Fleet, point: Point, request: Request, repository: RepositoryEvidence | None
) -> list[FitnessCheck]:
    """Every check of the point and its repository."""
    return [
        *_repository(request, repository),
        _consistency(point),
        *_memory(fleet, point, request),
        *_doubt(fleet, point, request),
        *_salvage(request),
        *_read_again(request),
    ]


def _repository(request: Request, found: RepositoryEvidence | None) -> tuple[FitnessCheck, ...]:
    name = request.repository
    if found is None:
        why = f"{name} was listed, and not asked for every block"
        return (FitnessCheck("blocks", CheckState.SKIP, why),)
    if found.failure:
        meaning = "nothing can be read: the restore stops before it writes anything"
        return (
            FitnessCheck("repository", CheckState.FAIL, found.failure.rstrip("."), found.next_step, meaning=meaning),
        )
    key = "it is encrypted, and the passphrase opens it" if found.encrypted else "it is not encrypted: no key is needed"
    return (
        FitnessCheck("repository", CheckState.PASS, f"{name} can be read"),
        FitnessCheck("keys", CheckState.PASS, key),
        _blocks(request, found),
        *_verified(request, found),
    )


def _blocks(request: Request, found: RepositoryEvidence) -> FitnessCheck:
    looked = found.blocks
    if looked is None:
        return FitnessCheck("blocks", CheckState.SKIP, "they were not looked up")
    if looked.missing:
        return FitnessCheck(
            name="blocks",
            state=CheckState.WARN if request.salvage else CheckState.FAIL,
            evidence=f"{looked.missing:,} of the {looked.blocks:,} blocks that were looked up are in no pack that is"
            f" whole; they belong to {', '.join(looked.hurt)}",
            remedy="heal it (newhope repo repair), choose another point or repository, or bring back what is left:"
            " --salvage",
            meaning="what is lost comes back as zeroes" if request.salvage else _STOPS,
        )
    if not looked.whole:
        evidence = f"{looked.blocks:,} were looked up in the time there was, and all are there; not the others"
        return FitnessCheck(
            "blocks", CheckState.SKIP, evidence, f"look at all: newhope repo verify {request.repository}"
        )
    return FitnessCheck("blocks", CheckState.PASS, f"all {looked.blocks:,} are where the index says")


def _verified(request: Request, found: RepositoryEvidence) -> tuple[FitnessCheck, ...]:
    last = found.verified
    if last is None:
        return ()
    when = f"the verification of {last.finished:%Y-%m-%d %H:%M} UTC ({last.extent.value})"
    if request.point_id not in last.hurt:
        return (FitnessCheck("verified", CheckState.PASS, f"{when} found nothing that hurts it"),)
    return (
        FitnessCheck(
            name="verified",
            state=CheckState.WARN,
            evidence=f"{when} found it damaged",
            remedy="heal it (newhope repo repair), choose another point or repository, or bring back what is left:"
            " --salvage",
            meaning=f"unless it was healed since, {_STOPS}",
        ),
    )


def _consistency(point: Point) -> FitnessCheck:
    manifest = point.manifest
    evidence = f"{manifest.consistency.value}: {manifest.consistency_note}"
    if manifest.consistency is not Consistency.CRASH:
        return FitnessCheck("consistency", CheckState.PASS, evidence)
    return FitnessCheck(
        name="consistency",
        state=CheckState.WARN,
        evidence=evidence,
        remedy="expect the guest to check its file systems at boot, as after a power cut",
        meaning="what its programs had not written yet is missing; most recover by themselves, as from a power cut",
    )


def _memory(fleet: Fleet, point: Point, request: Request) -> tuple[FitnessCheck, ...]:
    if not holds_memory(point) or not request.defines or not request.start:
        return ()
    if request.memory:
        return (
            FitnessCheck(
                "saved memory", CheckState.PASS, "it goes on where it stood, with its name, UUID and addresses"
            ),
        )
    facts = point.manifest.vm
    twins = [f"{vm.name} on {each.host}" for each in fleet.snapshots for vm in each.vms if vm.uuid == facts.uuid]
    why = f"its UUID is that of {', '.join(twins)}" if twins else "its name, UUID and addresses are not all kept"
    return (
        FitnessCheck(
            name="saved memory",
            state=CheckState.WARN,
            evidence=f"its memory stays in the point, for {why}: it boots from its disks, as after a power cut",
            remedy="to have it go on where it stood: --mode replace, or --memory to a host where no VM is its twin",
            meaning="what its programs held in memory is not there; they start anew",
        ),
    )


def _doubt(fleet: Fleet, point: Point, request: Request) -> tuple[FitnessCheck, ...]:
    why = doubts(fleet.points).get(point.original_id)
    if why is None:
        return ()
    return (
        FitnessCheck(
            name="trust",
            state=CheckState.WARN,
            evidence=why,
            remedy="choose a newer point, or one from before it; else have the guest check its file systems and data",
            meaning="some blocks may be older than the moment says, and no check here can tell which",
            # A test is how one finds out.
            by_name=request.mode is not Mode.TEST,
        ),
    )


def _salvage(request: Request) -> tuple[FitnessCheck, ...]:
    if not request.salvage:
        return ()
    return (
        FitnessCheck(
            name="salvage",
            state=CheckState.WARN,
            evidence="what of its disks cannot be read any more will be zeroes; the report names every such range",
            remedy="have the guest check its file systems, and bring back from elsewhere what it misses",
            meaning="files that lay there hold zeroes, and the guest may not notice before it reads them",
        ),
    )


def _read_again(request: Request) -> tuple[FitnessCheck, ...]:
    if not (request.verify and request.through_libvirt):
        return ()
    evidence = f"{request.to_host} runs no qemu-nbd for us, so what is written cannot be read again"
    meaning = "it could be written, and not be read again"
    return (FitnessCheck("verification", CheckState.FAIL, evidence, "leave --verify out", True, meaning),)
