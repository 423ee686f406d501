"""Proofs: recorded boots of recovery points, isolated from every real network. A point without one is only a promise.

A proof is a record of the kind `proofs`. Its name says of which point it is, when it was, and what came of it, so that
a listing tells everything that a table of points shows, and no proof has to be read for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum

import msgspec
from msgspec import Struct

from engine.errors import Conflict
from engine.repository.model import Point
from engine.repository.repository import Repository

KIND = "proofs"
_TIME = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"([0-9a-f-]{36})\.([0-9a-f]+)\.(\d{8}T\d{6}Z)\.(answered|silent|started)\.[0-9a-f]+")


class ProofVerdict(StrEnum):
    """What came of a boot."""

    ANSWERED = "answered"
    """The guest booted, and its agent answered: the point is proven."""
    SILENT = "silent"
    """It was started, and its agent did not answer in time."""
    STARTED = "started"
    """It was started; it has no agent that could be asked, so nobody knows whether it booted."""


class Proof(Struct, frozen=True):
    """One boot of a recovery point."""

    vm: str
    vm_uuid: str
    point_id: str
    at: datetime
    verdict: ProofVerdict
    host: str
    """Where it was booted."""
    boot_s: float | None
    """From its start to the agent's answer; None if there was none."""
    operator: str
    restore_id: str
    """The restore that wrote its disks, whose report is a record too."""
    warnings: tuple[str, ...] = ()
    version: int = 1


class ProofMark(Struct, frozen=True):
    """What a proof's name tells of it."""

    vm_uuid: str
    point_id: str
    at: datetime
    verdict: ProofVerdict
    name: str


def keep_proof(repository: Repository, proof: Proof) -> None:
    """Put it into the repository of its point; one that is there already is fine."""
    name = f"{proof.vm_uuid}.{proof.point_id}.{proof.at:{_TIME}}.{proof.verdict.value}.{proof.restore_id}"
    try:
        repository.put_record(KIND, name, msgspec.json.encode(proof))
    except Conflict:
        return


def read_proof(repository: Repository, mark: ProofMark) -> Proof:
    """All of a proof. Raises `RepositoryDamaged`, `NotFound`."""
    return msgspec.json.decode(repository.record(KIND, mark.name), type=Proof)


def proof_marks(repository: Repository) -> tuple[ProofMark, ...]:
    """Every proof that is kept there. Names of a later version are passed over."""
    found = (_NAME.fullmatch(name) for name in repository.records(KIND))
    return tuple(
        ProofMark(
            vm_uuid=each[1],
            point_id=each[2],
            at=datetime.strptime(each[3], _TIME).replace(tzinfo=UTC),
            verdict=ProofVerdict(each[4]),
            name=each[0],
        )
        for each in found
        if each is not None
    )


def last_proof(marks: Iterable[ProofMark], point: Point) -> ProofMark | None:
    """The newest of a point: a point that answered once and is silent now is not proven."""
    of_it = [mark for mark in marks if (mark.vm_uuid, mark.point_id) == (point.manifest.vm.uuid, point.id)]
    return max(of_it, key=lambda mark: mark.at, default=None)
