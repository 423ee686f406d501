"""The identity file, damaged or gone: brought back, or made anew from what is stored, or refused with the reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from engine.errors import NewhopeError
from engine.repository import (
    IdentityCopy,
    IdentityPlan,
    Passphrase,
    Repository,
    RepositoryDamaged,
    RepositoryLocked,
    Secret,
    apply_identity,
    identity_damage,
    plan_identity,
    storage_at,
)
from tests.repository.building import BLOCK, PASSPHRASE, back_up, mixed_disk, restored, unlock

DISK = mixed_disk(90, 1)
IDENTITY = "newhope-repository"


@pytest.fixture(params=["plain", "encrypted"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A repository with one point."""
    passphrase = PASSPHRASE if request.param == "encrypted" else None
    with Repository.create(tmp_path / "vault", block_bytes=BLOCK, passphrase=passphrase) as repository:
        back_up(repository, DISK)
    return tmp_path / "vault"


def planned(folder: Path, *copies: bytes, secret: Secret = PASSPHRASE) -> IdentityPlan:
    named = [IdentityCopy("a copy", content) for content in copies]
    return plan_identity(storage_at(folder), named, "vault", lambda _id, _name: secret)


def repaired(folder: Path, *copies: bytes) -> str | None:
    return apply_identity(storage_at(folder), planned(folder, *copies))


def holds_its_disk(folder: Path) -> bool:
    repository = Repository.open(folder, unlock=unlock)
    (point,) = repository.points()
    return restored(repository, point.manifest.disks[0]) == DISK and not repository.damaged


def encrypted(folder: Path) -> bool:
    return (folder / "keys").exists()


def test_a_sound_one_and_an_empty_folder_need_nothing(folder: Path, tmp_path: Path):
    (tmp_path / "empty").mkdir()

    assert identity_damage(storage_at(folder)) is None
    assert identity_damage(storage_at(tmp_path / "empty")) is None


def test_opening_says_what_is_wrong_and_how_it_is_put_back(folder: Path):
    (folder / IDENTITY).unlink()
    with pytest.raises(RepositoryDamaged, match="is missing") as caught:
        Repository.open(folder, unlock=unlock)
    assert f"newhope repo repair {folder}" in caught.value.next_step

    (folder / IDENTITY).write_text("{")
    with pytest.raises(RepositoryDamaged, match="not JSON") as caught:
        Repository.open(folder, unlock=unlock)
    assert "newhope repo repair" in caught.value.next_step


def test_one_flipped_bit_anywhere_is_taken_back(folder: Path):
    whole = (folder / IDENTITY).read_bytes()
    for at in range(4, len(whole), 23):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        (folder / IDENTITY).write_bytes(damaged)
        if identity_damage(storage_at(folder)) is None:
            # White space between the values.
            continue

        repaired(folder)

        assert json.loads((folder / IDENTITY).read_bytes()) == json.loads(whole), at
    assert holds_its_disk(folder)


@pytest.mark.parametrize("how", ["missing", "emptied", "foreign"])
def test_it_comes_back_from_a_copy_and_the_damaged_one_is_kept(folder: Path, how: str):
    whole = (folder / IDENTITY).read_bytes()
    damaged = {"missing": None, "emptied": b"", "foreign": b'{"magic": "something else"}'}[how]
    (folder / IDENTITY).unlink()
    if damaged is not None:
        (folder / IDENTITY).write_bytes(damaged)

    kept = repaired(folder, whole)

    assert (folder / IDENTITY).read_bytes() == whole
    assert (kept is None) == (damaged is None)
    assert kept is None or (folder / kept).read_bytes() == damaged
    assert holds_its_disk(folder)


def test_it_is_made_anew_where_there_is_no_copy(folder: Path):
    before = Repository.open(folder, unlock=unlock)
    (folder / IDENTITY).unlink()

    plan = planned(folder)
    assert not (folder / IDENTITY).exists()
    apply_identity(storage_at(folder), plan)

    after = Repository.open(folder, unlock=unlock, expect_encrypted=encrypted(folder))
    assert (after.block_bytes, after.encrypted) == (BLOCK, before.encrypted)
    assert (after.id == before.id) == before.encrypted
    assert before.encrypted or "its id stood nowhere else" in " ".join(plan.does)
    assert holds_its_disk(folder)
    back_up(after, DISK)


def test_what_is_left_of_the_damaged_file_gives_a_plain_one_its_id_back(tmp_path: Path):
    with Repository.create(tmp_path, block_bytes=BLOCK) as repository:
        back_up(repository, DISK)
    whole = (tmp_path / IDENTITY).read_bytes()
    (tmp_path / IDENTITY).write_bytes(whole[: len(whole) // 2])

    repaired(tmp_path)

    assert Repository.open(tmp_path).id == repository.id


def test_a_copy_of_another_repository_is_refused_and_said_so(folder: Path, tmp_path: Path):
    other = tmp_path / "other"
    Repository.create(other, block_bytes=2 * BLOCK, passphrase=PASSPHRASE if encrypted(folder) else None)
    (folder / IDENTITY).unlink()

    plan = planned(folder, (other / IDENTITY).read_bytes())

    assert "a copy is not a copy of it" in plan.does[0]
    assert json.loads(plan.content)["block_bytes"] == BLOCK


def test_nothing_that_is_encrypted_becomes_plain_again(folder: Path, tmp_path: Path):
    if not encrypted(folder):
        with pytest.raises(RepositoryDamaged, match=r"nothing in .* is encrypted"):
            plan_identity(storage_at(folder), [], "vault", unlock, expect_encrypted=True)
        return
    Repository.create(tmp_path / "plain", block_bytes=BLOCK)
    (folder / IDENTITY).unlink()

    assert "what is stored here is encrypted" in planned(folder, (tmp_path / "plain" / IDENTITY).read_bytes()).does[0]

    shutil.rmtree(folder / "keys")
    with pytest.raises(RepositoryDamaged, match="none of its keys can be read"):
        planned(folder)


def test_without_the_passphrase_nothing_is_made_anew(folder: Path):
    (folder / IDENTITY).unlink()
    if encrypted(folder):
        with pytest.raises(RepositoryLocked, match="opens none of the keys"):
            planned(folder, secret=Passphrase(b"open barley"))


def test_a_key_of_another_repository_that_lies_there_does_not_count(folder: Path, tmp_path: Path):
    if not encrypted(folder):
        return
    Repository.create(tmp_path / "other", passphrase=Passphrase(b"another"))
    for slot in (tmp_path / "other" / "keys").iterdir():
        shutil.copy(slot, folder / "keys")
    (folder / IDENTITY).unlink()

    repaired(folder)

    assert holds_its_disk(folder)


def test_where_the_size_of_blocks_cannot_be_known_it_is_not_guessed(folder: Path):
    shutil.rmtree(folder / "points")
    (folder / IDENTITY).unlink()

    with pytest.raises(NewhopeError, match="tells the size of its blocks") as caught:
        planned(folder)
    assert "--from COPY" in caught.value.next_step
    assert not (folder / IDENTITY).exists()
