"""`newhope repo prune`: it shows what goes and why, asks, and does exactly that."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from engine.cli import confirmation
from engine.errors import ExitCode
from engine.repository import Point, Repository
from tests.cli.conftest import Place, Run


@pytest.fixture
def one_of_each(place: Place) -> None:
    """Rules that keep the last point of each VM."""
    place.write(hosts=place.dead(), more="keep = { last = 1 }")


def left(place: Place) -> set[str]:
    return {point.id for point in Repository.open(place.vault).points()}


def test_a_dry_run_gives_every_point_with_its_reason_and_changes_nothing(
    newhope: Run, place: Place, points: tuple[Point, ...], one_of_each: None
) -> None:
    before = sorted(path for path in place.vault.rglob("*") if path.is_file())

    answer = newhope("repo", "prune", "--dry-run")

    assert answer.code == ExitCode.OK
    words = [line.split()[:3] for line in answer.out.splitlines()[1:4]]
    assert words == [
        ["keep", "db-1", points[1].id[:8]], ["keep", "web", points[0].id[:8]], ["drop", "web", points[2].id[:8]],
    ]  # fmt: skip
    assert "no rule keeps it" in answer.out
    assert "the newest usable point of this VM; last 1 of 1" in answer.out
    assert "3 recovery points: 1 to drop, 2 to keep." in answer.out
    assert "This frees 2" in answer.out
    assert sorted(path for path in place.vault.rglob("*") if path.is_file()) == before


def test_it_drops_what_it_showed_and_frees_the_space(
    newhope: Run, place: Place, points: tuple[Point, ...], one_of_each: None
) -> None:
    told = newhope("repo", "prune", "--dry-run", "--json").document["prune"]
    answer = newhope("repo", "prune", "--yes", "--json")

    assert answer.code == ExitCode.OK
    assert [point["id"] for point in told["points"] if not point["keep"]] == [points[2].id]
    done = answer.document["prune"]
    assert (done["dropped"], done["points"], done["forecast"]) == (1, told["points"], told["forecast"])
    assert done["collected"]["freed_bytes"] == pytest.approx(told["forecast"]["frees_bytes"], rel=0.01)
    assert done["collected"]["freed_bytes"] > 250_000
    assert left(place) == {points[0].id, points[1].id}


def test_without_rules_nothing_is_dropped_and_nobody_is_asked(
    newhope: Run, place: Place, points: tuple[Point, ...]
) -> None:
    answer = newhope("repo", "prune")

    assert answer.code == ExitCode.OK
    assert "Dropped 0 recovery points" in answer.out
    assert len(left(place)) == 3


def test_without_a_terminal_it_drops_nothing_unasked(
    newhope_process: Run, place: Place, points: tuple[Point, ...], one_of_each: None
) -> None:
    answer = newhope_process("repo", "prune")

    assert answer.code == ExitCode.USAGE
    assert "--yes" in answer.err
    assert len(left(place)) == 3


@pytest.mark.parametrize(("said", "code", "remaining"), [(True, ExitCode.OK, 2), (False, ExitCode.CANCELLED, 3)])
def test_it_asks_before_it_drops(
    newhope: Run,
    place: Place,
    points: tuple[Point, ...],
    one_of_each: None,
    monkeypatch: pytest.MonkeyPatch,
    said: bool,
    code: ExitCode,
    remaining: int,
) -> None:
    asked: list[str] = []

    def answer(_: object, question: str) -> bool:
        asked.append(question)
        return said

    monkeypatch.setattr(confirmation, "confirm", answer)

    assert newhope("repo", "prune").code == code
    assert asked == ["Drop 1 recovery point of vault for good?"]
    assert len(left(place)) == remaining


def test_pinned_and_protected_points_stay_and_say_why(
    newhope: Run, place: Place, points: tuple[Point, ...], one_of_each: None
) -> None:
    with Repository.open(place.vault) as repository:
        repository.pin(points[2], why="before the upgrade", by="ana")
        repository.protect(points[2], until=datetime.now(UTC) + timedelta(days=9), why="audit", by="bo")

    answer = newhope("repo", "prune", "--yes", "--json")

    assert answer.document["prune"]["dropped"] == 0
    reasons = answer.document["prune"]["points"][2]["reasons"]
    assert [reason.split(":")[0].split(" until")[0] for reason in reasons] == ["pinned by ana", "protected"]
    assert len(left(place)) == 3


def test_a_backup_that_runs_is_named_as_what_is_waited_for(
    newhope: Run, place: Place, points: tuple[Point, ...], one_of_each: None
) -> None:
    with Repository.open(place.vault).writer("newhope backup web"):
        answer = newhope("repo", "prune", "--yes")

    assert answer.code == ExitCode.OK
    assert "may still be needed by newhope backup web on " in answer.out
    assert "freed 256 KiB" in newhope("repo", "prune").out
