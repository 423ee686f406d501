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


class ProofOutcome(StrEnum):
    """What a proof says of its point."""

    PROVEN = "proven"
    FAILED = "failed"
    OPEN = "not conclusive"


class ProofVerdict(StrEnum):
    """What came of a boot."""

    ANSWERED = "answered"
    """The guest booted, its agent answered, and every check of its level passed: the point is proven."""
    SILENT = "silent"
    """It was started, and its agent did not answer in time."""
    FAILED = "failed"
    """Its agent answered, and a check of its level failed."""
    STOPPED = "stopped"
    """It went off or crashed while it was watched."""
    STARTED = "started"
    """It was started and ran; it has no agent that could be asked, so nobody knows whether it booted."""
    UNCHECKED = "unchecked"
    """Its agent answered, and a check of its level could not be run."""

    @property
    def outcome(self) -> ProofOutcome:
        """What it says of the point."""
        if self is ProofVerdict.ANSWERED:
            return ProofOutcome.PROVEN
        return ProofOutcome.OPEN if self in (ProofVerdict.STARTED, ProofVerdict.UNCHECKED) else ProofOutcome.FAILED


_NAME = re.compile(
    rf"([0-9a-f-]{{36}})\.([0-9a-f]+)\.(\d{{8}}T\d{{6}}Z)\.({'|'.join(ProofVerdict)})\.[0-9a-f]+",
)


class GuestCheckState(StrEnum):
    """What came of one check in the guest."""

    PASSED = "passed"
    FAILED = "failed"
    UNABLE = "could not be run"


class GuestCheckResult(Struct, frozen=True):
    """One check of a level, run in the guest that was booted."""

    name: str
    what: str
    """What was checked, in words."""
    state: GuestCheckState
    evidence: str
    """What was seen: the first lines of output, for a command."""
    seconds: float
    """How long it took, with every attempt."""


class SignsOfLife(Struct, frozen=True):
    """What was seen from outside of a guest whose agent does not tell."""

    ran_s: float
    running: bool
    """Whether it still ran at the end of that time."""
    cpu_s: float
    disk_read_bytes: int
    disk_written_bytes: int
    screen_changed: bool | None
    """None if it has no screen."""

    def __str__(self) -> str:
        screen = {True: ", and its screen changed", False: ", and its screen stood still", None: ""}
        return (
            f"it {'ran' if self.running else 'went off within'} {self.ran_s:.0f} s, used {self.cpu_s:.0f} s of CPU,"
            f" read {self.disk_read_bytes >> 10} KiB from its disks and wrote {self.disk_written_bytes >> 10} KiB"
            f"{screen[self.screen_changed]}"
        )


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
    checks: tuple[GuestCheckResult, ...] = ()
    """The checks of its level, as they went."""
    seen: SignsOfLife | None = None
    """Of a guest without an agent, or with a silent one."""

    @property
    def sentence(self) -> str:
        """What came of it, in one sentence without its end."""
        match self.verdict:
            case ProofVerdict.ANSWERED:
                passed = f", and {_counted(len(self.checks))} passed" if self.checks else ""
                return f"it booted: its guest agent answered after {self.boot_s} s{passed}"
            case ProofVerdict.SILENT:
                return f"it was started, and its guest agent did not answer{self._seen()}"
            case ProofVerdict.STOPPED:
                return f"it did not keep running{self._seen()}"
            case ProofVerdict.STARTED:
                return f"it has no guest agent that could tell whether it booted{self._seen()}"
            case ProofVerdict.FAILED:
                return f"it booted in {self.boot_s} s, and failed {self._named(GuestCheckState.FAILED)}"
            case ProofVerdict.UNCHECKED:
                return f"it booted in {self.boot_s} s, and could not be asked for {self._named(GuestCheckState.UNABLE)}"

    def _seen(self) -> str:
        return f"; {self.seen}" if self.seen is not None else ""

    def _named(self, state: GuestCheckState) -> str:
        found = [check for check in self.checks if check.state is state]
        return "; ".join(f'"{check.name}": {check.evidence}' for check in found)


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


def _counted(number: int) -> str:
    return "its one check" if number == 1 else f"all {number} checks"


def last_proof(marks: Iterable[ProofMark], point: Point) -> ProofMark | None:
    """The newest of a point: a point that answered once and is silent now is not proven."""
    of_it = [mark for mark in marks if (mark.vm_uuid, mark.point_id) == (point.manifest.vm.uuid, point.id)]
    return max(of_it, key=lambda mark: mark.at, default=None)
