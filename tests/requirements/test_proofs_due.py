"""Which VMs are to be proven now, in which order, and when the others will be."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from engine.fleet import ProofState, proof_standing
from engine.hosts.model import HostStatus
from engine.repository import ProofMark, ProofVerdict
from engine.requirements import Attempts, ProofPlan, plan_proofs
from engine.requirements.proofs_due import wait_after_failures_s
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
    uuid_of,
)

DAY_S = 86400
GOLD = make_level("gold", vms=("db-*",), prove_every_s=DAY_S)
SILVER = make_level("silver", default=True, prove_every_s=7 * DAY_S)
SETTINGS = make_settings(levels=[GOLD, SILVER])


def mark(vm: str, age: str, verdict: ProofVerdict = ProofVerdict.ANSWERED) -> ProofMark:
    return ProofMark(uuid_of(vm), "0123456789abcdef", ago(age), verdict, f"{vm}.{age}")


def planned(
    names: str, proofs: list[ProofMark] | None = None, tried: dict[str, Attempts] | None = None, **changes: Any
) -> ProofPlan:
    """The plan for VMs of these names, which all have a recovery point of an hour ago, and these proofs."""
    hosts = [make_host("alderaan", vms=[make_vm(name) for name in names.split()]), make_host("coruscant")]
    points = [make_point(name, age="1h") for name in names.split()]
    vault = make_repository("vault", proofs=tuple(proofs or ()))
    settings = changes.pop("settings", SETTINGS)
    fleet = make_fleet(**({"hosts": hosts, "points": points, "repositories": [vault]} | changes))
    return plan_proofs(settings, fleet, {uuid_of(name): each for name, each in (tried or {}).items()}, NOW)


def due(plan: ProofPlan) -> list[str]:
    return [each.vm for each in plan.due]


def test_those_never_proven_come_first_then_by_how_much_of_their_interval_is_over():
    plan = planned(
        "db-1 db-2 web new mail", [mark("db-1", "23h"), mark("db-2", "50h"), mark("web", "8d"), mark("mail", "1d")]
    )

    assert due(plan) == ["new", "db-2", "web", "db-1"]
    assert plan.due[0].why == "it was never proven"
    assert plan.due[1].why == "208 % of the time between proofs is over"
    assert plan.due[0].point_id == make_point("new", age="1h").id
    (later,) = plan.later
    assert (later.vm, later.due_at) == ("mail", ago("1d") + timedelta(days=6.3))


def test_only_vms_whose_level_asks_for_proofs_are_proven():
    settings = make_settings(levels=[make_level("gold", default=True)])

    assert planned("web", settings=settings) == ProofPlan((), (), ())


def test_a_vm_without_a_point_is_left_out():
    plan = planned("web", points=[])

    assert due(plan) == []
    assert [each.vm for each in plan.left_out] == ["web"]


def test_a_vm_whose_host_is_dead_is_proven_elsewhere():
    plan = planned("web", hosts=[make_host("alderaan", status=HostStatus.OFFLINE), make_host("coruscant")])

    assert due(plan) == ["web"]


def test_a_vm_that_was_removed_is_not_proven():
    assert planned("web", hosts=[make_host("alderaan"), make_host("coruscant")]) == ProofPlan((), (), ())


def test_the_proof_of_an_earlier_point_or_in_another_repository_counts():
    other = make_repository("attic", proofs=(mark("web", "2h"),))

    plan = planned("web", [mark("web", "9d")], repositories=[make_repository("vault"), other])

    assert due(plan) == []


@pytest.mark.parametrize(
    ("ages", "waits_h"), [(("30m",), 1), (("30m", "90m"), 2), (("30m", "90m", "4h", "9h"), 8), (("30m",) * 9, 24)]
)
def test_after_failures_the_next_proof_waits_longer_each_time(ages: tuple[str, ...], waits_h: int):
    failed = [mark("db-1", age, ProofVerdict.SILENT) for age in ages]

    (later,) = planned("db-1", [*failed, mark("db-1", "20d")]).later

    assert later.failed == len(ages)
    assert later.due_at == ago("30m") + timedelta(hours=waits_h)


def test_a_proof_that_failed_is_tried_again_though_its_interval_is_not_over():
    plan = planned("web", [mark("web", "2h", ProofVerdict.FAILED), mark("web", "1d")])

    assert [(each.vm, each.why) for each in plan.due] == [("web", "its last proof failed")]


def test_an_attempt_that_came_to_no_proof_waits_too():
    tried = Attempts(failed=2, last=ago("30m"), last_job=7)

    (later,) = planned("web", [mark("web", "8d")], {"web": tried}).later

    assert later.due_at == ago("30m") + timedelta(hours=2)
    assert "job 7" in later.why


def test_an_attempt_that_failed_before_the_newest_proof_is_forgotten():
    assert due(planned("web", [mark("web", "6d20h")], {"web": Attempts(failed=5, last=ago("7d"))})) == ["web"]


def test_what_a_job_is_at_is_left_to_it():
    (later,) = planned("web", tried={"web": Attempts(job=12)}).later

    assert (later.due_at, later.why) == (None, "job 12 sees to it")


def test_a_guest_without_an_agent_is_not_watched_again_and_again():
    assert due(planned("web", [mark("web", "1h", ProofVerdict.STARTED)])) == []


@pytest.mark.parametrize(("failed", "wait_s"), [(0, 0), (1, 3600), (3, 14400), (60, DAY_S)])
def test_no_wait_is_longer_than_the_interval(failed: int, wait_s: int):
    assert wait_after_failures_s(DAY_S, failed) == wait_s


@pytest.mark.parametrize(
    ("proofs", "level", "state"),
    [
        ([], GOLD, ProofState.NEVER),
        ([], make_level("plain"), ProofState.NOT_ASKED),
        ([], None, ProofState.NOT_ASKED),
        ([mark("web", "23h")], GOLD, ProofState.PROVEN),
        ([mark("web", "25h")], GOLD, ProofState.LATE),
        ([mark("web", "900d")], None, ProofState.PROVEN),
        ([mark("web", "1h", ProofVerdict.STARTED)], GOLD, ProofState.OPEN),
        ([mark("web", "1h", ProofVerdict.UNCHECKED), mark("web", "2h")], GOLD, ProofState.OPEN),
        ([mark("web", "1h", ProofVerdict.FAILED), mark("web", "2h")], None, ProofState.FAILED),
        ([mark("web", "9d", ProofVerdict.STOPPED)], GOLD, ProofState.FAILED),
    ],
)
def test_where_a_vm_stands_by_its_proofs(proofs: list[ProofMark], level: Any, state: ProofState):
    assert proof_standing(tuple(proofs), level, NOW).state is state
