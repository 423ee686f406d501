from __future__ import annotations

import itertools
import json
import os
import subprocess
import threading
from pathlib import Path

import pytest

from engine.errors import Conflict, NoSpace, NotFound
from engine.hosts import HostLane, volumes

MIB = 1024 * 1024


def image_info(path: str) -> dict:
    output = subprocess.run(["qemu-img", "info", "--output=json", path], check=True, capture_output=True).stdout
    return json.loads(output)


def test_a_qcow2_volume_is_empty_sparse_and_can_keep_bitmaps(lane) -> None:
    path = volumes.create(lane, "default", "vda.qcow2", "qcow2", 512 * MIB)

    info = image_info(path)
    assert (info["format"], info["virtual-size"]) == ("qcow2", 512 * MIB)
    assert info["format-specific"]["data"]["compat"] == "1.1"
    assert Path(path).stat().st_blocks * 512 < MIB


def test_a_raw_volume_is_sparse_and_has_its_size_to_the_byte(lane) -> None:
    path = volumes.create(lane, "default", "vda.raw", "raw", 100 * MIB + 512)

    assert Path(path).stat().st_size == 100 * MIB + 512
    assert Path(path).stat().st_blocks == 0


@pytest.mark.parametrize("size", [1, 4096, 540_672, 3 * MIB + 17])
def test_a_small_file_is_stored_byte_for_byte(lane, size) -> None:
    content = os.urandom(size)

    path = volumes.put_file(lane, "default", "kernel", content)

    assert Path(path).read_bytes() == content


def test_a_name_that_is_taken_is_a_conflict_and_the_volume_stays(lane) -> None:
    path = volumes.put_file(lane, "default", "kernel", b"first")

    with pytest.raises(Conflict):
        volumes.put_file(lane, "default", "kernel", b"other")
    with pytest.raises(Conflict):
        volumes.create(lane, "default", "kernel", "raw", MIB)

    assert Path(path).read_bytes() == b"first"


def test_a_volume_is_there_until_it_is_deleted_and_deleting_it_again_is_fine(lane) -> None:
    path = volumes.create(lane, "default", "vda.qcow2", "qcow2", MIB)
    assert volumes.exists(lane, "default", "vda.qcow2")

    volumes.delete(lane, "default", "vda.qcow2")
    volumes.delete(lane, "default", "vda.qcow2")

    assert not volumes.exists(lane, "default", "vda.qcow2")
    assert not Path(path).exists()


def test_a_file_that_something_else_put_there_is_seen(lane, bare_host) -> None:
    bare_host.image("foreign.qcow2")

    assert volumes.exists(lane, "default", "foreign.qcow2")


def test_an_unknown_pool_is_answered_with_those_that_are_there(lane) -> None:
    with pytest.raises(NotFound) as missing:
        volumes.create(lane, "defualt", "vda", "raw", MIB)

    assert "default" in missing.value.next_step


def test_a_pool_that_is_not_started_says_how_to_start_it(lane) -> None:
    lane.run(lambda connection: connection.storagePoolLookupByName("default").destroy())
    try:
        with pytest.raises(volumes.PoolNotActive) as stopped:
            volumes.free_bytes(lane, "default")
    finally:
        lane.run(lambda connection: connection.storagePoolLookupByName("default").create())

    assert "virsh pool-start default" in stopped.value.next_step


def test_free_space_is_what_others_than_root_can_use_of_the_file_system(lane, bare_host) -> None:
    room = os.statvfs(bare_host.layout.pool)

    assert abs(volumes.free_bytes(lane, "default") - room.f_bavail * room.f_frsize) < 1024 * MIB


def test_a_volume_whose_file_was_removed_is_in_nobodys_way(lane) -> None:
    Path(volumes.create(lane, "default", "vda.raw", "raw", MIB)).unlink()

    assert Path(volumes.create(lane, "default", "vda.raw", "raw", MIB)).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small file system")
def test_a_pool_that_is_too_full_is_said_to_be_full_and_nothing_is_left_behind(lane, bare_host) -> None:
    small = bare_host.layout.folder / "small"
    small.mkdir(exist_ok=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=777", "tmpfs", small], check=False).returncode != 0:
        pytest.skip("this machine does not let root mount")
    xml = f"<pool type='dir'><name>small</name><target><path>{small}</path></target></pool>"
    try:
        lane.run(lambda connection: connection.storagePoolDefineXML(xml).create())
        with pytest.raises(NoSpace) as full:
            volumes.put_file(lane, "small", "initrd", bytes(2 * MIB))
        assert "small" in full.value.what
        assert list(small.iterdir()) == []
    finally:
        lane.run(lambda connection: connection.storagePoolLookupByName("small").destroy())
        lane.run(lambda connection: connection.storagePoolLookupByName("small").undefine())
        subprocess.run(["umount", small], check=True)


def test_a_pool_that_makes_a_volume_for_somebody_else_is_looked_into_as_soon_as_it_is_free(lane, bare_host) -> None:
    over = threading.Event()

    def make_others() -> None:
        other = HostLane(bare_host.host)
        for number in itertools.count():
            if over.wait(0.02):
                break
            volumes.create(other, "default", f"other-{number}.qcow2", "qcow2", MIB)
        other.close()

    somebody = threading.Thread(target=make_others)
    somebody.start()
    try:
        for number in range(5):
            volumes.delete(lane, "default", f"never-there-{number}")
            volumes.make_sure(lane, "default", f"mine-{number}.raw", "raw", MIB)
            assert f"mine-{number}.raw" in volumes.names(lane, "default")
    finally:
        over.set()
        somebody.join()
