from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import pytest

from engine.lab import disks
from engine.lab.guests import MIB, DiskPlan, GuestPlan

RAW = DiskPlan("vda", "raw", 64 * MIB, "data")
QCOW2 = DiskPlan("vda", "qcow2", 64 * MIB, "data")


def file_on(image: Path, name: str) -> bytes:
    return subprocess.run(["/usr/sbin/debugfs", "-R", f"cat /{name}", image], capture_output=True, check=True).stdout


def test_a_data_disk_holds_a_payload_with_its_checksum_and_the_guests_name(tmp_path: Path) -> None:
    guest = GuestPlan("web", "alderaan", (RAW,), history_lines=3)

    disks.make(guest, RAW, tmp_path / "disk")

    payload = file_on(tmp_path / "disk", "payload")
    assert len(payload) == 3 * MIB
    assert file_on(tmp_path / "disk", "payload.sha256").split()[0].decode() == hashlib.sha256(payload).hexdigest()
    assert file_on(tmp_path / "disk", "name") == b"web\n"
    assert [line.split()[0] for line in file_on(tmp_path / "disk", "journal").splitlines()] == [b"1", b"2", b"3"]


@pytest.mark.parametrize("disk", [RAW, QCOW2], ids=lambda disk: disk.format)
def test_a_disk_has_the_format_and_size_it_was_planned_with_and_is_sparse(disk: DiskPlan, tmp_path: Path) -> None:
    disks.make(GuestPlan("web", "alderaan", (disk,)), disk, tmp_path / "disk")

    told = subprocess.run(
        ["qemu-img", "info", "-f", disk.format, "--output=json", tmp_path / "disk"], capture_output=True, check=True
    )
    facts = json.loads(told.stdout)
    assert facts["virtual-size"] == disk.size_bytes
    assert facts["actual-size"] < disk.size_bytes // 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["disk"]


def test_a_disk_that_cannot_be_made_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    too_small = DiskPlan("vda", "raw", MIB, "data")

    with pytest.raises(disks.DiskNotMade):
        disks.make(GuestPlan("web", "alderaan", (too_small,)), too_small, tmp_path / "disk")

    assert list(tmp_path.iterdir()) == []
