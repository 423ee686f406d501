"""`newhope repo pin|unpin|protect`: what they guard stays, and says so."""

from __future__ import annotations

import pytest

from engine.errors import ExitCode
from engine.repository import Point, Repository
from tests.cli.conftest import Place, Run


def reasons(place: Place, point: Point) -> tuple[str, ...]:
    return Repository.open(place.vault).guarded().get(point.id, ())


def test_a_pin_says_who_and_why_until_it_is_taken_away(newhope: Run, place: Place, points: tuple[Point, ...]) -> None:
    name = f"web@{points[2].id[:6]}"

    assert newhope("repo", "pin", name, "--why", "before the upgrade").code == ExitCode.OK
    assert [reason.rpartition(": ")[2] for reason in reasons(place, points[2])] == ["before the upgrade"]

    assert "Took 1 pin away" in newhope("repo", "unpin", name).out
    assert reasons(place, points[2]) == ()
    assert newhope("repo", "unpin", name).code == ExitCode.CONFLICT


def test_a_protection_stays_when_pins_are_taken_away(newhope: Run, place: Place, points: tuple[Point, ...]) -> None:
    guard = newhope("repo", "protect", "web@-1", "--for", "30d", "--json").document["guard"]

    assert (guard["kind"], guard["point_id"]) == ("protection", points[2].id)
    assert newhope("repo", "unpin", "web@-1").code == ExitCode.CONFLICT
    assert reasons(place, points[2])[0].startswith("protected until")


@pytest.mark.parametrize("duration", ["30", "soon", "-1d"])
def test_a_duration_that_is_none_protects_nothing(
    newhope: Run, place: Place, points: tuple[Point, ...], duration: str
) -> None:
    assert newhope("repo", "protect", "web", f"--for={duration}").code == ExitCode.USAGE
    assert reasons(place, points[0]) == ()
