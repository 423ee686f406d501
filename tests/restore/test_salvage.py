"""A restore of what is left: zeroes where data is lost, and every such range in the report."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.hosts.disk_sink import open_sink
from engine.repository import DataRun, Repository, RepositoryDamaged
from engine.restore.model import LostRange, RestoreReport
from engine.restore.report import as_markdown
from engine.restore.salvage import Lost, file_or_none, warning
from engine.restore.step_disks import write_disk
from tests.repository.building import BLOCK, back_up, packs_of


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Repository]:
    """A point of one disk whose second half is lost, but for its map."""
    chance = random.Random(3)
    with Repository.create(tmp_path / "vault", block_bytes=BLOCK) as repository:
        back_up(repository, chance.randbytes(40 * BLOCK))
        yield repository


def _nothing(*_: object) -> None:
    return


def test_a_restored_disk_is_zero_where_data_is_lost(vault: Repository, tmp_path: Path):
    record = vault.points()[0].manifest.disks[0]
    with vault.reader() as reader:
        whole = b"".join(reader.read_range(record, at, BLOCK) for at in range(0, record.size_bytes, BLOCK))
    for pack in packs_of(tmp_path / "vault")[:1]:
        content = bytearray(pack.read_bytes())
        content[len(content) // 2] ^= 1
        pack.write_bytes(content)
    target = tmp_path / "target.raw"
    target.write_bytes(b"")
    with target.open("r+b") as file:
        file.truncate(record.size_bytes)
    lost = Lost()

    with open_sink(str(target), "raw", tmp_path / "target.sock") as sink, vault.reader() as reader:
        with pytest.raises(RepositoryDamaged):
            write_disk(reader, record, sink, _nothing, _nothing)
        write_disk(reader, record, sink, _nothing, _nothing, lost.of_disk("vda"))

    (gone,) = lost.ranges()
    assert (gone.disk, gone.length) == ("vda", BLOCK)
    expected = whole[: gone.offset] + bytes(BLOCK) + whole[gone.offset + BLOCK :]
    assert target.read_bytes() == expected


def test_neighbours_are_joined_and_named_in_order():
    lost = Lost()
    for disk, block in (("vdb", 4), ("vda", 9), ("vdb", 2), ("vdb", 3)):
        lost.of_disk(disk)(DataRun(block * BLOCK, BLOCK))

    assert lost.ranges() == (
        LostRange("vdb", 2 * BLOCK, 3 * BLOCK),
        LostRange("vda", 9 * BLOCK, BLOCK),
    )
    assert f"vdb {2 * BLOCK}+{3 * BLOCK}" in warning(lost.ranges())


def test_a_lost_nvram_is_left_out_and_any_other_file_stops_the_restore(vault: Repository, tmp_path: Path):
    for pack in packs_of(tmp_path / "vault"):
        pack.unlink()
    file = vault.points()[0].manifest.files[0]
    warnings: list[str] = []

    with vault.reader() as reader:
        assert file_or_none(reader, replace(file, role="nvram"), warnings) is None
        with pytest.raises(RepositoryDamaged):
            file_or_none(reader, file, warnings)

    assert len(warnings) == 1


def test_the_report_names_every_lost_range():
    moment = datetime(2026, 11, 22, tzinfo=UTC)
    report = RestoreReport(
        vm="web",
        restored_as="web-2",
        uuid="u",
        host="yavin",
        point="p",
        moment=moment,
        started=moment,
        finished=moment,
        operator="ana",
        steps=(),
        checks=(),
        size_bytes=1,
        agent_answered_s=None,
        command="newhope restore web@p --to yavin --salvage",
        lost=(LostRange("vda", 8192, 4096),),
    )

    assert "without what is lost" in report.sentence
    assert "| vda | 8192 | 4096 |" in as_markdown(report)
