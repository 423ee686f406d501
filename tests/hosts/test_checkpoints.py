"""Checkpoints of a real guest: ours are listed and deleted, also when their bitmap is gone; others' are not touched."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from engine.hosts import HostLane, MissingOnHost, checkpoints, image, power_off, pull_backup, start
from engine.hosts.model import Vm
from engine.lab import Lab
from tests.hosts.live import lab_of_its_own, lane_to, vm_of

lab_test = [pytest.mark.lab, pytest.mark.slow]


def test_a_name_tells_its_moment_and_is_never_used_twice() -> None:
    moment = datetime(2026, 11, 22, 8, 13, 5, tzinfo=UTC)

    names = {checkpoints.new_name(moment) for _ in range(50)}

    assert len(names) == 50
    assert all(name.startswith("newhope-20261122T081305Z-") and checkpoints.is_own(name) for name in names)


def test_a_name_tells_the_chain_it_belongs_to() -> None:
    name = checkpoints.new_name(chain="0123abcd")

    assert checkpoints.is_own(name)
    assert checkpoints.chain_of(name) == "0123abcd"
    assert checkpoints.chain_of(checkpoints.new_name()) == ""


@pytest.mark.parametrize("name", ["virtnbdbackup.0", "newhope", "newhope-1", "my-newhope-20261122T081305Z-a1b2c3"])
def test_names_of_another_form_are_somebody_elses(name: str) -> None:
    assert not checkpoints.is_own(name)


@pytest.fixture(scope="module")
def own_lab() -> Iterator[Lab]:
    with lab_of_its_own() as made:
        yield made


@pytest.fixture(scope="module")
def lane(own_lab: Lab) -> Iterator[HostLane]:
    with lane_to(own_lab, "alderaan") as opened:
        yield opened


@pytest.fixture
def web(lane: HostLane) -> Iterator[Vm]:
    vm = vm_of(lane, "web")
    yield vm
    if not lane.run(lambda connection: connection.lookupByUUIDString(vm.uuid).isActive()):
        start(lane, vm.uuid)
    for name in all_names(lane, vm):
        lane.run(lambda connection, name=name: delete_plainly(connection, vm, name))


def delete_plainly(connection, vm: Vm, name: str) -> None:
    connection.lookupByUUIDString(vm.uuid).checkpointLookupByName(name).delete()


def all_names(lane: HostLane, vm: Vm) -> list[str]:
    return lane.run(
        lambda connection: [
            checkpoint.getName() for checkpoint in connection.lookupByUUIDString(vm.uuid).listAllCheckpoints()
        ]
    )


def make(lane: HostLane, vm: Vm, name: str) -> str:
    """A checkpoint as a backup leaves it behind."""
    pull_backup.finish(lane, pull_backup.begin(lane, vm, checkpoint=name))
    return name


def bitmaps(vm: Vm) -> dict[str, bool]:
    """Of the VM's first disk, from its image: names, and whether they are whole."""
    return {bitmap.name: bitmap.usable for bitmap in image.info(vm.disks[0].source or "").bitmaps}


class TestOnAGuest:
    pytestmark = lab_test

    def test_only_our_own_are_listed_oldest_first(self, lane: HostLane, web: Vm) -> None:
        newer = make(lane, web, checkpoints.new_name(datetime(2026, 3, 2, tzinfo=UTC)))
        make(lane, web, "somebody.elses")
        older = make(lane, web, checkpoints.new_name(datetime(2026, 3, 1, tzinfo=UTC)))

        assert checkpoints.own_checkpoints(lane, web.uuid) == (older, newer)

    def test_a_deleted_one_takes_its_bitmap_with_it(self, lane: HostLane, web: Vm) -> None:
        name = make(lane, web, checkpoints.new_name())

        assert checkpoints.delete(lane, web.uuid, name)

        assert checkpoints.own_checkpoints(lane, web.uuid) == ()
        power_off(lane, web.uuid)
        assert name not in bitmaps(web)

    def test_deleting_twice_is_fine(self, lane: HostLane, web: Vm) -> None:
        name = make(lane, web, checkpoints.new_name())

        assert checkpoints.delete(lane, web.uuid, name)
        assert checkpoints.delete(lane, web.uuid, name)

    def test_somebody_elses_is_never_deleted(self, lane: HostLane, web: Vm) -> None:
        name = make(lane, web, "somebody.elses")

        with pytest.raises(ValueError, match="somebody"):
            checkpoints.delete(lane, web.uuid, name)

        assert all_names(lane, web) == [name]

    def test_one_whose_bitmap_has_vanished_is_forgotten(self, lane: HostLane, web: Vm) -> None:
        name = make(lane, web, checkpoints.new_name())
        power_off(lane, web.uuid)
        subprocess.run(["qemu-img", "bitmap", "--remove", str(web.disks[0].source), name], check=True)
        start(lane, web.uuid)

        assert checkpoints.delete(lane, web.uuid, name)

        assert checkpoints.own_checkpoints(lane, web.uuid) == ()

    def test_that_of_a_vm_that_is_off_stays_for_a_later_call(self, lane: HostLane, web: Vm) -> None:
        name = make(lane, web, checkpoints.new_name())
        power_off(lane, web.uuid)

        assert not checkpoints.delete(lane, web.uuid, name)
        assert checkpoints.own_checkpoints(lane, web.uuid) == (name,)
        start(lane, web.uuid)

        assert checkpoints.delete(lane, web.uuid, name)

    def test_a_vm_that_is_not_there_is_said_to_be_missing(self, lane: HostLane) -> None:
        with pytest.raises(MissingOnHost):
            checkpoints.own_checkpoints(lane, "00000000-0000-4000-8000-000000000000")
