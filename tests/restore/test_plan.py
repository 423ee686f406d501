"""A restore's plan: every name decided, every step shown, every obstacle found, before anything is touched."""

from typing import Any

import pytest
from msgspec import structs

from engine.errors import NotFound
from engine.fleet import CheckState
from engine.hosts.model import HostStatus, VmState, Way
from engine.repository.model import Consistency, FileRecord
from engine.restore import (
    DiskTarget,
    MacChoice,
    Mode,
    NetworkMapping,
    Request,
    RestorePlan,
    UuidChoice,
    lock_of,
    plan,
    suggest_name,
)
from tests.builders import (
    GIB,
    make_fleet,
    make_host,
    make_host_facts,
    make_network,
    make_nic,
    make_point,
    make_pool,
    make_settings,
    make_vm,
    uuid_of,
)

LOCAL = make_host_facts("coruscant", local=True)


def request_for(point: Any, to_host: str = "coruscant", **changes: Any) -> Request:
    values: dict[str, Any] = {
        "repository": point.repository,
        "vm_uuid": point.manifest.vm.uuid,
        "point_id": point.id,
        "to_host": to_host,
    }
    return Request(**(values | changes))


def planned(fleet: Any = None, point: Any = None, to_host: str = "coruscant", **changes: Any) -> RestorePlan:
    point = point or make_point("web")
    fleet = fleet or make_fleet(points=[point])
    return plan(make_settings(), fleet, request_for(point, to_host, **changes))


def check(made: RestorePlan, name: str) -> Any:
    return next(each for each in made.checks if each.name == name)


def test_every_open_question_is_decided():
    made = planned()

    assert made.request.name
    assert made.request.pool == "default"
    assert made.request.new_uuid not in ("", uuid_of("web"))
    assert len(made.request.new_macs) == 1
    assert [mapping.to for mapping in made.request.networks] == ["default"]


def test_planning_a_decided_request_again_changes_nothing():
    point = make_point("web")
    fleet = make_fleet(points=[point])
    made = plan(make_settings(), fleet, request_for(point))

    again = plan(make_settings(), fleet, made.request)

    assert again.request == made.request
    assert again.steps == made.steps


def test_beside_a_living_original_the_name_and_the_addresses_are_new():
    made = planned()

    assert made.request.name == "web-restored"
    assert made.request.new_macs != make_point("web").manifest.vm.macs


def test_when_the_original_is_gone_name_and_addresses_are_its_own():
    point = make_point("web")
    fleet = make_fleet(hosts=[make_host("alderaan"), make_host("coruscant")], points=[point])

    made = planned(fleet, point)

    assert made.request.name == "web"
    assert made.request.new_macs == point.manifest.vm.macs


def test_when_its_host_is_dead_the_vm_comes_up_under_its_own_name_with_a_warning_of_twins():
    point = make_point("web")
    dead = make_host("alderaan", vms=[make_vm("web")], status=HostStatus.STALE)
    fleet = make_fleet(hosts=[dead, make_host("coruscant")], points=[point])

    made = planned(fleet, point)

    assert made.request.name == "web"
    assert check(made, "original").state is CheckState.WARN
    assert "alderaan" in check(made, "original").evidence
    assert not made.blocked


def test_names_that_are_taken_are_counted_on():
    point = make_point("web")
    there = make_host("coruscant", vms=[make_vm("web-restored"), make_vm("web-restored-2")])
    fleet = make_fleet(hosts=[make_host("alderaan", vms=[make_vm("web")]), there], points=[point])

    assert suggest_name(fleet, point, "coruscant") == "web-restored-3"


def test_a_name_that_is_taken_blocks():
    point = make_point("web")
    there = make_host("coruscant", vms=[make_vm("shop")])
    made = planned(make_fleet(hosts=[make_host("alderaan"), there], points=[point]), point, name="shop")

    assert made.blocked
    assert check(made, "name").state is CheckState.FAIL
    assert "--name" in check(made, "name").remedy


def test_a_host_that_does_not_answer_blocks():
    point = make_point("web")
    fleet = make_fleet(hosts=[make_host("alderaan"), make_host("coruscant", status=HostStatus.OFFLINE)], points=[point])

    assert planned(fleet, point).blocked


def test_a_full_pool_blocks():
    point = make_point("web", size_bytes=50 * GIB)
    there = make_host("coruscant", pools=(make_pool(available=GIB),))

    assert planned(make_fleet(hosts=[make_host("alderaan"), there], points=[point]), point).blocked


