"""What is left of a recovery point is handed out on request, with every lost range told, and nothing wrong among it."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from engine.repository import DataRun, DiskRecord, RepositoryDamaged
from engine.repository.block_record import BlockKind
from engine.repository.directory_storage import DirectoryStorage
from engine.repository.pack import read_pack_index
from tests.faults.repository_scenario import fast_folder
from tests.repository.building import BLOCK
from tests.repository.damaging import DAMAGES, OLD, Vault, scribbled


@pytest.fixture
def vault() -> Iterator[Vault]:
    with fast_folder() as folder:
        yield Vault(folder)


def first_disk(vault: Vault) -> DiskRecord:
    return vault.open().points()[-1].manifest.disks[0]


def salvaged(vault: Vault, record: DiskRecord) -> tuple[bytes, list[DataRun]]:
    content, lost = bytearray(record.size_bytes), list[DataRun]()
    with vault.open().reader() as reader:
        for offset, data in reader.read_disk(record, lost=lost.append):
            content[offset : offset + len(data)] = data
    return bytes(content), lost


def check(vault: Vault) -> int:
    """The salvaged disk is the original outside of what is told to be lost, zero inside; how many bytes those are."""
    record = first_disk(vault)
    content, lost = salvaged(vault, record)
    expected = bytearray(OLD)
    for run in lost:
        expected[run.offset : run.offset + run.length] = bytes(run.length)
    assert content == expected
    named = [
        run
        for loss in vault.verify().losses
        for run in loss.ranges
        if loss.point.id == vault.open().points()[-1].id and loss.name == "vda"
    ]
    assert _blocks(lost) == _blocks(named)
    return sum(run.length for run in lost)


def _blocks(runs: list[DataRun]) -> set[int]:
    return {run.offset // BLOCK + number for run in runs for number in range(-(-run.length // BLOCK))}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_left_of_a_disk_is_exact(vault: Vault, damage: str):
    chance = random.Random(damage)
    lost_bytes = 0
    for _ in range(6):
        vault.mend()
        for pack in chance.sample(vault.objects("pack"), 2):
            DAMAGES[damage](pack, chance)
        lost_bytes += check(vault)

    assert lost_bytes


def test_a_disk_whose_map_is_lost_is_lost_as_a_whole(vault: Vault):
    storage = DirectoryStorage(vault.folder)
    for pack in vault.objects("pack"):
        entries = read_pack_index(storage, str(pack.relative_to(vault.folder)))
        if any(entry.kind == BlockKind.MAP for entry in entries):
            pack.unlink()
    record = first_disk(vault)

    content, lost = salvaged(vault, record)

    assert content == bytes(record.size_bytes)
    assert lost == [DataRun(0, record.size_bytes)]


def test_without_being_asked_for_nothing_is_handed_out_as_if_it_were_whole(vault: Vault):
    for pack in vault.objects("pack")[:3]:
        scribbled(pack, random.Random(4))
        pack.unlink()

    with vault.open().reader() as reader, pytest.raises(RepositoryDamaged) as stopped:
        for point in vault.open().points():
            for record in point.manifest.disks:
                list(reader.read_disk(record))

    assert "--salvage" in (stopped.value.next_step or "")
    assert "newhope repo repair" in (stopped.value.next_step or "")
