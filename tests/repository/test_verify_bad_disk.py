"""What a verification makes of a disk that does not read, in places or at all."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import NewhopeError
from engine.repository import Repository, Stage, StorageFailed, VerifyProgress
from engine.repository.directory_storage import DirectoryStorage
from engine.repository.pack import read_pack_index
from tests.repository.vault_to_damage import FULL, QUICK, Vault, blocks_of, disk_of, flip


class BadSectors(DirectoryStorage):
    """A disk that cannot read some bytes of some objects any more."""

    def __init__(self, folder: Path, bad: Callable[[str, int, int], bool]) -> None:
        super().__init__(folder)
        self._bad = bad

    def read(self, key: str, offset: int = 0, length: int | None = None) -> bytes:
        with self.explained("read", key):
            if self._bad(key, offset, offset + (self.size(key) if length is None else length)):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().read(key, offset, length)


def test_a_bad_sector_in_a_pack_costs_the_blocks_on_it_and_no_others(vault: Vault):
    victim = vault.key(vault.objects("pack")[0])
    entry = next(entry for entry in read_pack_index(DirectoryStorage(vault.folder), victim) if entry.kind == 1)
    sector = entry.offset + 60
    storage = BadSectors(vault.folder, lambda key, start, end: key == victim and start <= sector < end)

    found = Repository.open_in(storage).verifier(FULL).run()

    (finding,) = found.findings
    assert finding.object == victim
    assert finding.what.startswith("it cannot be read: ")
    assert finding.points
    flip(vault.folder / victim, sector)
    assert {disk_of(loss): blocks_of(loss) for loss in found.losses} == vault.unreadable()


@pytest.mark.parametrize("kind", ["manifest", "record"])
def test_a_bad_sector_below_a_small_object_is_a_finding(vault: Vault, kind: str):
    victim = vault.key(vault.objects(kind)[0])
    storage = BadSectors(vault.folder, lambda key, start, end: key == victim)

    found = Repository.open_in(storage).verifier(QUICK).run()

    assert [finding.object for finding in found.findings] == [victim]
    assert not found.sound


def test_a_bad_sector_below_an_index_file_stops_before_the_file_is_mapped(vault: Vault):
    victim = vault.key(vault.objects("index")[0])
    storage = BadSectors(vault.folder, lambda key, start, end: key == victim)

    with pytest.raises(StorageFailed, match=victim):
        Repository.open_in(storage).verifier(QUICK).run()


def test_a_disk_that_reads_nothing_any_more_is_not_taken_for_damaged_packs(vault: Vault):
    dead = False

    def die(progress: VerifyProgress) -> None:
        nonlocal dead
        dead = progress.stage is Stage.PACKS

    with pytest.raises(StorageFailed):
        Repository.open_in(BadSectors(vault.folder, lambda key, start, end: dead)).verifier(FULL).run(die)


def test_a_storage_that_went_away_is_not_taken_for_a_damaged_one(vault: Vault):
    repository = Repository.open(vault.folder)

    def unmount(progress: object) -> None:
        shutil.rmtree(vault.folder, ignore_errors=True)
        vault.folder.mkdir(exist_ok=True)

    with pytest.raises(NewhopeError):
        repository.verifier(FULL).run(unmount)
