"""What the bench measures is right: our rows make recovery points that give the disk back byte for byte."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from engine.hosts import image
from tests.bench import ours, peers, virtnbd

PIECE = 64 << 10
PIECES = 160


def test_backups_and_changes_are_restored_byte_for_byte(tmp_path: Path) -> None:
    chance = random.Random(7)
    disk = tmp_path / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(PIECES * PIECE + 512)
        for number in chance.sample(range(PIECES), 60):
            os.pwrite(file.fileno(), chance.randbytes(PIECE), number * PIECE)
    repository = tmp_path / "repository"
    with image.serve(disk, "raw", tmp_path / "s") as address:
        ours.backup(Path(address.path), repository)

    changed = sorted(chance.sample(range(PIECES), 12))
    with disk.open("r+b") as file:
        for number in changed:
            # Some become zero: their old content must not come back.
            os.pwrite(file.fileno(), bytes(PIECE) if number % 3 else chance.randbytes(PIECE), number * PIECE)
    told = tmp_path / "changes.json"
    told.write_text(json.dumps([(number * PIECE, PIECE) for number in changed]))
    with image.serve(disk, "raw", tmp_path / "s") as address:
        ours.changes(Path(address.path), repository, told)
    ours.restore(repository, tmp_path / "restored.raw")

    assert (tmp_path / "restored.raw").read_bytes() == disk.read_bytes()


def test_two_disks_are_backed_up_and_written_at_once_as_raw_and_as_qcow2(tmp_path: Path) -> None:
    chance = random.Random(8)
    disks = [tmp_path / "one.raw", tmp_path / "two.raw"]
    for disk in disks:
        disk.write_bytes(chance.randbytes(3 * PIECE) + bytes(40 * PIECE) + chance.randbytes(PIECE))
    with image.serve(disks[0], "raw", tmp_path / "s1") as one, image.serve(disks[1], "raw", tmp_path / "s2") as two:
        ours.backup_both(Path(one.path), Path(two.path), tmp_path / "repository")

    for image_format in ("raw", "qcow2"):
        ours.restore_both(tmp_path / "repository", tmp_path, Path(image_format))

        for disk, target in zip(disks, ("vda", "vdb"), strict=True):
            assert image.same_content(disk, tmp_path / f"{target}.{image_format}", formats=("raw", image_format))


def test_virtnbdbackup_backs_up_and_restores_two_disks_without_a_hypervisor(tmp_path: Path) -> None:
    if shutil.which("virtnbdrestore") is None:
        pytest.skip("virtnbdbackup is not installed: only the bench needs it")
    disks = {"vda": tmp_path / "one.qcow2", "vdb": tmp_path / "two.qcow2"}
    for number, disk in enumerate(disks.values(), 1):
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "8M"], check=True)
        subprocess.run(["qemu-io", "-c", f"write -P {number} 1M 2M", disk], check=True, capture_output=True)

    kept = virtnbd.fill(tmp_path, disks)
    at_once = peers.side_by_side(*(virtnbd.restore(kept, tmp_path, target) for target in disks))
    subprocess.run(at_once, check=True, capture_output=True)

    for target, disk in disks.items():
        assert image.same_content(disk, tmp_path / target / disk.name, formats=("qcow2", "qcow2"))


def test_a_command_of_several_fails_if_one_of_them_does() -> None:
    for first, second in (("true", "false"), ("false", "true")):
        assert subprocess.run(peers.side_by_side([first], [second])).returncode == 1
    assert subprocess.run(peers.side_by_side(["true"], ["true"])).returncode == 0