def test_a_missing_network_blocks_until_another_is_chosen():
    point = make_point(make_vm("web", nics=(make_nic("dmz"),)))
    fleet = make_fleet(points=[point])

    assert planned(fleet, point).blocked
    assert not planned(fleet, point, networks=(NetworkMapping(0, "default"),)).blocked
    assert not planned(fleet, point, networks=(NetworkMapping(0, "none"),)).blocked


def test_a_card_may_be_plugged_elsewhere():
    point = make_point("web")
    there = make_host("coruscant", networks=(make_network("default"), make_network("lab")))
    fleet = make_fleet(hosts=[make_host("alderaan"), there], points=[point])

    made = planned(fleet, point, networks=(NetworkMapping(0, "lab"),))

    assert "--network 0=lab" in made.command


def test_kept_addresses_that_another_vm_has_are_warned_of():
    made = planned(macs=MacChoice.KEEP)

    assert check(made, "MAC addresses").state is CheckState.WARN
    assert "web's on alderaan" in check(made, "MAC addresses").evidence


@pytest.mark.parametrize("state", [VmState.RUNNING, VmState.PAUSED])
def test_a_running_original_is_warned_of(state: VmState):
    point = make_point("web")
    hosts = [make_host("alderaan", vms=[make_vm("web", state=state)]), make_host("coruscant")]

    assert check(planned(make_fleet(hosts=hosts, points=[point]), point), "original").state is CheckState.WARN


def test_a_crash_consistent_point_is_warned_of():
    point = make_point("web", consistency=Consistency.CRASH, consistency_note="the agent was silent")

    found = check(planned(make_fleet(points=[point]), point), "consistency")

    assert found.state is CheckState.WARN
    assert "the agent was silent" in found.evidence


def test_failures_come_first():
    point = make_point("web", consistency=Consistency.CRASH)
    there = make_host("coruscant", vms=[make_vm("web")])
    made = planned(make_fleet(hosts=[make_host("alderaan"), there], points=[point]), point, name="web")

    states = [each.state for each in made.checks]

    assert states == sorted(states, key=[CheckState.FAIL, CheckState.WARN, CheckState.PASS, CheckState.SKIP].index)


def test_the_steps_are_in_the_order_in_which_they_can_be_undone():
    files = (
        FileRecord("definition-inactive", "web", 10, "ab" * 32, 0),
        FileRecord("kernel", "/boot/vmlinuz", 10, "ab" * 32, 0),
    )
    made = planned(point=make_point("web", files=files))

    assert [step.title for step in made.steps] == [
        "check the target again",
        "leave a note on the host",
        "write vda",
        "put its boot files",
        "define the VM",
        "begin its dirty bitmaps",
        "start it",
        "ask its guest agent",
    ]
    assert all(step.undo and step.host == "coruscant" for step in made.steps)
    assert made.size_bytes >= GIB


def test_a_vm_that_is_not_to_be_started_is_not_asked():
    made = planned(start=False)

    assert [step.title for step in made.steps][-1] == "begin its dirty bitmaps"
    assert "--no-start" in made.command


def test_the_command_names_point_host_name_and_pool():
    point = make_point("web")
    made = planned(point=point)

    assert made.command == (f"newhope restore web@{point.id} --to coruscant --name web-restored --pool default")


def test_an_unknown_point_or_host_is_not_found():
    point = make_point("web")

    with pytest.raises(NotFound):
        planned(make_fleet(points=[]), point)
    with pytest.raises(NotFound):
        planned(to_host="hoth")


def test_two_restores_to_one_name_on_one_host_exclude_each_other():
    point = make_point("web")

    assert lock_of(request_for(point, name="a", pool="x")) == lock_of(request_for(point, name="a", pool="y"))
    assert lock_of(request_for(point, name="a")) != lock_of(request_for(point, name="b"))


def with_memory(**changes: Any) -> Any:
    """A point that holds its guest's memory."""
    point = make_point("web", consistency=Consistency.MEMORY, **changes)
    memory = FileRecord("saved-state", "memory and devices", 170 << 20, "ab" * 32, 1)
    return structs.replace(point, manifest=structs.replace(point.manifest, files=(*point.manifest.files, memory)))


