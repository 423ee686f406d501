"""Room for a restore, in pools, on devices and in memory."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from engine.fleet import CheckState
from engine.restore.evidence import OtherJob
from engine.restore.model import DiskTarget
from tests.builders import GIB, make_disk_record, make_fleet, make_host, make_host_facts, make_point, make_pool, make_vm
from tests.restore.planning import ASKED, check, names, planned, saved


def room(available: int, **changes: Any) -> Any:
    return make_host("coruscant", pools=(make_pool(available=available, **changes),))


@pytest.mark.parametrize(
    ("available", "state", "by_name"),
    [(2 * GIB, "pass", False), (GIB + GIB // 20, "warn", True), (GIB // 2, "fail", False)],
)
def test_a_pool_keeps_a_tenth_in_reserve_and_less_is_accepted_by_name(available: int, state: str, by_name: bool):
    found = check(planned(target=room(available)), "pool")

    assert (found.state, found.by_name) == (state, by_name)


def test_what_other_restores_will_write_there_is_not_free():
    other = OtherJob(7, "restore", "shop", "coruscant", "default", 3 * GIB)
    elsewhere = OtherJob(8, "restore", "shop", "yavin", "default", 3 * GIB)

    tight = planned(target=room(2 * GIB), evidence=structs.replace(ASKED, others=(other,)))
    wide = planned(target=room(2 * GIB), evidence=structs.replace(ASKED, others=(elsewhere,)))

    assert check(tight, "pool").state is CheckState.FAIL
    assert "other restores will write 3 GiB" in check(tight, "pool").evidence
    assert check(wide, "pool").state is CheckState.PASS


@pytest.mark.parametrize(("kind", "blocked"), [("dir", False), ("logical", True)])
def test_a_pool_without_sparse_volumes_needs_the_whole_disk(kind: str, blocked: bool):
    # 1 GiB of data on a disk of 10 GiB.
    assert planned(target=room(5 * GIB, kind=kind)).blocked is blocked


def test_a_thin_disk_that_may_outgrow_its_pool_is_warned_of():
    found = check(planned(target=room(5 * GIB)), "growth")

    assert found.state is CheckState.WARN
    assert "may grow to 10 GiB" in found.evidence
    assert "growth" not in names(planned(target=room(50 * GIB)))


def test_the_guests_memory_needs_room_too():
    fleet = make_fleet(hosts=[make_host("alderaan"), room(2 * GIB)], points=[saved()])

    assert check(planned(saved(), fleet=fleet), "pool").state is CheckState.FAIL
    assert check(planned(saved(), fleet=fleet, memory=False), "pool").state is CheckState.PASS


def test_each_pool_is_checked_for_what_goes_there():
    point = make_point("web", disks=(make_disk_record(), make_disk_record(target="vdb", data_bytes=8 * GIB)))
    target = make_host("coruscant", pools=(make_pool(available=99 * GIB), make_pool("fast", available=4 * GIB)))

    made = planned(point, target=target, pool="default", disks=(DiskTarget("vdb", pool="fast"),))

    assert check(made, "pool").state is CheckState.PASS
    assert check(made, "pool fast").state is CheckState.FAIL
    assert "--pool default" in check(made, "pool fast").remedy
    assert check(made, "pool fast").key == "pool-fast"


def test_a_pool_that_is_off_is_answered_with_the_command_that_starts_it():
    target = make_host("coruscant", pools=(make_pool(active=False), make_pool("fast")))

    found = check(planned(target=target, pool="default"), "pool")

    assert found.state is CheckState.FAIL
    assert "pool-start default" in found.remedy
    assert "--pool fast" in found.remedy


def test_a_device_is_overwritten_only_when_it_is_accepted_by_name():
    found = check(planned(disks=(DiskTarget("vda", device="/dev/sdx"),)), "device")

    assert (found.state, found.by_name) == (CheckState.WARN, True)


def test_a_device_of_another_vm_is_never_overwritten():
    owner = make_vm("shop", disks=(structs.replace(make_vm().disks[0], source="/dev/sdx"),))

    assert planned(target=make_host("coruscant", vms=[owner]), disks=(DiskTarget("vda", device="/dev/sdx"),)).blocked


@pytest.mark.parametrize("start", [True, False])
def test_memory_that_is_not_free_is_accepted_by_name_before_a_start(start: bool):
    target = make_host("coruscant", facts=make_host_facts("coruscant", memory_free_bytes=GIB))

    assert check(planned(target=target, start=start), "memory").by_name is start
