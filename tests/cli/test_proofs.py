"""Proofs as `newhope points` shows them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec.structs import replace

from engine.errors import ExitCode
from engine.repository import Point, Proof, ProofOutcome, ProofVerdict, Repository, keep_proof
from tests.cli.conftest import Place, Run


def proof(point: Point, verdict: ProofVerdict, ago: timedelta, restore_id: str = "0a1b2c3d") -> Proof:
    return Proof(
        vm=point.manifest.vm.name,
        vm_uuid=point.manifest.vm.uuid,
        point_id=point.id,
        at=datetime.now(UTC) - ago,
        verdict=verdict,
        host="coruscant",
        boot_s=14.2 if verdict is ProofVerdict.ANSWERED else None,
        operator="ana",
        restore_id=restore_id,
    )


def keep(place: Place, *proofs: Proof) -> None:
    with Repository.open(place.vault, name="vault") as repository:
        for each in proofs:
            keep_proof(repository, each)


def test_points_show_which_are_proven_and_for_how_long(newhope: Run, place: Place, points: tuple[Point, ...]) -> None:
    before = newhope("points")
    keep(
        place,
        proof(points[0], ProofVerdict.ANSWERED, timedelta(hours=3, minutes=5)),
        proof(points[1], ProofVerdict.SILENT, timedelta(hours=1)),
    )

    after = newhope("points").out.splitlines()

    assert "PROVEN" not in before.out
    assert "PROVEN" in after[0]
    assert "3 h 05 m" in after[1] and "silent" in after[2]
    assert after[3].split()[-2] == "-"


def test_the_newest_proof_counts(newhope: Run, place: Place, points: tuple[Point, ...]) -> None:
    answered = proof(points[0], ProofVerdict.ANSWERED, timedelta(days=2))
    silent = proof(points[0], ProofVerdict.SILENT, timedelta(hours=1), "11223344")
    keep(place, answered, silent, silent)

    document = newhope("points", "--json").document["points"]
    page = newhope("points", "show", points[0].id)

    assert [each["proof"] and each["proof"]["verdict"] for each in document] == ["silent", None, None]
    assert "NO, 1 h" in page.out and "did not answer" in page.out and "coruscant" in page.out


def test_a_proven_point_says_where_when_and_how_fast_it_booted(
    newhope: Run, place: Place, points: tuple[Point, ...]
) -> None:
    assert "never: newhope prove web@" in newhope("points", "show", points[0].id).out

    keep(place, proof(points[0], ProofVerdict.ANSWERED, timedelta(minutes=70)))

    page = newhope("points", "show", points[0].id).out
    assert "on coruscant" in page and "ana" in page and "answered after 14.2 s" in page


def test_a_proof_of_another_vm_with_a_point_of_that_id_is_not_its_own(
    newhope: Run, place: Place, points: tuple[Point, ...]
) -> None:
    foreign = replace(proof(points[0], ProofVerdict.ANSWERED, timedelta(0)), vm_uuid=points[1].manifest.vm.uuid)
    keep(place, foreign)

    assert "PROVEN" not in newhope("points").out


def test_what_cannot_be_proven_is_refused_before_anything_is_touched(newhope: Run, points: tuple[Point, ...]) -> None:
    answer = newhope("prove", "web@latest", "--yes")

    assert answer.code == ExitCode.PREFLIGHT
    assert answer.labels == ["what", "untouched", "next"]
    assert newhope("prove", "nobody", "--yes").code == ExitCode.NOT_FOUND


def test_points_show_which_were_verified_since_they_were_made(
    newhope: Run, place: Place, points: tuple[Point, ...]
) -> None:
    assert "VERIFIED" not in newhope("points").out
    assert newhope("repo", "verify").code == 0

    after = newhope("points").out.splitlines()
    document = newhope("points", "--json").document["points"]

    assert "VERIFIED" in after[0]
    assert {each["verified"]["state"] for each in document} == {"sound"}
    assert all(each["verified"]["at"] for each in document)


@pytest.mark.parametrize(
    ("verdict", "column"),
    [
        (ProofVerdict.ANSWERED, "3 h"),
        (ProofVerdict.FAILED, "failed"),
        (ProofVerdict.STOPPED, "stopped"),
        (ProofVerdict.STARTED, "started"),
        (ProofVerdict.UNCHECKED, "unchecked"),
    ],
)
def test_every_verdict_is_shown_in_the_list_and_said_on_the_page(
    newhope: Run, place: Place, points: tuple[Point, ...], verdict: ProofVerdict, column: str
) -> None:
    keep(place, proof(points[0], verdict, timedelta(hours=3)))

    assert column in newhope("points").out.splitlines()[1]
    page = newhope("points", "show", points[0].id).out
    word = {ProofOutcome.PROVEN: "yes, ", ProofOutcome.FAILED: "NO, ", ProofOutcome.OPEN: "not conclusive, "}
    assert word[verdict.outcome] in page


def test_one_point_or_what_is_due_is_asked_for_never_both(newhope: Run, points: tuple[Point, ...]) -> None:
    assert newhope("prove").code == ExitCode.USAGE
    assert newhope("prove", "web@latest", "--due").code == ExitCode.USAGE
    assert "No level asks for proofs" in newhope("prove", "--due", "--dry-run").out
    answer = newhope("prove", "--due", "--to", "alderaan")
    assert answer.code == ExitCode.USAGE and "--to goes with one point" in answer.err


def test_where_no_level_asks_nothing_is_due(newhope: Run, points: tuple[Point, ...]) -> None:
    answer = newhope("prove", "--due", "--yes")

    assert answer.code == ExitCode.OK
    assert "prove_every" in answer.out
