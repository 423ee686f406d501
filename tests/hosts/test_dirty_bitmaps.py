"""What real guests wrote since a checkpoint, as QEMU tells it, and every way in which it can have lost count."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing

import pytest

from engine.hosts import HostLane, checkpoints, image, power_off, pull_backup, start
from engine.hosts.model import Vm, VmState
from engine.hosts.power import vm_state
from engine.lab import Lab
from engine.nbd import BASE_ALLOCATION, Client, Extent
from tests.hosts.live import in_guest, kill_qemu, lab_of_its_own, lane_to, vm_of

pytestmark = [pytest.mark.lab, pytest.mark.slow]


@pytest.fixture(scope="module")
def own_lab() -> Iterator[Lab]:
    with lab_of_its_own(guests=("web", "db")) as made:
        yield made


@pytest.fixture(scope="module")
def lane(own_lab: Lab) -> Iterator[HostLane]:
    with lane_to(own_lab, "alderaan") as opened:
        yield opened


@pytest.fixture(params=["web", "db"])
def vm(request: pytest.FixtureRequest, own_lab: Lab, lane: HostLane) -> Iterator[Vm]:
    found = vm_of(lane, request.param)
    yield found
    if vm_state(lane, found.uuid) is not VmState.RUNNING:
        start(lane, found.uuid)
        own_lab.wait_until_up("alderaan", found.name)
    for name in checkpoints.own_checkpoints(lane, found.uuid):
        checkpoints.delete(lane, found.uuid, name)


def mark(lane: HostLane, vm: Vm) -> str:
    """A checkpoint as a backup leaves it behind."""
    name = checkpoints.new_name(chain="0123abcd")
    pull_backup.finish(lane, pull_backup.begin(lane, vm, checkpoint=name))
    return name


def since_all(vm: Vm, name: str) -> dict[str, str]:
    return {disk.target: name for disk in vm.disks if disk.device == "disk"}


def dirty(lane: HostLane, vm: Vm, since: dict[str, str]) -> dict[str, list[Extent] | str]:
    """By target: what was written since, or why nobody knows."""
    backup = pull_backup.begin(lane, vm, checkpoint=None, since=since)
    try:
        told: dict[str, list[Extent] | str] = {}
        for export in backup.exports:
            if export.bitmap is None:
                told[export.target] = export.bitmap_lost
                continue
            contexts = (BASE_ALLOCATION, export.bitmap)
            with closing(Client.connect(export.address, export.export, contexts=contexts)) as client:
                told[export.target] = [extent for extent in client.extents(export.bitmap) if extent.is_dirty]
        return told
    finally:
        pull_backup.finish(lane, backup)


def test_a_disk_tells_what_was_written_since_its_checkpoint_and_one_without_bitmap_nothing(
    lane: HostLane, vm: Vm
) -> None:
    name = mark(lane, vm)
    in_guest(lane, vm, "sleep 2; sync")

    told = dirty(lane, vm, since_all(vm, name))

    for disk in vm.disks:
        found = told[disk.target]
        if disk.format == "raw":
            assert found == ""
        else:
            assert isinstance(found, list)
            assert sum(extent.length for extent in found) < disk.capacity_bytes // 4
    assert any(found for found in told.values())


def test_a_vm_whose_qemu_was_killed_has_lost_count_and_is_served_all_the_same(
    own_lab: Lab, lane: HostLane, vm: Vm
) -> None:
    name = mark(lane, vm)
    kill_qemu(own_lab, lane, vm)
    start(lane, vm.uuid)
    own_lab.wait_until_up("alderaan", vm.name)

    told = dirty(lane, vm, since_all(vm, name))

    for disk in vm.disks:
        assert isinstance(told[disk.target], str)
    assert "bitmap" in str(told["vda"]) or "checkpoint" in str(told["vda"])


def test_a_bitmap_survives_switching_off_and_on(own_lab: Lab, lane: HostLane, vm: Vm) -> None:
    name = mark(lane, vm)
    power_off(lane, vm.uuid)
    start(lane, vm.uuid)
    own_lab.wait_until_up("alderaan", vm.name)

    assert isinstance(dirty(lane, vm, since_all(vm, name))["vda"], list)


def test_a_bitmap_that_somebody_removed_costs_only_its_disk_its_count(own_lab: Lab, lane: HostLane, vm: Vm) -> None:
    name = mark(lane, vm)
    power_off(lane, vm.uuid)
    subprocess.run(["qemu-img", "bitmap", "--remove", str(vm.disks[0].source), name], check=True)
    start(lane, vm.uuid)
    own_lab.wait_until_up("alderaan", vm.name)

    told = dirty(lane, vm, since_all(vm, name))

    assert isinstance(told[vm.disks[0].target], str)
    kept = [disk.target for disk in vm.disks[1:] if disk.format == "qcow2"]
    assert all(isinstance(told[target], list) for target in kept)


def test_a_checkpoint_that_the_host_never_knew_is_a_lost_bitmap(lane: HostLane, vm: Vm) -> None:
    told = dirty(lane, vm, since_all(vm, checkpoints.new_name()))

    assert "not found" in str(told["vda"])


def test_the_bitmap_of_a_vm_that_is_off_is_told_from_its_image(
    lane: HostLane, vm: Vm, tmp_path_factory: pytest.TempPathFactory
) -> None:
    name = mark(lane, vm)
    in_guest(lane, vm, "sync")
    power_off(lane, vm.uuid)
    disk = vm.disks[0]
    folder = tmp_path_factory.mktemp("s", numbered=True)

    assert {each.name: each.usable for each in image.info(disk.source or "", disk.format).bitmaps}[name]
    with image.serve(disk.source or "", disk.format, folder / "s", bitmap=name) as address:
        context = f"qemu:dirty-bitmap:{name}"
        with Client.connect(address, contexts=(BASE_ALLOCATION, context)) as client:
            changed = sum(extent.length for extent in client.extents(context) if extent.is_dirty)

    assert 0 < changed < disk.capacity_bytes // 4
