"""What a preflight needs beyond the fleet as it was last seen, asked for one restore: gathered here, judged elsewhere.

1. The repository is opened: the key is known or not, the point's blocks are looked up, the last verification is read.
2. The target host is asked about the definition as the restore would make it (`hosts.answers`).
3. The jobs of this machine that are at work now, for what they will still write.

Nothing is changed anywhere. Whatever does not answer is evidence too, never an error.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Struct, structs

from engine.errors import NewhopeError
from engine.hosts import HostLane
from engine.hosts.answers import HostAnswers, Question, ask
from engine.hosts.model import Definition, HostFacts, HostSnapshot
from engine.jobs import Job, JobState, Journal
from engine.repository import FileRecord, Point, Presence, Reader, Repository, RepositoryDamaged, VerifiedLast
from engine.restore.becoming import Places, becomes
from engine.restore.made_names import made_volumes
from engine.restore.model import Request
from engine.restore.place_of import path_in_pool
from engine.restore.steps import Step, StepKind
from engine.settings import Settings

LOOK_S = 5.0
"""How long a point's blocks are looked up at most; measured: 10,000 a second and more."""
LOOK_INSTANT_S = 0.5
"""The same before an instant restore, which is not to take longer the larger its disks are."""


class RepositoryEvidence(Struct, frozen=True):
    """What the repository said."""

    encrypted: bool = False
    blocks: Presence | None = None
    """None if they were not looked up."""
    verified: VerifiedLast | None = None
    """The last verification; None if there was none."""
    failure: str = ""
    """Why it could not be asked; empty if it could."""
    next_step: str = ""


class OtherJob(Struct, frozen=True):
    """A job of this machine that is at work now."""

    id: int
    kind: str
    subject: str
    host: str
    pool: str = ""
    """Where it writes, for a restore."""
    to_write_bytes: int = 0
    """What it has yet to write there."""


class Evidence(Struct, frozen=True):
    """All of it. None: nobody was asked, and the checks that need it are skipped."""

    repository: RepositoryEvidence | None = None
    answers: HostAnswers | None = None
    silent: str = ""
    """Why the host did not answer; empty if it did, or was not asked."""
    saved_with: str = ""
    """Version of the QEMU of the host that the point is of; empty if it is not known."""
    secrets_in_point: tuple[str, ...] = ()
    """UUIDs of secrets whose values the point holds."""
    others: tuple[OtherJob, ...] | None = None


def gather_evidence(
    settings: Settings,
    opened: Repository | NewhopeError,
    lane: HostLane | None,
    target: HostSnapshot,
    point: Point,
    request: Request,
) -> Evidence:
    """Ask repository, host and journal about one decided request.

    `opened` is the repository, or why it could not be opened; `lane` that of the target, None if it is silent.
    """
    others = tuple(other_jobs(settings, own_job=0))
    failure = opened
    if isinstance(failure, Repository):
        try:
            return with_repository(failure, lane, target, point, request, Evidence(others=others))
        except NewhopeError as error:
            failure = error
    return Evidence(repository=RepositoryEvidence(failure=failure.what, next_step=failure.next_step), others=others)


def with_repository(
    opened: Repository,
    lane: HostLane | None,
    target: HostSnapshot,
    point: Point,
    request: Request,
    evidence: Evidence,
) -> Evidence:
    """The evidence with what an opened repository and the host say. Raises RepositoryError, StorageFailed."""
    looked = RepositoryEvidence(
        encrypted=opened.encrypted,
        blocks=opened.look_for_blocks(point, limit_s=LOOK_INSTANT_S if request.instant else LOOK_S),
        verified=opened.verified_last(),
    )
    evidence = structs.replace(
        evidence,
        repository=looked,
        secrets_in_point=tuple(file.name for file in point.manifest.files if file.role == "secret-value"),
    )
    with opened.reader() as reader:
        try:
            definition = definition_in(point, reader)
            evidence = structs.replace(evidence, saved_with=_qemu_of_old_host(point, reader))
        except RepositoryDamaged:
            # The look at its blocks tells of it.
            return evidence
    if lane is None or definition is None or not request.defines:
        return evidence
    try:
        question = question_of(point, request, target, definition)
        return structs.replace(evidence, answers=ask(lane, question))
    except NewhopeError as error:
        return structs.replace(evidence, silent=error.what)
    except ValueError as error:
        return structs.replace(evidence, silent=f"its definition cannot be fitted to the request: {error}")


def definition_in(point: Point, reader: Reader) -> Definition | None:
    """The definition that a restore starts from. Raises RepositoryDamaged."""
    inactive = _file(point, "definition-inactive")
    return Definition(live=None, inactive=reader.file(inactive)) if inactive else None


def question_of(point: Point, request: Request, target: HostSnapshot, definition: Definition) -> Question:
    """What the target of a decided request is asked. Raises ValueError where definition and request do not fit."""
    made = made_volumes(point.manifest, request)
    begin = f"{request.name}-{request.id}-"
    boot_files = {
        each.name.removeprefix(begin).partition("-")[0]: path_in_pool(target, each.pool, each.name)
        for each in made
        if each.step == Step(StepKind.BOOT_FILES).key
    }
    disks = {
        disk.target: (disk.device or path_in_pool(target, disk.pool, disk.volume) or f"/{disk.volume}", disk.format)
        for disk in request.disks
    }
    devices = frozenset(disk.target for disk in request.disks if disk.device)
    places = Places(disks=disks, block_disks=devices, boot_files=boot_files)
    return Question(
        original=definition,
        restored=becomes(definition, point, request, places, target.facts),
        devices=point.manifest.vm.host_devices,
        made=tuple((each.pool, each.name) for each in made),
    )


def _file(point: Point, role: str) -> FileRecord | None:
    return next((file for file in point.manifest.files if file.role == role), None)


def _qemu_of_old_host(point: Point, reader: Reader) -> str:
    kept = _file(point, "host")
    if kept is None:
        return ""
    try:
        return msgspec.json.decode(reader.file(kept), type=HostFacts).qemu_version
    except (NewhopeError, msgspec.DecodeError):
        return ""


def other_jobs(settings: Settings, own_job: int) -> Iterable[OtherJob]:
    """The jobs that are at work now, but for our own."""
    with Journal(settings.state) as journal:
        for job in journal.jobs(states=(JobState.QUEUED, JobState.RUN)):
            if job.id != own_job:
                yield _as_other(job)


def _as_other(job: Job) -> OtherJob:
    pool = ""
    if job.kind == "restore":
        try:
            pool = msgspec.json.decode(job.spec, type=Request).pool
        except msgspec.DecodeError:
            pool = ""
    return OtherJob(job.id, job.kind, job.subject, job.host, pool, max(0, job.total_bytes - job.done_bytes))
