"""What the target host itself says: to names that are taken, and to what the VM had on its old host.

Pure, from the answers (`hosts.answers`). And what else is at work there.
"""

from __future__ import annotations

from engine.fleet import CheckState, FitnessCheck, Fleet
from engine.hosts.answers import HostAnswers
from engine.hosts.model import HostSnapshot
from engine.repository import Point
from engine.restore.evidence import Evidence, OtherJob
from engine.restore.model import Request


def ties_checks(
    fleet: Fleet, point: Point, target: HostSnapshot, request: Request, evidence: Evidence
) -> list[FitnessCheck]:
    """Every check of this file."""
    checks: list[FitnessCheck] = []
    if request.defines:
        answers = evidence.answers
        if answers is None:
            checks.append(
                FitnessCheck("definition", CheckState.SKIP, evidence.silent or f"{target.host} was not asked")
            )
        else:
            checks += _taken(answers, target, request)
            checks += _secrets(answers, target, request, evidence.secrets_in_point)
            checks += _media(answers, target, request)
            checks += _left_behind(answers, point)
    return [*checks, _work(fleet, point, target, request, evidence.others)]


def _taken(answers: HostAnswers, target: HostSnapshot, request: Request) -> list[FitnessCheck]:
    if not answers.taken:
        return [FitnessCheck("paths", CheckState.PASS, "nothing is there under the names that will be made")]
    return [
        FitnessCheck(
            name="paths",
            state=CheckState.FAIL,
            evidence=f"{target.host} already has {', '.join(answers.taken)}",
            remedy=f"choose another name (--name {request.name}-2) or pool, or move that away if no VM needs it",
            meaning="the restore never writes over what it did not make: it stops before it writes anything",
        )
    ]


def _secrets(
    answers: HostAnswers, target: HostSnapshot, request: Request, in_point: tuple[str, ...]
) -> list[FitnessCheck]:
    if not answers.missing_secrets:
        return []
    brought = [uuid for uuid in answers.missing_secrets if uuid in in_point]
    missing = [uuid for uuid in answers.missing_secrets if uuid not in in_point]
    if not missing:
        evidence = f"{target.host} gets {', '.join(brought)} from the recovery point"
        return [FitnessCheck("secrets", CheckState.PASS, evidence)]
    return [
        FitnessCheck(
            name="secrets",
            state=CheckState.FAIL if request.start else CheckState.WARN,
            evidence=f"it needs the libvirt secret {', '.join(missing)}, which {target.host} does not have and the"
            " point does not hold",
            remedy=f"define it on {target.host} (virsh secret-define, virsh secret-set-value), or --no-start",
            changeable=request.start,
            meaning="without it the VM does not start",
        )
    ]


def _media(answers: HostAnswers, target: HostSnapshot, request: Request) -> list[FitnessCheck]:
    if not answers.media:
        return []
    words = {True: "is there", False: "is not there", None: "cannot be seen from here"}
    held = [f"{each.target} had {each.path}, which {words[each.there]}" for each in answers.media]
    there = [each for each in answers.media if each.there]
    put_in = "; ".join(f"virsh change-media {request.name} {each.target} {each.path} --insert" for each in there)
    return [
        FitnessCheck(
            name="media",
            state=CheckState.WARN,
            evidence=f"its drives come back empty: {'; '.join(held)}",
            remedy=f"afterwards, if it needs it: {put_in}"
            if put_in
            else f"copy the image to {target.host} and put it in with virsh change-media, if it needs it",
            meaning="a guest that starts from a CD, or that reads it, does not find it",
        )
    ]


def _left_behind(answers: HostAnswers, point: Point) -> list[FitnessCheck]:
    if not answers.left_behind:
        return []
    return [
        FitnessCheck(
            name="old host",
            state=CheckState.WARN,
            evidence=f"it is restored without {', '.join(answers.left_behind)}",
            remedy="give it those of its new host with virsh edit, if it needs them",
            meaning=f"{point.manifest.vm.name} runs without it: slower where it was tuned, and without what was shared",
        )
    ]


def _work(
    fleet: Fleet, point: Point, target: HostSnapshot, request: Request, others: tuple[OtherJob, ...] | None
) -> FitnessCheck:
    """Jobs on the target, and what is being done to the original."""
    facts = point.manifest.vm
    busy = [
        f"{vm.name} on {each.host} is busy: {vm.job}"
        for each in fleet.snapshots
        for vm in each.vms
        if vm.uuid == facts.uuid and vm.job
    ]
    ours = [job for job in others or () if job.kind != "restore" and job.subject == facts.name]
    if not busy:
        busy = [f"job {job.id}, {job.kind} of {job.subject}, is under way" for job in ours]
    if busy and request.aside is not None:
        return FitnessCheck(
            name="other jobs",
            state=CheckState.WARN,
            evidence="; ".join(busy),
            remedy="wait for it: newhope jobs",
            meaning="it is cut off in the middle when the original is switched off, and has to be made again",
            by_name=True,
        )
    there = [f"job {job.id}, {job.kind} of {job.subject}" for job in others or () if job.host == target.host]
    if others is None and not busy:
        return FitnessCheck("other jobs", CheckState.SKIP, "the journal was not asked")
    if not busy and not there:
        return FitnessCheck("other jobs", CheckState.PASS, f"nothing else is at work on {target.host}")
    shared = f"{'; '.join([*busy, *there])}: both share disks and network of {target.host}, and take longer"
    return FitnessCheck("other jobs", CheckState.PASS, shared)
