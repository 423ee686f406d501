"""Whether all blocks of a point are there, looked up without reading one of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.repository import Repository
from engine.repository.directory_storage import DirectoryStorage
from tests.repository.building import BLOCK, back_up, mixed_disk, packs_of

ALWAYS_S = 600.0


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path / "vault", block_bytes=BLOCK)


def opened_anew(tmp_path: Path) -> Repository:
    return Repository.open(tmp_path / "vault")


def test_a_whole_point_is_looked_up_without_reading_its_data(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    point = back_up(repository, mixed_disk(), b"second" * BLOCK)
    read_bytes: list[int] = []
    read = DirectoryStorage.read

    def counted(self: DirectoryStorage, key: str, offset: int = 0, length: int | None = None) -> bytes:
        content = read(self, key, offset, length)
        if key.startswith("packs/"):
            read_bytes.append(len(content))
        return content

    monkeypatch.setattr(DirectoryStorage, "read", counted)
    found = opened_anew(tmp_path).look_for_blocks(point, limit_s=ALWAYS_S)

    assert (found.missing, found.hurt, found.whole) == (0, (), True)
    assert found.blocks > 500
    # The nodes of the maps, 32 bytes a block.
    assert sum(read_bytes) < found.blocks * 64 + 4096


def test_a_pack_that_is_gone_or_cut_short_is_seen(repository: Repository, tmp_path: Path):
    point = back_up(repository, mixed_disk())
    pack = max(packs_of(tmp_path / "vault"), key=lambda each: each.stat().st_size)
    pack.write_bytes(pack.read_bytes()[:-1])

    cut = opened_anew(tmp_path).look_for_blocks(point, limit_s=ALWAYS_S)
    pack.unlink()
    gone = opened_anew(tmp_path).look_for_blocks(point, limit_s=ALWAYS_S)

    assert cut.missing > 0
    assert gone.missing > 0
    assert gone.hurt == ("vda",)


def test_an_index_that_is_lost_is_no_lost_data(repository: Repository, tmp_path: Path):
    point = back_up(repository, mixed_disk())
    for file in (tmp_path / "vault" / "index").iterdir():
        file.unlink()

    assert opened_anew(tmp_path).look_for_blocks(point, limit_s=ALWAYS_S).missing == 0


def test_a_look_that_has_no_time_says_how_far_it_came(repository: Repository, tmp_path: Path):
    point = back_up(repository, mixed_disk(blocks=3000))

    found = opened_anew(tmp_path).look_for_blocks(point, limit_s=0.0)

    assert not found.whole
    assert 0 < found.blocks < 3000
