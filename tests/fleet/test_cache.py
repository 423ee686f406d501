"""The fleet that is kept for the next start."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.fleet import DiskDevice, load_cache, save_cache
from engine.fleet.cache import FILE_NAME
from engine.hosts.model import HostStatus
from engine.repository.model import DamagedObject
from tests.builders import make_fleet, make_host, make_point, make_repository, make_vm

FLEET = make_fleet(
    hosts=[make_host("alderaan", vms=[make_vm("web"), make_vm("db")]), make_host("yavin", status=HostStatus.OFFLINE)],
    repositories=[
        make_repository(damaged=(DamagedObject("points/x", "it is short"),)),
        make_repository("attic", reachable=False),
    ],
    points=[make_point("web"), make_point("db", age="3h")],
    disk_devices=[DiskDevice("alderaan", "/images/web.qcow2", "/sys/devices/sda")],
)


def test_what_is_kept_comes_back_as_it_was(tmp_path: Path) -> None:
    save_cache(tmp_path, FLEET)

    assert load_cache(tmp_path) == FLEET


def test_before_the_first_fleet_there_is_none(tmp_path: Path) -> None:
    assert load_cache(tmp_path) is None
    assert load_cache(tmp_path / "no folder") is None


def test_the_folder_is_made_and_nothing_else_is_left_in_it(tmp_path: Path) -> None:
    save_cache(tmp_path / "state", FLEET)
    save_cache(tmp_path / "state", FLEET)

    assert [path.name for path in (tmp_path / "state").iterdir()] == [FILE_NAME]


@pytest.mark.parametrize("length", [0, 1, 10, 30, 31, 100, 1000])
def test_a_cut_file_is_as_good_as_none(tmp_path: Path, length: int) -> None:
    save_cache(tmp_path, FLEET)
    file = tmp_path / FILE_NAME
    file.write_bytes(file.read_bytes()[:length])

    assert load_cache(tmp_path) is None


@pytest.mark.parametrize("content", [b"", b"\xc1" * 100, b"newhope fleet 0000000000000000\n\x80", b"{}"])
def test_a_foreign_file_is_as_good_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)

    assert load_cache(tmp_path) is None


def test_damage_anywhere_is_noticed(tmp_path: Path) -> None:
    save_cache(tmp_path, FLEET)
    file = tmp_path / FILE_NAME
    content = file.read_bytes()

    for place in range(0, len(content), 97):
        file.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        assert load_cache(tmp_path) is None


def test_a_place_that_cannot_be_written_disturbs_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    save_cache(tmp_path / "file" / "state", FLEET)

    assert load_cache(tmp_path / "file" / "state") is None


def test_a_folder_in_place_of_the_file_disturbs_nobody(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()

    save_cache(tmp_path, FLEET)

    assert load_cache(tmp_path) is None
