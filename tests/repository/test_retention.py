"""A policy: which points it keeps and drops, and the reason of each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from engine.repository import Consistency, Decision, KeepRules, Manifest, Point, decide
from engine.repository.retention import PERIODS, kept_by
from tests.repository.building import DB, facts

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
NOTHING = KeepRules()


def point(moment: datetime, number: int = 0, vm: str = "web", uuid: str | None = None) -> Point:
    manifest = Manifest(
        version=1,
        vm=facts(name=vm) if uuid is None else facts(uuid, vm),
        moment=moment,
        finished=moment,
        method="hot",
        consistency=Consistency.CRASH,
        consistency_note="",
        disks=(),
        files=(),
        downtime_s=0.0,
        read_bytes=0,
        new_bytes=0,
        checkpoint=None,
        writer="newhope 0.1.0",
    )
    return Point("vault", f"{number:016x}", manifest)


def days_ago(days: float, number: int = 0) -> Point:
    return point(NOON - timedelta(days=days), number or int(days * 100) + 1)


def decided(points: list[Point], rules: KeepRules | None, guarded: dict[str, tuple[str, ...]] | None = None):
    return decide(points, lambda _: rules, guarded or {})


def kept(decisions: tuple[Decision, ...]) -> list[float]:
    return [(NOON - decision.point.manifest.moment) / timedelta(days=1) for decision in decisions if decision.keep]


def test_the_last_points_are_kept():
    assert kept(decided([days_ago(days) for days in range(9)], KeepRules(last=3))) == [0, 1, 2]


def test_of_each_day_the_newest_point_is_kept():
    points = [days_ago(days) for days in (0, 0.25, 0.4, 1, 1.25, 2, 2.25, 3)]

    assert kept(decided(points, KeepRules(daily=3))) == [0, 1, 2]


def test_days_without_a_point_do_not_count():
    assert kept(decided([days_ago(days) for days in (0, 40, 41, 90)], KeepRules(daily=3))) == [0, 40, 41]


def test_hours_weeks_months_and_years_have_rules_too():
    hours = [days_ago(hour / 24, int(hour * 2) + 1) for hour in (0, 0.5, 1, 2)]
    days = [days_ago(day) for day in range(800)]

    assert [round(age * 24, 1) for age in kept(decided(hours, KeepRules(hourly=3)))] == [0, 0.5, 2]
    # 22 November 2026 is a Sunday.
    assert kept(decided(days, KeepRules(weekly=3))) == [0, 7, 14]
    assert kept(decided(days, KeepRules(monthly=3))) == [0, 22, 53]
    assert kept(decided(days, KeepRules(yearly=3))) == [0, 326, 691]


def test_a_point_names_every_rule_that_keeps_it():
    newest, older = decided([days_ago(0), days_ago(1)], KeepRules(last=1, daily=2, yearly=1))

    assert newest.reasons == ("the newest usable point of this VM", "last 1 of 1", "daily 2026-11-22", "yearly 2026")
    assert older.reasons == ("daily 2026-11-21",)


def test_a_dropped_point_says_that_no_rule_keeps_it():
    assert decided([days_ago(0), days_ago(1)], KeepRules(last=1))[1].reasons == ("no rule keeps it",)


def test_a_vm_whose_level_has_no_rules_keeps_everything():
    decisions = decided([days_ago(days) for days in range(5)], None)

    assert all(decision.keep for decision in decisions)
    assert decisions[-1].reasons == ("its level has no keep rules",)


def test_a_guarded_point_stays_and_takes_no_place_of_another():
    points = [days_ago(days) for days in range(5)]
    decisions = decided(points, KeepRules(last=2), {points[3].id: ("pinned by ana: before the upgrade",)})

    assert kept(decisions) == [0, 1, 3]
    assert decisions[3].reasons == ("pinned by ana: before the upgrade",)


def test_a_point_that_does_not_restore_takes_no_place_of_one_that_does():
    points = [days_ago(days) for days in range(4)]
    decisions = decide(points, lambda _: KeepRules(last=1), {}, {points[0].id})

    assert kept(decisions) == [1]
    assert decisions[0].reasons == ("it is not usable, and a newer one is",)


def test_where_no_point_is_usable_none_is_dropped():
    points = [days_ago(days) for days in range(3)]

    assert kept(decide(points, lambda _: KeepRules(last=1), {}, {point.id for point in points})) == [0, 1, 2]


def test_each_vm_has_its_own_rules_and_the_name_of_its_newest_point():
    renamed = [point(NOON, 1, "new-name"), point(NOON - timedelta(days=1), 2, "old-name")]
    other = [point(NOON - timedelta(days=day), 10 + day, "db", DB) for day in range(3)]
    rules = {"new-name": KeepRules(last=1), "db": KeepRules(last=2)}
    decisions = decide([*renamed, *other], lambda vm: rules.get(vm.name), {})

    assert [(each.point.manifest.vm.name, each.keep) for each in decisions] == [
        ("db", True), ("db", True), ("db", False), ("new-name", True), ("old-name", False),
    ]  # fmt: skip


RULES = st.builds(KeepRules, *(st.integers(0, 5) for _ in range(6)))
MOMENTS = st.lists(
    st.integers(0, 3 * 365 * 24 * 60).map(lambda minutes: NOON - timedelta(minutes=minutes)), max_size=60
).map(lambda moments: sorted(moments, reverse=True))


@given(RULES, MOMENTS)
def test_the_newest_point_is_never_dropped(rules: KeepRules, moments: list[datetime]):
    decisions = decided([point(moment, number) for number, moment in enumerate(moments, 1)], rules)

    assert len(decisions) == len(moments)
    assert all(decision.reasons for decision in decisions)
    if decisions:
        assert decisions[0].keep
        assert decisions[0].point.manifest.moment == max(moments)


@given(RULES, MOMENTS)
def test_every_rule_has_as_many_points_as_it_asks_for_if_there_are_as_many_periods(
    rules: KeepRules, moments: list[datetime]
):
    reasons = kept_by(rules, moments)

    assert sum(any(reason.startswith("last") for reason in each) for each in reasons) == min(rules.last, len(moments))
    for name, period_of in PERIODS:
        periods = {period_of(moment) for moment in moments}
        told = [reason for each in reasons for reason in each if reason.startswith(f"{name} ")]
        assert len(told) == len(set(told)) == min(getattr(rules, name), len(periods))


@given(RULES, MOMENTS)
def test_what_was_kept_is_kept_when_the_same_rules_are_applied_again(rules: KeepRules, moments: list[datetime]):
    points = [point(moment, number) for number, moment in enumerate(moments, 1)]
    once = [decision.point for decision in decided(points, rules) if decision.keep]

    assert [decision.keep for decision in decided(once, rules)] == [True] * len(once)


@given(RULES, MOMENTS, st.sampled_from([name for name, _ in PERIODS] + ["last"]))
def test_a_larger_number_never_drops_more(rules: KeepRules, moments: list[datetime], name: str):
    from msgspec.structs import asdict

    points = [point(moment, number) for number, moment in enumerate(moments, 1)]
    larger = KeepRules(**asdict(rules) | {name: getattr(rules, name) + 1})
    before = {decision.point.id for decision in decided(points, rules) if decision.keep}

    assert before <= {decision.point.id for decision in decided(points, larger) if decision.keep}
