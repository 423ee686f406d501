"""Whole disks of a VM, read by nothing that backups rely on elsewhere, and what an owner may do to its disks."""

from __future__ import annotations

from pathlib import Path

from blake3 import blake3

from engine.fleet import open_repository
from engine.hosts import checkpoints, image, pull_backup, resume, start, suspend, volumes
from engine.hosts.model import Vm, VmState
from engine.hosts.power import vm_state
from engine.nbd import Client, ReadRequest, UnixAddress
from engine.repository import Point
from tests.e2e.conftest import Operator

PIECE = 4 << 20

Hashes = dict[str, str]
"""Of the whole content of each disk, by its target."""


def content_now(operator: Operator, vm: Vm) -> Hashes:
    """What the disks of a VM hold that is paused or off."""
    lane = operator.lanes[vm.host]
    disks = [disk for disk in operator.vm(vm.name).disks if disk.device == "disk"]
    if vm_state(lane, vm.uuid) in (VmState.OFF, VmState.CRASHED):
        found: Hashes = {}
        for disk in disks:
            with image.serve(disk.source or "", disk.format, operator.lab.folder / "truth") as address:
                found[disk.target] = _hash_of(address, "")
        return found
    backup = pull_backup.begin(lane, vm, checkpoint=None)
    try:
        return {each.target: _hash_of(each.address, each.export) for each in backup.exports}
    finally:
        pull_backup.finish(lane, backup)


def content_of(operator: Operator, point: Point) -> Hashes:
    """What the disks of a recovery point hold."""
    found: Hashes = {}
    with open_repository(operator.settings.repositories[0]) as repository, repository.reader() as reader:
        for record in point.manifest.disks:
            digest = blake3()
            for offset in range(0, record.size_bytes, PIECE):
                digest.update(reader.read_range(record, offset, min(PIECE, record.size_bytes - offset)))
            found[record.target] = digest.hexdigest()
    return found


def back_up_standing_still(operator: Operator, vm: Vm) -> tuple[Point, Hashes]:
    """A point of a VM that is paused for it, or is off, and what its disks hold."""
    lane = operator.lanes[vm.host]
    runs = vm_state(lane, vm.uuid) is VmState.RUNNING
    if runs:
        suspend(lane, vm.uuid)
    try:
        return operator.back_up(vm.name), content_now(operator, vm)
    finally:
        if runs:
            resume(lane, vm.uuid)


def reason(point: Point, target: str = "vda") -> str:
    return next(disk.read_reason for disk in point.manifest.disks if disk.target == target)


def make_it_run(operator: Operator, vm: Vm) -> None:
    lane = operator.lanes[vm.host]
    state = vm_state(lane, vm.uuid)
    if state is VmState.PAUSED:
        resume(lane, vm.uuid)
    elif state is not VmState.RUNNING:
        start(lane, vm.uuid)
        operator.lab.wait_until_up(vm.host, vm.name)


def remove_checkpoints(operator: Operator, vm: Vm) -> None:
    lane = operator.lanes[vm.host]
    for name in checkpoints.own_checkpoints(lane, vm.uuid):
        checkpoints.delete(lane, vm.uuid, name)


def make_room_for_disks(operator: Operator, vm: Vm, disks: int) -> None:
    """Give a VM that is off free slots, so that disks can be attached while it runs."""
    slots = "<controller type='pci' model='pcie-root-port'/>" * disks

    def work(connection) -> None:
        definition = connection.lookupByUUIDString(vm.uuid).XMLDesc(2)
        connection.defineXML(definition.replace("</devices>", f"{slots}</devices>"))

    operator.lanes[vm.host].run(work)


def attach_disk(operator: Operator, vm: Vm, target: str, image_format: str, size_bytes: int) -> None:
    lane = operator.lanes[vm.host]
    path = volumes.create(lane, "default", f"{vm.name}-{target}-added", image_format, size_bytes)
    element = (
        f"<disk type='file' device='disk'><driver name='qemu' type='{image_format}' discard='unmap'/>"
        f"<source file='{path}'/><target dev='{target}' bus='virtio'/></disk>"
    )
    lane.run(lambda connection: connection.lookupByUUIDString(vm.uuid).attachDeviceFlags(element, 3))


def detach_disk(operator: Operator, vm: Vm, target: str) -> None:
    """Take away a disk of a VM that is off, and its image."""
    lane = operator.lanes[vm.host]
    (disk,) = [each for each in operator.vm(vm.name).disks if each.target == target]
    element = (
        f"<disk type='file' device='disk'><source file='{disk.source}'/><target dev='{target}' bus='virtio'/></disk>"
    )
    lane.run(lambda connection: connection.lookupByUUIDString(vm.uuid).detachDeviceFlags(element, 2))
    volumes.delete(lane, "default", Path(disk.source or "").name)


def grow_disk(operator: Operator, vm: Vm, target: str, by_bytes: int) -> None:
    lane = operator.lanes[vm.host]

    def work(connection) -> None:
        domain = connection.lookupByUUIDString(vm.uuid)
        domain.blockResize(target, domain.blockInfo(target)[0] + by_bytes, 1)

    lane.run(work)


def _hash_of(address: UnixAddress, export: str) -> str:
    digest = blake3()
    buffer = memoryview(bytearray(PIECE))
    with Client.connect(address, export) as client:
        for offset in range(0, client.size_bytes, PIECE):
            piece = buffer[: min(PIECE, client.size_bytes - offset)]
            for _ in client.read_many([ReadRequest(offset, piece)]):
                digest.update(piece)
    return digest.hexdigest()
