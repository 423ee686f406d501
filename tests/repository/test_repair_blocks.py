"""Damaged packs, lost blocks, and the ways in which they come back."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import Conflict
from engine.repository import Passphrase, Repository, Severity
from engine.repository.block_record import HEADER_BYTES
from engine.repository.directory_storage import DirectoryStorage
from engine.repository.index_file import IndexFile, encode_index
from engine.repository.pack import TRAILER_BYTES, read_pack_index
from tests.faults.repository_scenario import fast_folder
from tests.repository.building import BLOCK, DB, SMALL, back_up, commit, facts, later, restored, write_disk
from tests.repository.damaging import NEW, OLD, OTHER, Vault, scribbled


@pytest.fixture(params=["plain", "encrypted"])
def vault(request: pytest.FixtureRequest) -> Iterator[Vault]:
    with fast_folder() as folder:
        yield Vault(folder, Passphrase(b"a long one") if request.param == "encrypted" else None)


def overwrite(path: Path, at: int, content: bytes) -> None:
    whole = bytearray(path.read_bytes())
    whole[at : at + len(content)] = content
    path.write_bytes(whole)


def damage_a_block(vault: Vault) -> Path:
    """A pack that points need loses the content of one block."""
    for pack in vault.objects("pack"):
        entries = read_pack_index(DirectoryStorage(vault.folder), str(pack.relative_to(vault.folder)))
        before = len(vault.readable())
        original = pack.read_bytes()
        overwrite(pack, entries[3].offset + HEADER_BYTES, b"damaged here")
        if len(vault.readable()) < before:
            return pack
        pack.write_bytes(original)
    raise AssertionError("no pack is needed")


def back_up_again(vault: Vault) -> None:
    """The content of every disk once more."""
    repository = vault.open()
    back_up(repository, OLD, bytes(3000), moment=later(50))
    back_up(repository, NEW, b"x", moment=later(51))
    back_up(repository, OTHER, moment=later(52), vm=facts(DB, "db"))


def test_a_quarantined_block_is_stored_again_by_the_next_backup_and_the_points_are_whole(vault: Vault):
    whole = vault.readable()
    pack = damage_a_block(vault)
    assert vault.repair().losses

    # Writers would otherwise take the damaged pack for a place where the block is.
    back_up_again(vault)

    found = vault.verify()
    assert found.sound
    assert found.losses == ()
    assert whole.items() <= vault.readable().items()
    assert pack.exists()
    assert vault.plan().steps == ()


def test_without_a_repair_the_next_backup_leans_on_the_damaged_pack(vault: Vault):
    damage_a_block(vault)

    back_up_again(vault)

    assert vault.verify().losses


def test_a_prune_deletes_the_quarantined_pack_once_nothing_needs_it(vault: Vault):
    for path in [*vault.folder.glob("leases/*"), *vault.folder.glob("pending/*")]:
        path.unlink()
    pack = damage_a_block(vault)
    vault.repair()
    with vault.open().collector("a test", limits=SMALL) as collector:
        collector.collect()
    assert pack.exists()

    vault.repair(vault.copy)
    with vault.open().collector("a test", limits=SMALL) as collector:
        collector.collect()

    assert not pack.exists()
    assert vault.verify().sound
    assert restored(vault.open(), vault.open().points()[-1].manifest.disks[0]) == OLD


def test_a_prune_deletes_a_quarantined_pack_whose_table_is_damaged(vault: Vault):
    whole = vault.readable()
    for path in [*vault.folder.glob("leases/*"), *vault.folder.glob("pending/*")]:
        path.unlink()
    packs = vault.objects("pack")[:3]
    for pack in packs:
        overwrite(pack, pack.stat().st_size - TRAILER_BYTES - 40, b"damaged")
    vault.repair()

    with vault.open().collector("a test", limits=SMALL) as collector:
        collector.collect()

    assert not [pack for pack in packs if pack.exists()]
    assert vault.readable() == whole


@pytest.mark.parametrize("part", ["table", "record header", "pack header"])
def test_what_is_said_twice_is_read_the_other_way(vault: Vault, part: str):
    whole = vault.readable()
    for pack in vault.objects("pack")[:6]:
        entries = read_pack_index(DirectoryStorage(vault.folder), str(pack.relative_to(vault.folder)))
        at = {
            "table": pack.stat().st_size - TRAILER_BYTES - 40,
            "record header": entries[0].offset,
            "pack header": 3,
        }[part]
        overwrite(pack, at, b"\xff" * 4)
    for index in vault.objects("index"):
        index.unlink()

    report = vault.repair()

    assert report.losses == ()
    assert vault.readable() == whole
    assert vault.verify().sound


def test_packs_that_were_exchanged_give_up_all_their_blocks(vault: Vault):
    whole = vault.readable()
    packs = sorted(vault.objects("pack"), key=lambda path: path.stat().st_size)
    one, two = packs[-1], packs[-2]
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)
    assert vault.readable().keys() < whole.keys()

    report = vault.repair()

    assert report.rescued_blocks > 20
    assert vault.readable() == whole


def test_an_index_file_that_lies_is_set_aside_and_made_anew(vault: Vault):
    whole = vault.readable()
    storage = DirectoryStorage(vault.folder)
    for path in vault.objects("index"):
        file = IndexFile(path.name, path.read_bytes())
        buckets = [[_moved(record)] for record in file.records(0, file.count)]
        content = b"".join(encode_index(buckets, list(file.packs()), file.superseded, file.created_us))
        path.unlink()
        storage.create(f"index/{IndexFile.of(content).id}", content)
    assert not vault.verify().sound
    lying = {path.name for path in vault.objects("index")}

    report = vault.repair()

    assert not lying & {path.name for path in vault.objects("index")}
    assert report.losses == ()
    assert vault.readable() == whole
    assert vault.verify().sound
    assert vault.plan().steps == ()


def _moved(record: bytes) -> bytes:
    """An index record whose block is said to lie a few bytes further on."""
    offset = int.from_bytes(record[36:40], "little") + 8
    return record[:36] + offset.to_bytes(4, "little") + record[40:]


@pytest.mark.parametrize("block_bytes", [BLOCK, 4 * BLOCK])
def test_lost_blocks_and_maps_come_back_from_a_repository_with_other_blocks(vault: Vault, block_bytes: int):
    whole = vault.readable()
    other = vault.folder.with_name("other")
    repository = Repository.create(other, block_bytes=block_bytes)
    back_up(repository, OLD, bytes(3000))
    back_up(repository, NEW, b"x", moment=later(10))
    for pack in vault.objects("pack"):
        pack.unlink()

    report = vault.repair(other)

    after = vault.readable()
    assert {block for block in whole.keys() - after.keys() if block[0] == "web"} == set()
    assert after.items() <= whole.items()
    assert report.fetched_blocks > 60
    assert {loss.point.vm for loss in report.losses} == {"db"}
    assert vault.plan(other).steps == ()


def test_a_repository_that_knows_only_a_later_state_heals_what_did_not_change(vault: Vault):
    whole = vault.readable()
    other = vault.folder.with_name("other")
    back_up(Repository.create(other, block_bytes=2 * BLOCK), NEW, moment=later(500))
    for pack in vault.objects("pack"):
        pack.unlink()

    vault.repair(other)

    after = {block for block in vault.readable() if block[0] == "web" and block[2] == "vda"}
    newer = {block for block in whole if block[1] == vault.open().points()[1].id and block[2] == "vda"}
    assert newer <= after


def test_a_pack_that_is_gone_and_healed_is_forgotten(vault: Vault):
    for pack in vault.objects("pack")[:4]:
        pack.unlink()
    assert any(finding.severity is Severity.LOSS for finding in vault.verify().findings)

    vault.repair(vault.copy)

    assert vault.verify().findings == ()
    assert vault.plan(vault.copy).steps == ()


def test_it_leans_on_nothing_but_what_it_read(vault: Vault):
    chance = random.Random(9)
    whole = vault.readable()
    for pack in vault.objects("pack"):
        scribbled(pack, chance)
    before = vault.readable()

    report = vault.repair()

    assert before.items() <= vault.readable().items() <= whole.items()
    assert report.losses == vault.plan().losses
    assert vault.plan().steps == ()


def test_it_stores_again_what_a_bad_sector_left(vault: Vault, monkeypatch: pytest.MonkeyPatch):
    whole = vault.readable()
    victim = str(max(vault.objects("pack"), key=lambda path: path.stat().st_size))
    real = os.pread

    def pread(file: int, length: int, offset: int) -> bytes:
        if os.readlink(f"/proc/self/fd/{file}") == victim and offset < 20000 < offset + length:
            raise OSError(5, "Input/output error")
        return real(file, length, offset)

    monkeypatch.setattr(os, "pread", pread)
    before = vault.readable()
    assert before.keys() < whole.keys()

    report = vault.repair(vault.copy)

    assert vault.readable() == whole
    assert report.losses == ()


def test_it_does_not_run_beside_a_collector(vault: Vault):
    with vault.open().collector("newhope repo prune, ana"), pytest.raises(Conflict, match="newhope repo prune, ana"):
        vault.repair()


def test_a_backup_beside_it_commits_and_restores(vault: Vault):
    whole = vault.readable()
    damage_a_block(vault)
    content = random.Random(77).randbytes(30 * BLOCK)
    with vault.open().writer("a backup", limits=SMALL) as writer:
        disk = write_disk(writer, "vda", OLD + content)
        vault.repair(vault.copy)
        point = commit(writer, (disk,), moment=later(90))

    assert whole.items() <= vault.readable().items()
    assert restored(vault.open(), point.manifest.disks[0]) == OLD + content
    assert vault.verify().sound
