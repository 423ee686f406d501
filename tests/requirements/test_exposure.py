"""How much would be lost of each VM, held against its level."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.hosts.model import HostStatus
from engine.requirements import Exposure, ExposureState, exposures, worst_per_host
from engine.settings import Rules
from tests.builders import (
    NOW,
    ago,
    make_fleet,
    make_host,
    make_level,
    make_point,
    make_repository,
    make_settings,
    make_vm,
    make_vm_facts,
    uuid_of,
)

SETTINGS = make_settings(levels=[make_level("gold", rpo="1h")])


def of(found: tuple[Exposure, ...], name: str) -> Exposure:
    return next(exposure for exposure in found if exposure.vm == name)


@pytest.mark.parametrize(
    ("age", "state"),
    [("1s", "ok"), ("59m59s", "ok"), ("1h", "ok"), ("1h1s", "late"), ("30d", "late")],
)
def test_a_vm_is_late_once_its_newest_point_is_older_than_its_level_accepts(age: str, state: str) -> None:
    (found,) = exposures(SETTINGS, make_fleet(points=[make_point("web", age=age)]), NOW)

    assert found.state == state
    assert found.newest == ago(age)
    assert found.age_s == (NOW - ago(age)).total_seconds()
    assert found.due_in_s == 3600 - found.age_s


def test_the_newest_point_of_all_repositories_counts() -> None:
    points = [make_point("web", age="3h"), make_point("web", age="10m", repository="attic")]

    (found,) = exposures(SETTINGS, make_fleet(points=points), NOW)

    assert found.age_s == 600
    assert found.points == 2


def test_points_of_other_vms_do_not_count() -> None:
    hosts = [make_host("alderaan", vms=[make_vm("web"), make_vm("db")])]

    found = exposures(SETTINGS, make_fleet(hosts=hosts, points=[make_point("db")]), NOW)

    assert of(found, "web").state is ExposureState.NEVER
    assert of(found, "db").state is ExposureState.OK


def test_a_vm_without_point_was_never_protected() -> None:
    (found,) = exposures(SETTINGS, make_fleet(), NOW)

    assert found.state is ExposureState.NEVER
    assert (found.newest, found.age_s, found.due_in_s, found.points) == (None, None, None, 0)


def test_an_excluded_vm_is_shown_as_such_with_its_rule_and_without_a_level() -> None:
    settings = make_settings(levels=[make_level("gold", rpo="1h")], exclude=Rules(vms=("w*",)))

    (found,) = exposures(settings, make_fleet(points=[make_point("web", age="30d")]), NOW)

    assert (found.state, found.excluded_by, found.level) == (ExposureState.EXCLUDED, 'vms = "w*"', None)
    assert found.points == 1


def test_without_point_while_a_repository_is_silent_nothing_can_be_told() -> None:
    repositories = [make_repository(), make_repository("attic", reachable=False)]

    (found,) = exposures(SETTINGS, make_fleet(repositories=repositories), NOW)

    assert found.state is ExposureState.UNKNOWN


def test_a_late_vm_stays_late_while_a_repository_is_silent() -> None:
    repositories = [make_repository(), make_repository("attic", reachable=False)]
    fleet = make_fleet(repositories=repositories, points=[make_point("web", age="2h")])

    (found,) = exposures(SETTINGS, fleet, NOW)

    assert found.state is ExposureState.LATE


@pytest.mark.parametrize("points", [[], [make_point("web", age="1m")]])
def test_a_vm_without_level_is_unprotected_with_and_without_points(points: list[object]) -> None:
    (found,) = exposures(make_settings(levels=[]), make_fleet(points=points), NOW)  # pyright: ignore[reportArgumentType]

    assert found.state is ExposureState.UNPROTECTED
    assert found.level is None
    assert found.due_in_s is None


def test_a_point_of_the_future_is_as_new_as_can_be() -> None:
    point = make_point("web", moment=NOW + timedelta(hours=3))

    (found,) = exposures(SETTINGS, make_fleet(points=[point]), NOW)

    assert found.age_s == 0
    assert found.state is ExposureState.OK


def test_a_vm_of_a_dead_host_is_told_from_its_points_alone() -> None:
    fleet = make_fleet(
        hosts=[make_host("alderaan", status=HostStatus.OFFLINE), make_host("yavin")],
        points=[make_point("web", age="2h")],
    )

    (found,) = exposures(SETTINGS, fleet, NOW)

    assert (found.vm, found.host, found.vm_uuid) == ("web", "alderaan", uuid_of("web"))
    assert found.state is ExposureState.LATE


def test_a_vm_of_a_stale_host_is_told_as_it_was() -> None:
    hosts = [make_host("alderaan", status=HostStatus.STALE, vms=[make_vm("web")])]

    (found,) = exposures(SETTINGS, make_fleet(hosts=hosts, points=[make_point("web")]), NOW)

    assert found.state is ExposureState.OK


def test_a_vm_that_its_host_no_longer_has_is_gone_and_no_alarm() -> None:
    fleet = make_fleet(hosts=[make_host("alderaan")], points=[make_point("web", age="30d")])

    (found,) = exposures(SETTINGS, fleet, NOW)

    assert found.state is ExposureState.GONE
    assert found.newest == ago("30d")


def test_a_vm_that_moved_to_another_host_is_not_gone() -> None:
    point = make_point(make_vm_facts("web", host="alderaan"))
    fleet = make_fleet(hosts=[make_host("alderaan"), make_host("yavin", vms=[make_vm("web")])], points=[point])

    (found,) = exposures(SETTINGS, fleet, NOW)

    assert (found.host, found.state) == ("yavin", ExposureState.OK)


def test_a_renamed_vm_keeps_its_points_and_gets_the_level_of_its_new_name() -> None:
    settings = make_settings(levels=[make_level("gold", vms=("new",)), make_level("silver", default=True)])
    vm = make_vm("new", uuid=uuid_of("old"))
    fleet = make_fleet(hosts=[make_host("alderaan", vms=[vm])], points=[make_point("old")])

    (found,) = exposures(settings, fleet, NOW)

    assert (found.vm, found.points) == ("new", 1)
    assert found.level is settings.levels[0]


def test_a_restored_copy_is_a_vm_of_its_own() -> None:
    hosts = [make_host("alderaan", vms=[make_vm("web")]), make_host("yavin", vms=[make_vm("web-restored")])]

    found = exposures(SETTINGS, make_fleet(hosts=hosts, points=[make_point("web")]), NOW)

    assert of(found, "web-restored").state is ExposureState.NEVER


def test_the_worst_comes_first() -> None:
    names = ("fresh", "late", "later", "never", "none-never", "none", "soon")
    settings = make_settings(levels=[make_level("gold", vms=("fresh", "late*", "never", "soon"), rpo="1h")])
    fleet = make_fleet(
        hosts=[make_host("alderaan", vms=[make_vm(name) for name in names])],
        points=[
            make_point("fresh", age="1m"),
            make_point("soon", age="55m"),
            make_point("late", age="2h"),
            make_point("later", age="5h"),
            make_point("none", age="1m"),
            make_point("removed", age="9d"),
        ],
    )

    found = exposures(settings, fleet, NOW)

    assert [exposure.vm for exposure in found] == [
        "never",
        "later",
        "late",
        "none-never",
        "none",
        "soon",
        "fresh",
        "removed",
    ]


def test_the_worst_vm_speaks_for_its_host_and_removed_ones_do_not() -> None:
    fleet = make_fleet(
        hosts=[make_host("alderaan", vms=[make_vm("web"), make_vm("db")]), make_host("yavin")],
        points=[
            make_point("web", age="5m"),
            make_point("db", age="2h"),
            make_point(make_vm_facts("x", host="yavin"), age="9d"),
        ],
    )

    worst = worst_per_host(exposures(SETTINGS, fleet, NOW))

    assert {host: exposure.vm for host, exposure in worst.items()} == {"alderaan": "db"}


def test_an_empty_fleet_has_no_exposure() -> None:
    assert exposures(SETTINGS, make_fleet(hosts=[]), NOW) == ()


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 200_000)), max_size=12), st.booleans())
def test_every_vm_is_told_exactly_once_and_in_order(ages: list[tuple[int, int]], silent: bool) -> None:
    vms = [make_vm(f"vm{number}") for number in range(3)]
    points = [make_point(f"vm{number}", moment=NOW - timedelta(seconds=age_s)) for number, age_s in ages]
    fleet = make_fleet(hosts=[make_host("alderaan", vms=vms)], points=points)
    if silent:
        fleet = make_fleet(hosts=fleet.snapshots, points=points, repositories=[make_repository(reachable=False)])

    found = exposures(SETTINGS, fleet, NOW)

    names = {vm.name for vm in vms} | {f"vm{number}" for number, _ in ages}
    assert sorted(exposure.vm for exposure in found) == sorted(names)
    ranks = [tuple(ExposureState).index(exposure.state) for exposure in found]
    assert ranks == sorted(ranks)
    for exposure in found:
        own = [age_s for number, age_s in ages if exposure.vm == f"vm{number}"]
        assert exposure.age_s == (min(own) if own else None)
