"""What was known before and what is known now, made into one picture."""

from __future__ import annotations

import pytest

from engine.fleet import with_repository, with_snapshot
from engine.fleet.changing import newest_first, remembered
from engine.hosts.model import HostStatus
from tests.builders import ago, make_fleet, make_host, make_point, make_repository, make_vm

SILENT = make_host("alderaan", status=HostStatus.OFFLINE)


def test_a_host_that_fell_silent_keeps_its_vms_and_their_age() -> None:
    before = make_host("alderaan", vms=[make_vm("web")], taken_at=ago("5m"))

    now = remembered(SILENT, before)

    assert now.status is HostStatus.STALE
    assert [vm.name for vm in now.vms] == ["web"]
    assert now.taken_at == ago("5m")
    assert (now.reason, now.next_step) == (SILENT.reason, SILENT.next_step)


def test_a_host_that_stays_silent_keeps_the_moment_of_its_last_answer() -> None:
    stale = remembered(SILENT, make_host("alderaan", taken_at=ago("5m")))

    assert remembered(SILENT, stale).taken_at == ago("5m")


def test_a_host_that_never_answered_is_offline() -> None:
    assert remembered(SILENT, None) == SILENT
    assert remembered(SILENT, SILENT) == SILENT


def test_a_host_that_answers_is_as_it_answers() -> None:
    now = make_host("alderaan")

    assert remembered(now, make_host("alderaan", vms=[make_vm()])) == now


def test_the_answer_of_another_machine_is_not_remembered() -> None:
    before = make_host("alderaan", uri="qemu+ssh://root@elsewhere/system")

    assert remembered(SILENT, before) == SILENT


def test_one_host_seen_anew_keeps_its_place_and_the_others() -> None:
    fleet = with_snapshot(make_fleet(), make_host("coruscant", vms=[make_vm("new")]))

    assert [snapshot.host for snapshot in fleet.snapshots] == ["alderaan", "coruscant", "yavin"]
    assert [vm.name for vm in fleet.snapshots[1].vms] == ["new"]


def test_one_host_seen_silent_is_stale() -> None:
    assert with_snapshot(make_fleet(), SILENT).snapshots[0].status is HostStatus.STALE


def test_a_new_host_comes_last() -> None:
    assert with_snapshot(make_fleet(), make_host("hoth")).snapshots[-1].host == "hoth"


def test_one_repository_seen_anew_brings_its_points_in_place_of_the_old() -> None:
    old, other = make_point(age="1h"), make_point(age="2h", repository="attic")
    fleet = make_fleet(repositories=[make_repository(), make_repository("attic")], points=[old, other])
    new = make_point(age="10m")

    changed = with_repository(fleet, make_repository(path="/elsewhere"), [new])

    assert changed.points == (new, other)
    assert [view.name for view in changed.repositories] == ["vault", "attic"]
    assert changed.repositories[0].path == "/elsewhere"


def test_a_new_repository_comes_last() -> None:
    changed = with_repository(make_fleet(), make_repository("attic"), [make_point(repository="attic")])

    assert [view.name for view in changed.repositories] == ["vault", "attic"]
    assert len(changed.points) == 1


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_points_come_newest_first(order: tuple[int, ...]) -> None:
    points = [make_point(age=age) for age in ("1h", "2h", "3h")]

    assert newest_first(points[place] for place in order) == tuple(points)
