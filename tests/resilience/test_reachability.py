"""Hosts, repositories and guests that do not answer."""

from __future__ import annotations

import pytest

from engine.hosts.model import AgentState, HostStatus, VmState
from engine.repository.model import DamagedObject
from engine.resilience import Severity
from tests.builders import (
    make_fleet,
    make_host,
    make_host_facts,
    make_point,
    make_repository,
    make_vm,
    make_vm_facts,
    uuid_of,
)
from tests.resilience.finding_of import findings, flaws, severities


def test_each_host_is_told_as_answering_or_not() -> None:
    hosts = [
        make_host("a"),
        make_host("b", status=HostStatus.OFFLINE),
        make_host("c", status=HostStatus.STALE),
    ]

    assert severities(findings("host-unreachable", make_fleet(hosts=hosts))) == {"a": "ok", "b": "fail", "c": "fail"}


def test_a_stale_host_tells_since_when_and_what_is_on_it() -> None:
    hosts = [make_host("alderaan", status=HostStatus.STALE, vms=[make_vm("web"), make_vm("db")]), make_host("yavin")]

    (found,) = flaws("host-unreachable", make_fleet(hosts=hosts, points=[make_point("web", age="3h")]))

    assert found.what == "alderaan does not answer; its last answer is 2h old; 2 VMs are known to be on it."
    assert found.evidence == (
        "reason: no route to host",
        "web: newest recovery point 3h old",
        "db: no recovery point",
    )
    assert found.fix == ("ping alderaan", "or bring web up elsewhere: `newhope restore web@latest --to yavin`")
    assert found.vms == (uuid_of("web"), uuid_of("db"))


def test_a_host_that_never_answered_is_known_by_its_recovery_points() -> None:
    hosts = [make_host("alderaan", status=HostStatus.OFFLINE), make_host("yavin")]

    (found,) = flaws("host-unreachable", make_fleet(hosts=hosts, points=[make_point("web")]))

    assert "1 VM is known to be on it" in found.what
    assert found.names == ("web",)


def test_a_restore_is_offered_on_the_host_that_fits_best() -> None:
    hosts = [
        make_host("alderaan", status=HostStatus.OFFLINE),
        make_host("coruscant", facts=make_host_facts("coruscant", kvm=False)),
        make_host("yavin"),
    ]

    (found,) = flaws("host-unreachable", make_fleet(hosts=hosts, points=[make_point("web")]))

    assert found.fix[1].endswith("--to yavin`")


def test_no_restore_is_offered_where_no_host_fits() -> None:
    point = make_point(make_vm_facts("web", arch="aarch64"))
    hosts = [make_host("alderaan", status=HostStatus.OFFLINE), make_host("yavin")]

    (found,) = flaws("host-unreachable", make_fleet(hosts=hosts, points=[point]))

    assert found.fix == ("ping alderaan",)


def test_many_vms_of_a_dead_host_are_counted_not_listed() -> None:
    vms = [make_vm(f"vm{number}") for number in range(9)]

    (found,) = flaws("host-unreachable", make_fleet(hosts=[make_host(status=HostStatus.STALE, vms=vms)]))

    assert len(found.evidence) == 7
    assert found.evidence[-1] == "and 4 more VMs"


def test_a_vm_that_runs_elsewhere_by_now_is_not_missed_on_the_dead_host() -> None:
    hosts = [
        make_host("alderaan", status=HostStatus.STALE, vms=[make_vm("web")]),
        make_host("yavin", vms=[make_vm("web")]),
    ]

    (found,) = flaws("host-unreachable", make_fleet(hosts=hosts))

    assert "0 VMs are known" in found.what


def test_each_repository_is_told_as_readable_or_not() -> None:
    fleet = make_fleet(repositories=[make_repository(), make_repository("attic", reachable=False)])

    assert severities(findings("repository-unreachable", fleet)) == {"vault": "ok", "attic": "fail"}
    (found,) = flaws("repository-unreachable", fleet)
    assert found.evidence == ("path: /srv/attic", "reason: the folder does not exist")
    assert found.fix == ("mount /srv/attic",)


@pytest.mark.parametrize(("number", "words"), [(1, "An object of"), (7, "7 objects of")])
def test_damage_in_a_repository_is_told_with_what_is_hurt(number: int, words: str) -> None:
    damaged = tuple(DamagedObject(f"points/{each}", "its hash differs") for each in range(number))

    (found,) = flaws("repository-damaged", make_fleet(repositories=[make_repository(damaged=damaged)]))

    assert words in found.what
    assert found.evidence[0] == "points/0: its hash differs"
    assert len(found.evidence) <= 6


def test_of_a_repository_that_cannot_be_read_no_damage_is_told() -> None:
    assert findings("repository-damaged", make_fleet(repositories=[make_repository(reachable=False)])) == ()


@pytest.mark.parametrize(
    ("state", "agent", "severity"),
    [
        (VmState.RUNNING, AgentState.CONNECTED, "ok"),
        (VmState.RUNNING, AgentState.DISCONNECTED, "warn"),
        (VmState.RUNNING, AgentState.ABSENT, "warn"),
        (VmState.OFF, AgentState.DISCONNECTED, None),
        (VmState.OFF, AgentState.ABSENT, "warn"),
        (VmState.PAUSED, AgentState.DISCONNECTED, None),
        (VmState.CRASHED, AgentState.DISCONNECTED, None),
    ],
)
def test_an_agent_is_missed_only_where_it_could_answer(state: VmState, agent: AgentState, severity: str | None) -> None:
    fleet = make_fleet(hosts=[make_host("alderaan", vms=[make_vm("web", state=state, agent=agent)])])

    assert severities(findings("no-agent", fleet)) == ({"web": severity} if severity else {})


def test_a_silent_agent_and_a_missing_channel_are_mended_differently() -> None:
    vms = [make_vm("silent", agent=AgentState.DISCONNECTED), make_vm("absent", agent=AgentState.ABSENT)]

    absent, silent = flaws("no-agent", make_fleet(hosts=[make_host("alderaan", vms=vms)]))

    assert "virt-xml" in absent.fix[0]
    assert "start it again" in absent.fix[1]
    assert "qemu-guest-agent" in silent.fix[0]
    assert "virt-xml" not in "".join(silent.fix)


def test_a_vm_that_is_off_need_not_be_started_for_its_channel() -> None:
    vm = make_vm("web", state=VmState.OFF, agent=AgentState.ABSENT)

    (found,) = flaws("no-agent", make_fleet(hosts=[make_host("alderaan", vms=[vm])]))

    assert "start it again" not in "".join(found.fix)


def test_agents_on_a_silent_host_are_not_judged() -> None:
    vm = make_vm("web", agent=AgentState.DISCONNECTED)

    assert findings("no-agent", make_fleet(hosts=[make_host(status=HostStatus.STALE, vms=[vm])])) == ()


def test_severities_are_what_the_console_knows() -> None:
    assert [each.value for each in Severity] == ["fail", "warn", "unknown", "ok"]
