"""On which disks a path lies, in made-up trees of /sys and on this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.fleet.device import Backing, backing_of, machine_id


def number_of(path: Path) -> str:
    device = path.stat().st_dev
    return f"{os.major(device)}:{os.minor(device)}"


class FakeSystem:
    """A /sys and /proc in which the file system of `tmp_path` has whatever device a test wants."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.number = number_of(root)
        (root / "sys/dev/block").mkdir(parents=True)
        (root / "proc/self").mkdir(parents=True)

    def block(self, path: str, *, below: tuple[Path, ...] = (), partition: bool = False) -> Path:
        block = self.root / "sys/devices" / path
        block.mkdir(parents=True)
        if below:
            (block / "slaves").mkdir()
        for slave in below:
            (block / "slaves" / slave.name).symlink_to(slave)
        if partition:
            (block / "partition").write_text("1\n")
        return block

    def is_on(self, block: Path) -> None:
        (self.root / "sys/dev/block" / self.number).symlink_to(block)

    def is_mounted(self, kind: str, source: str, *, number: str | None = None) -> None:
        with (self.root / "proc/self/mountinfo").open("a") as mounts:
            mounts.write(f"36 35 {number or self.number} / /mnt rw,noatime shared:1 - {kind} {source} rw\n")

    def backing(self) -> Backing:
        return backing_of(self.root / "anything", system=self.root)


@pytest.fixture
def system(tmp_path: Path) -> FakeSystem:
    return FakeSystem(tmp_path)


def test_a_whole_disk_is_itself(system: FakeSystem) -> None:
    disk = system.block("pci/sda")
    system.is_on(disk)

    assert system.backing() == Backing(str(disk), here=True)


def test_a_partition_is_its_disk(system: FakeSystem) -> None:
    disk = system.block("pci/sda")
    system.is_on(system.block("pci/sda/sda2", partition=True))

    assert system.backing().device == str(disk)


def test_a_logical_volume_is_the_disks_below_it_through_all_layers(system: FakeSystem) -> None:
    first, second = system.block("pci/sda"), system.block("pci/sdb")
    parts = (
        system.block("pci/sda/sda1", partition=True),
        system.block("pci/sdb/sdb1", partition=True),
    )
    mirror = system.block("virtual/md0", below=parts)
    locked = system.block("virtual/dm-0", below=(mirror,))
    system.is_on(system.block("virtual/dm-1", below=(locked,)))

    assert system.backing().device == f"{first},{second}"


def test_two_partitions_of_one_disk_in_a_mirror_are_one_disk(system: FakeSystem) -> None:
    disk = system.block("pci/sda")
    parts = tuple(system.block(f"pci/sda/sda{number}", partition=True) for number in (1, 2))
    system.is_on(system.block("virtual/md0", below=parts))

    assert system.backing().device == str(disk)


def test_an_endless_chain_of_layers_ends(system: FakeSystem) -> None:
    block = system.block("virtual/dm-0", below=(system.root / "sys/devices/virtual/dm-0",))
    system.is_on(block)

    assert system.backing().device is not None


@pytest.mark.parametrize(
    ("kind", "source"),
    [("nfs4", "filer:/export/vms"), ("cifs", "//filer/vms"), ("ceph", "10.0.0.1:6789:/"), ("fuse.sshfs", "a@b:/c")],
)
def test_a_network_file_system_is_named_by_its_source_and_is_not_here(
    system: FakeSystem, kind: str, source: str
) -> None:
    system.is_mounted(kind, source)

    assert system.backing() == Backing(f"{kind} {source}", here=False)


def test_datasets_of_one_zfs_pool_are_on_the_same_disks(system: FakeSystem) -> None:
    system.is_mounted("zfs", "tank/vms/web")

    assert system.backing() == Backing("zfs tank", here=True)


def test_other_file_systems_without_a_device_are_told_apart_by_number(system: FakeSystem) -> None:
    system.is_mounted("overlay", "overlay")

    assert system.backing() == Backing(f"overlay {system.number}", here=True)


def test_a_mount_source_with_a_blank_is_read_as_the_kernel_writes_it(system: FakeSystem) -> None:
    system.is_mounted("nfs4", "filer:/my\\040export")

    assert system.backing().device == "nfs4 filer:/my export"


def test_a_btrfs_source_that_is_gone_does_no_harm(system: FakeSystem) -> None:
    system.is_mounted("btrfs", "/dev/not-there")

    assert system.backing() == Backing(f"btrfs {system.number}", here=True)


def test_mounts_of_other_devices_are_passed_over(system: FakeSystem) -> None:
    system.is_mounted("ext4", "/dev/sda1", number="0:0")
    system.is_mounted("tmpfs", "tmpfs")

    assert system.backing().device == f"tmpfs {system.number}"


def test_what_no_list_knows_is_unknown(system: FakeSystem) -> None:
    assert system.backing() == Backing(None, here=True)


def test_without_proc_and_sys_it_is_unknown(tmp_path: Path) -> None:
    assert backing_of(tmp_path, system=tmp_path / "nothing") == Backing(None, here=True)


def test_on_this_machine_a_file_is_where_its_folder_is(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"x")

    assert backing_of(tmp_path / "image") == backing_of(tmp_path) == backing_of(tmp_path / "not" / "yet" / "there")


def test_on_this_machine_proc_is_on_other_disks_than_a_folder(tmp_path: Path) -> None:
    assert backing_of(Path("/proc")) != backing_of(tmp_path)


@pytest.mark.parametrize(("content", "found"), [("abc123\n", "abc123"), ("", None), ("\n", None)])
def test_the_machine_id_is_read_without_its_line_end(tmp_path: Path, content: str, found: str | None) -> None:
    (tmp_path / "machine-id").write_text(content)

    assert machine_id(tmp_path / "machine-id") == found


def test_a_machine_without_an_id_has_none(tmp_path: Path) -> None:
    assert machine_id(tmp_path / "machine-id") is None