def elsewhere(point: Any) -> Any:
    """The original is on no host any more."""
    return make_fleet(hosts=[make_host("alderaan", vms=()), make_host("coruscant", vms=())], points=[point])


def test_without_a_twin_a_guest_goes_on_from_its_memory_with_all_that_it_was():
    point = with_memory()

    made = planned(elsewhere(point), point)

    assert made.request.memory is True
    assert made.request.new_uuid == point.manifest.vm.uuid
    assert made.request.name == "web"
    assert made.request.new_macs == point.manifest.vm.macs
    assert check(made, "saved memory").state is CheckState.PASS
    assert [step.key for step in made.steps if step.key in ("memory", "wake", "start")] == ["memory", "wake"]


@pytest.mark.parametrize(
    "choice",
    [{"memory": False}, {"uuid": UuidChoice.NEW}, {"macs": MacChoice.NEW}, {"name": "other"}],
    ids=["asked", "uuid", "macs", "name"],
)
def test_whoever_wants_another_identity_gets_a_guest_that_boots(choice: dict[str, Any]):
    point = with_memory()

    made = planned(elsewhere(point), point, **choice)

    assert made.request.memory is False
    assert check(made, "saved memory").state is CheckState.WARN
    assert "wake" not in [step.key for step in made.steps]


def test_memory_that_a_point_does_not_hold_is_not_promised():
    with pytest.raises(NotFound, match="holds no memory"):
        planned(memory=True)


def test_a_decided_restore_with_memory_is_decided_the_same_again():
    point = with_memory()
    fleet = elsewhere(point)
    made = plan(make_settings(), fleet, request_for(point))

    assert plan(make_settings(), fleet, made.request).request == made.request


def test_an_instant_restore_starts_before_it_moves_a_byte_and_ends_on_its_own_disks():
    point = make_point("web")
    made = planned(make_fleet(hosts=[make_host("coruscant", facts=LOCAL)], points=[point]), point, instant=True)

    keys = [step.key for step in made.steps]
    assert keys == [
        *("check", "note", "serve", "overlay:vda", "define", "track", "start", "ask-agent"),
        *("move:vda", "let-go"),
    ]
    assert [step.key for step in made.steps if step.size_bytes] == ["move:vda"]
    assert check(made, "instant start").state is CheckState.PASS
    assert "--instant" in made.command


def test_one_that_stays_on_what_is_served_is_not_moved():
    made = planned(instant=True, move=False, mode=Mode.TEST)

    assert not [step.key for step in made.steps if step.key.startswith(("move", "let-go", "write"))]


@pytest.mark.parametrize(
    ("why", "changes"),
    [
        ("only a VM", {"mode": Mode.DISKS}),
        ("not started", {"start": False}),
        ("salvage", {"salvage": True}),
        ("read again", {"verify": True}),
        ("a device", {"disks": (DiskTarget("vda", device="/dev/sdx"),)}),
    ],
)
def test_what_cannot_start_at_once_is_refused_with_the_way_that_can(why: str, changes: dict[str, Any]):
    made = planned(instant=True, **changes)

    assert made.blocked
    assert why in check(made, "instant start").evidence
    assert "--instant" in check(made, "instant start").remedy


@pytest.mark.parametrize("way", [Way.HERE, Way.SSH])
def test_an_instant_start_needs_a_host_that_can_be_given_a_socket(way: Way):
    point = make_point("web")
    host = make_host("coruscant", facts=make_host_facts("coruscant", local=way is Way.HERE, way=way))

    told = check(planned(make_fleet(hosts=[host], points=[point]), point, instant=True), "instant start")

    assert told.state is CheckState.PASS
    assert ("the link between them" in told.evidence) is (way is Way.SSH)


def test_an_instant_start_says_what_its_host_lacks():
    point = make_point("web")
    no_shell = make_host("coruscant", facts=make_host_facts("coruscant", local=False, way=Way.TLS))
    no_tool = make_host(
        "coruscant", facts=make_host_facts("coruscant", local=False, way=Way.SSH, missing_programs=("qemu-img",))
    )
    blocks = make_host("coruscant", facts=LOCAL, pools=(make_pool(kind="logical"),))

    said = [
        check(planned(make_fleet(hosts=[host], points=[point]), point, instant=True), "instant start").evidence
        for host in (no_shell, no_tool, blocks)
    ]

    assert "no shell" in said[0] and "qemu-img" in said[1] and "no files" in said[2]
