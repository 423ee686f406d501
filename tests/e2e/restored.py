"""What a restore has made, held against its recovery point, and what it could have left behind."""

from __future__ import annotations

import subprocess

from engine.fleet import open_repository
from engine.hosts import checkpoints, take_snapshot, volumes
from engine.repository import Point
from engine.restore import RestoreJournal, RestorePlan
from tests.e2e.conftest import Operator


def what_is_there(op: Operator) -> dict[str, object]:
    """Everything on every host that a restore could leave behind or change."""
    found: dict[str, object] = {}
    for host in (host.name for host in op.settings.hosts):
        lane = op.lanes[host]
        snapshot = take_snapshot(lane)
        found[f"vms {host}"] = sorted((vm.name, vm.uuid, vm.state, vm.autostart) for vm in snapshot.vms)
        found[f"checkpoints {host}"] = [checkpoints.own_checkpoints(lane, vm.uuid) for vm in snapshot.vms]
        found[f"volumes {host}"] = volumes.names(lane, "default")
        assert lane.host.scratch is not None
        found[f"sockets {host}"] = sorted(path.name for path in lane.host.scratch.iterdir())
    return found


def is_whole(op: Operator, plan: RestorePlan, copied_from: Point | None = None) -> None:
    """Every byte of every disk is the recovery point's, which may be a copy of another; no guest has written there."""
    request = plan.request
    with open_repository(op.settings.repositories[0]) as repository, repository.reader() as reader:
        point = copied_from or repository.point(request.vm_uuid, request.point_id)
        restored = RestoreJournal(op.settings.state).find(request.id).disks
        for disk, record in zip(sorted(restored, key=lambda disk: disk.target), point.manifest.disks, strict=True):
            raw = op.settings.state / "whole.raw"
            subprocess.run(["qemu-img", "convert", "-U", "-f", disk.format, "-O", "raw", disk.path, raw], check=True)
            with raw.open("rb") as copied:
                for offset in range(0, record.size_bytes, 4 << 20):
                    length = min(4 << 20, record.size_bytes - offset)
                    assert copied.read(length) == reader.read_range(record, offset, length), (disk.target, offset)
            raw.unlink()
