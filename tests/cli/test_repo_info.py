"""`newhope repo info`: who is at work, how long ago it was verified, what stays."""

from __future__ import annotations

from engine.errors import ExitCode
from engine.repository import Point, Repository
from tests.cli.conftest import Place, Run


def test_it_tells_what_was_never_verified_and_then_when_it_was(
    newhope: Run, place: Place, points: tuple[Point, ...]
) -> None:
    before = newhope("repo", "info").out
    assert newhope("repo", "verify", "--full").code == ExitCode.OK
    after = newhope("repo", "info")
    document = newhope("repo", "info", "--json").document

    assert "never to its end" in before
    assert "3 of 3 packs" in before
    assert "full, " in after.out
    assert ": sound" in after.out
    assert "0 of 3 packs; of the others, the oldest " in after.out
    assert document["verification"]["last"]["extent"] == "full"
    assert (document["verification"]["never_read"], document["verification"]["last"]["damaged"]) == (0, 0)


def test_damage_that_was_found_is_told_until_it_is_mended(
    newhope: Run, place: Place, points: tuple[Point, ...]
) -> None:
    next(path for path in place.vault.glob("packs/*/*") if path.is_file()).unlink()
    assert newhope("repo", "verify").code == ExitCode.REPOSITORY

    assert "quick, " in newhope("repo", "info").out
    assert ": 1 finding" in newhope("repo", "info").out


def test_it_tells_who_is_at_work_and_what_stays(newhope: Run, place: Place, points: tuple[Point, ...]) -> None:
    place.write(hosts=place.dead(), more="keep = { last = 2, daily = 7 }")
    with Repository.open(place.vault) as repository:
        repository.pin(points[0], why="an audit", by="ana")
        with repository.writer("newhope backup web"), repository.collector("newhope repo prune"):
            said = newhope("repo", "info").out

    told = {words[0]: words[1] for line in said.splitlines() if len(words := line.split("  ", 1)) == 2}
    assert told["writers now"].strip() == "1"
    assert told["collecting now"].strip() == "yes"
    assert told["keeps"].strip() == "silver: last 2, daily 7"
    assert told["guarded"].strip() == "1 recovery point pinned or protected"


def test_a_repository_in_no_settings_file_is_told_of_without_what_stays(
    newhope: Run, place: Place, points: tuple[Point, ...]
) -> None:
    place.settings_file.unlink()

    answer = newhope("repo", "info", place.vault)

    assert answer.code == ExitCode.OK
    assert "keeps" not in answer.out
