"""Looking things up in a fleet."""

from __future__ import annotations

import pytest

from engine.errors import NotFound
from engine.fleet import (
    facts_of,
    find_known_vm,
    find_snapshot,
    gone_vms,
    known_vms,
    newest_point,
    points_by_vm,
    points_of,
    was_removed,
)
from engine.hosts.model import AgentState, HostStatus, VmState
from tests.builders import make_fleet, make_host, make_nic, make_point, make_vm, make_vm_facts, uuid_of


def test_a_host_is_found_by_name() -> None:
    assert find_snapshot(make_fleet(), "yavin").host == "yavin"


@pytest.mark.parametrize(("name", "words"), [("yavn", "did you mean yavin?"), ("hoth", "newhope hosts")])
def test_a_host_that_is_not_there_is_answered_with_what_is(name: str, words: str) -> None:
    with pytest.raises(NotFound) as caught:
        find_snapshot(make_fleet(), name)

    assert words in caught.value.next_step


def test_vms_come_in_the_order_of_hosts() -> None:
    fleet = make_fleet(hosts=[make_host("b", vms=[make_vm("z"), make_vm("y")]), make_host("a", vms=[make_vm("x")])])

    assert [vm.name for vm in known_vms(fleet)] == ["z", "y", "x"]


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        ((HostStatus.ONLINE, VmState.OFF), (HostStatus.ONLINE, VmState.RUNNING), "b"),
        ((HostStatus.ONLINE, VmState.RUNNING), (HostStatus.ONLINE, VmState.OFF), "a"),
        ((HostStatus.STALE, VmState.RUNNING), (HostStatus.ONLINE, VmState.OFF), "b"),
        ((HostStatus.STALE, VmState.RUNNING), (HostStatus.ONLINE, VmState.RUNNING), "b"),
        ((HostStatus.ONLINE, VmState.OFF), (HostStatus.STALE, VmState.RUNNING), "a"),
        ((HostStatus.ONLINE, VmState.OFF), (HostStatus.ONLINE, VmState.OFF), "a"),
    ],
)
def test_a_vm_that_two_hosts_show_is_shown_once_where_it_most_likely_is(
    first: tuple[HostStatus, VmState], second: tuple[HostStatus, VmState], shown: str
) -> None:
    hosts = [
        make_host(name, status=status, vms=[make_vm("web", state=state)])
        for name, (status, state) in (("a", first), ("b", second))
    ]

    assert [vm.host for vm in known_vms(make_fleet(hosts=hosts))] == [shown]


def test_a_vm_is_found_by_uuid() -> None:
    vm = find_known_vm(make_fleet(), uuid_of("web"))

    assert vm is not None
    assert vm.name == "web"
    assert find_known_vm(make_fleet(), uuid_of("other")) is None


def test_points_of_a_vm_are_its_own_newest_first_from_all_repositories() -> None:
    fleet = make_fleet(
        points=[
            make_point("web", age="3h"),
            make_point("db", age="1h"),
            make_point("web", age="2h", repository="attic"),
        ]
    )

    assert [point.repository for point in points_of(fleet, uuid_of("web"))] == ["attic", "vault"]
    assert newest_point(fleet, uuid_of("web")) == points_of(fleet, uuid_of("web"))[0]
    assert newest_point(fleet, uuid_of("nobody")) is None
    assert points_by_vm(fleet)[uuid_of("web")] == points_of(fleet, uuid_of("web"))


def test_a_vm_that_only_points_know_is_told_once_as_its_newest_point_has_it() -> None:
    older = make_vm_facts("old-name", uuid=uuid_of("lost"))
    newer = make_vm_facts("new-name", uuid=uuid_of("lost"))
    fleet = make_fleet(points=[make_point(older, age="2d"), make_point(newer, age="1d"), make_point("web")])

    assert [facts.name for facts in gone_vms(fleet)] == ["new-name"]


def test_a_vm_of_a_stale_host_is_not_gone() -> None:
    fleet = make_fleet(hosts=[make_host(status=HostStatus.STALE, vms=[make_vm()])], points=[make_point()])

    assert list(gone_vms(fleet)) == []


@pytest.mark.parametrize(
    ("its_host", "alderaan", "coruscant", "removed"),
    [
        ("alderaan", HostStatus.ONLINE, HostStatus.ONLINE, True),
        ("alderaan", HostStatus.ONLINE, HostStatus.OFFLINE, True),
        ("alderaan", HostStatus.OFFLINE, HostStatus.ONLINE, False),
        ("alderaan", HostStatus.STALE, HostStatus.ONLINE, False),
        ("decommissioned", HostStatus.ONLINE, HostStatus.ONLINE, True),
        ("decommissioned", HostStatus.ONLINE, HostStatus.OFFLINE, False),
    ],
)
def test_a_vm_was_removed_if_nothing_silent_can_hide_it(
    its_host: str, alderaan: HostStatus, coruscant: HostStatus, removed: bool
) -> None:
    hosts = [make_host("alderaan", status=alderaan), make_host("coruscant", status=coruscant)]

    assert was_removed(make_fleet(hosts=hosts), make_vm_facts(host=its_host)) is removed


@pytest.mark.parametrize(
    ("agent", "has"),
    [(AgentState.CONNECTED, True), (AgentState.DISCONNECTED, True), (AgentState.ABSENT, False)],
)
def test_the_facts_of_a_vm_tell_whether_it_has_a_channel_for_an_agent(agent: AgentState, has: bool) -> None:
    assert facts_of(make_vm(agent=agent)).agent is has


def test_the_facts_of_a_vm_name_each_card_by_kind_and_source() -> None:
    nics = (make_nic("br0", kind="bridge", mac="52:54:00:00:00:0a"), make_nic(None, kind="user"))

    facts = facts_of(make_vm(nics=nics))

    assert facts.nics == ("bridge:br0", "user:")
    assert facts.macs == ("52:54:00:00:00:0a", "52:54:00:00:00:01")
