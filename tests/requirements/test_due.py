"""Which VMs are to be backed up now, in which order, and when the others will be."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.hosts.model import HostStatus
from engine.repository import PointKind
from engine.requirements import Attempts, DuePlan, attempts_key, plan_due
from engine.requirements.due import EARLIEST_SHARE, LATEST_SHARE, due_age_s, wait_s
from engine.settings import GuestFilesSection, Rules
from tests.builders import (
    NOW,
    ago,
    make_fleet,
    make_guest_point,
    make_host,
    make_level,
    make_point,
    make_repository,
    make_settings,
    make_vm,
    uuid_of,
)

LEVELS = [make_level("gold", rpo="1h", vms=("db-*",)), make_level("silver", rpo="4h", default=True)]
SETTINGS = make_settings(levels=LEVELS)


def planned(names: str, ages: dict[str, str], tried: dict[str, Attempts] | None = None, **changes: Any) -> DuePlan:
    """The plan for VMs of these names on one host, whose newest points have these ages."""
    hosts = [make_host("alderaan", vms=[make_vm(name) for name in names.split()])]
    points = [make_point(name, age=age) for name, age in ages.items()]
    by_uuid = {uuid_of(name): attempts for name, attempts in (tried or {}).items()}
    settings = changes.pop("settings", SETTINGS)
    return plan_due(settings, make_fleet(**({"hosts": hosts, "points": points} | changes)), by_uuid, NOW)


def names_of(plan: DuePlan) -> tuple[list[str], list[str], list[str]]:
    return ([each.vm for each in plan.due], [each.vm for each in plan.later], [each.vm for each in plan.left_out])


def test_those_without_a_point_come_first_then_by_how_much_of_their_rpo_is_over() -> None:
    ages = {"db-1": "3h", "mail": "13h", "db-2": "50m", "web": "3h50m"}

    plan = planned("db-1 db-2 db-3 mail web new", ages)

    assert names_of(plan)[0] == ["db-3", "new", "mail", "db-1", "web", "db-2"]
    assert plan.due[0].why == "no recovery point of it can be reached"
    assert plan.due[2].why == "late: 325 % of its RPO is over"
    assert plan.due[5].why == "83 % of its RPO is over"


def test_a_new_vm_is_due_without_being_asked_for() -> None:
    assert names_of(planned("just-made", {})) == (["just-made"], [], [])


def test_a_vm_with_a_new_point_is_told_when_it_will_be_due() -> None:
    (found,) = planned("web", {"web": "10m"}).later

    assert found.due_at is not None
    assert ago("10m") + timedelta(hours=2) <= found.due_at <= ago("10m") + timedelta(hours=3)


@given(st.uuids().map(str), st.integers(60, 10**7))
def test_every_vm_is_due_while_a_quarter_of_its_rpo_is_left_and_always_at_the_same_share(uuid: str, rpo_s: int) -> None:
    level = make_level(rpo=f"{rpo_s}s")

    age_s = due_age_s(level, uuid)

    assert EARLIEST_SHARE * rpo_s <= age_s <= LATEST_SHARE * rpo_s
    assert due_age_s(level, uuid) == age_s


def test_vms_that_were_backed_up_together_become_due_one_after_another() -> None:
    shares = sorted(due_age_s(LEVELS[1], uuid_of(f"vm-{number}")) for number in range(200))

    assert len(set(shares)) == 200
    for quarter in range(4):
        begin = (0.5 + quarter / 16) * 4 * 3600
        assert 25 <= sum(begin <= share < begin + 900 for share in shares) <= 75


@pytest.mark.parametrize(("took_s", "age_s"), [(3600, 7200), (5000, 4400), (3600 * 9, 3600)])
def test_a_backup_that_takes_long_begins_earlier_but_never_without_a_pause(took_s: float, age_s: float) -> None:
    assert due_age_s(make_level(rpo="4h"), uuid_of("web"), took_s) == age_s


def test_a_vm_whose_last_attempts_failed_waits_longer_after_each() -> None:
    level = make_level(rpo="4h")

    assert [wait_s(level, failed) for failed in range(7)] == [0, 300, 600, 1200, 2400, 4800, 7200]
    assert wait_s(level, 1000) == 7200


def test_a_failed_vm_is_tried_again_when_its_wait_is_over() -> None:
    (waiting,) = planned("web", {}, {"web": Attempts(failed=2, last=ago("9m"), last_job=41)}).later

    assert waiting.due_at == NOW + timedelta(minutes=1)
    assert (waiting.why, waiting.failed) == ("the last 2 attempts failed (job 41)", 2)
    assert names_of(planned("web", {}, {"web": Attempts(failed=2, last=ago("10m"))}))[0] == ["web"]


def test_a_vm_that_is_being_backed_up_is_not_due() -> None:
    (found,) = planned("web", {}, {"web": Attempts(job=7)}).later

    assert (found.due_at, found.why) == (None, "job 7 sees to it")


def test_what_a_machine_that_was_off_has_missed_is_due_when_it_is_back_and_only_once() -> None:
    plan = planned("web db-1", {"web": "10d", "db-1": "3m"})

    assert [(each.vm, each.why) for each in plan.due] == [("web", "late: 6000 % of its RPO is over")]
    assert names_of(planned("web", {"web": "1s"})) == ([], ["web"], [])


def test_excluded_vms_are_named_with_their_rule() -> None:
    settings = make_settings(levels=LEVELS, exclude=Rules(vms=("tmp-*",)))

    plan = planned("web tmp-1", {}, settings=settings)

    assert names_of(plan) == (["web"], [], ["tmp-1"])
    assert plan.left_out[0].why == 'excluded by vms = "tmp-*"'


def test_a_vm_without_level_is_left_out() -> None:
    assert names_of(planned("web", {}, settings=make_settings(levels=LEVELS[:1]))) == ([], [], ["web"])


def test_a_vm_on_a_silent_host_is_named_only_if_it_would_be_due() -> None:
    silent = make_host("yavin", vms=[make_vm("web"), make_vm("fresh")], status=HostStatus.STALE)

    plan = planned("", {}, hosts=[silent], points=[make_point("fresh", age="1m")])

    assert names_of(plan) == ([], ["fresh"], ["web"])
    assert plan.left_out[0].silent


def test_without_a_repository_that_may_hold_points_a_vm_is_due() -> None:
    repositories = [make_repository(), make_repository("attic", reachable=False)]

    assert names_of(planned("web", {}, repositories=repositories))[0] == ["web"]


def test_points_of_the_future_keep_nobody_waiting() -> None:
    points = [make_point("web", moment=NOW + timedelta(days=400)), make_point("web", age="5h")]

    assert planned("web", {}, points=points).due[0].newest == ago("5h")


def test_every_vm_of_a_large_fleet_is_in_exactly_one_list() -> None:
    names = [f"vm-{number}" for number in range(200)]
    ages = {name: f"{number + 1}m" for number, name in enumerate(names) if number % 3}

    lists = names_of(planned(" ".join(names), ages))

    assert sorted(name for each in lists for name in each) == sorted(names)
    assert lists[0]
    assert lists[1]


def test_files_of_a_guest_become_due_by_their_own_interval_and_never_for_the_vm():
    section = GuestFilesSection("etc", Rules(vms=("web",)), ("/etc",), every_s=600)
    settings = make_settings(levels=[make_level(rpo="4h")], guest_files=(section,))
    fresh_vm = make_point("web", age="1m")
    old, new = make_guest_point("web", moment=ago("9m")), make_guest_point("web", moment=ago("1m"))

    never = plan_due(settings, make_fleet(points=[fresh_vm]), {}, NOW)
    late = plan_due(settings, make_fleet(points=[fresh_vm, old]), {}, NOW)
    done = plan_due(settings, make_fleet(points=[fresh_vm, old, new]), {}, NOW)
    only_files = plan_due(settings, make_fleet(points=[new]), {}, NOW)

    assert [(due.vm, due.kind) for due in never.due] == [("web", PointKind.GUEST)]
    assert [(due.vm, due.kind) for due in late.due] == [("web", PointKind.GUEST)]
    assert done.due == ()
    assert [(due.vm, due.kind) for due in only_files.due] == [("web", PointKind.VM)]


def test_failed_attempts_at_files_do_not_hold_back_the_vm():
    section = GuestFilesSection("etc", Rules(vms=("web",)), ("/etc",), every_s=600)
    settings = make_settings(levels=[make_level(rpo="4h")], guest_files=(section,))
    web = uuid_of("web")
    failed = {attempts_key(web, PointKind.GUEST): Attempts(failed=1, last=NOW)}

    plan = plan_due(settings, make_fleet(), failed, NOW)

    assert [due.kind for due in plan.due if due.vm_uuid == web] == [PointKind.VM]
    assert [later.kind for later in plan.later] == [PointKind.GUEST]
