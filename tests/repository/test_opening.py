"""Making and opening repositories: what can be wrong is said in one sentence, with a way on."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from blake3 import blake3

from engine.errors import Conflict, ExitCode, NewhopeError
from engine.repository import Repository, RepositoryDamaged, RepositoryMissing, RepositoryTooNew
from engine.repository.errors import StorageFailed


def with_identity(folder: Path, **changes: object) -> Path:
    """Give a repository another, sound, identity."""
    file = folder / "newhope-repository"
    values = {**json.loads(file.read_text()), **changes}
    values.pop("checksum", None)
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    file.write_text(json.dumps({**values, "checksum": blake3(text.encode()).hexdigest()}))
    return folder


def refused(folder: Path, kind: type[NewhopeError]) -> NewhopeError:
    with pytest.raises(kind) as caught:
        Repository.open(folder)
    assert str(folder) in caught.value.what
    assert caught.value.next_step
    assert caught.value.exit_code is ExitCode.REPOSITORY
    return caught.value


def test_a_new_repository_is_empty_and_readable_by_people(tmp_path: Path):
    folder = tmp_path / "deep" / "vault"
    created = Repository.create(folder, name="vault")
    info = Repository.open(folder, name="vault").info()

    assert (info.name, info.path, info.points, info.vms, info.packs, info.blocks) == ("vault", str(folder), 0, 0, 0, 0)
    assert (info.block_bytes, info.format_version, info.writers) == (256 * 1024, 1, 0)
    assert info.id == created.info().id
    assert info.free_bytes > 0
    identity = json.loads((folder / "newhope-repository").read_text())
    assert identity["magic"] == "newhope repository"
    assert identity["encryption"] == "none"


def test_a_repository_is_not_made_twice(tmp_path: Path):
    first = Repository.create(tmp_path).info().id

    with pytest.raises(Conflict, match="already"):
        Repository.create(tmp_path)

    assert Repository.open(tmp_path).info().id == first


def test_a_repository_is_not_made_among_other_files(tmp_path: Path):
    (tmp_path / "photos").mkdir()

    with pytest.raises(Conflict, match="photos"):
        Repository.create(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_the_top_of_a_file_system_counts_as_empty(tmp_path: Path):
    (tmp_path / "lost+found").mkdir()

    Repository.create(tmp_path)
    assert Repository.open(tmp_path).points() == ()


@pytest.mark.parametrize("block_bytes", [0, 1000, 2048, 300_000, 32 << 20])
def test_a_block_size_that_makes_no_sense_is_refused(tmp_path: Path, block_bytes: int):
    with pytest.raises(ValueError, match="power of two"):
        Repository.create(tmp_path, block_bytes=block_bytes)


def test_a_folder_that_does_not_exist_is_no_repository(tmp_path: Path):
    assert "does not exist" in refused(tmp_path / "nowhere", RepositoryMissing).what


def test_an_empty_folder_is_no_repository(tmp_path: Path):
    assert "newhope-repository" in refused(tmp_path, RepositoryMissing).what


def test_a_file_is_no_repository(tmp_path: Path):
    (tmp_path / "file").write_text("x")

    assert "not a folder" in refused(tmp_path / "file", RepositoryMissing).what


def test_another_program_s_file_of_that_name_is_no_repository(tmp_path: Path):
    (tmp_path / "newhope-repository").write_text('{"magic": "something else"}')

    refused(tmp_path, RepositoryMissing)


def test_a_future_version_is_refused_by_name(tmp_path: Path):
    Repository.create(tmp_path)
    with_identity(tmp_path, format_version=2)

    assert "format 2" in refused(tmp_path, RepositoryTooNew).what


@pytest.mark.parametrize("change", [{"encryption": "xchacha20-poly1305"}, {"hash": "sha512"}])
def test_an_encryption_or_hash_of_the_future_is_refused_by_name(tmp_path: Path, change: dict[str, str]):
    Repository.create(tmp_path)
    with_identity(tmp_path, **change)

    assert next(iter(change.values())) in refused(tmp_path, RepositoryTooNew).what


def test_unknown_words_in_the_identity_are_left_alone(tmp_path: Path):
    Repository.create(tmp_path)
    with_identity(tmp_path, note="the blue one")

    assert Repository.open(tmp_path).points() == ()


def test_every_flipped_bit_of_the_identity_shows(tmp_path: Path):
    Repository.create(tmp_path)
    file = tmp_path / "newhope-repository"
    content = file.read_bytes()
    values = json.loads(content)
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1
        try:
            # White space between the words may change; what they say may not.
            same = json.loads(damaged) == values
        except ValueError:
            same = False
        file.write_bytes(damaged)
        if not same:
            with pytest.raises((RepositoryDamaged, RepositoryMissing, RepositoryTooNew)):
                Repository.open(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{", "\0\0\0\0"])
def test_an_identity_that_is_no_identity_is_damaged(tmp_path: Path, content: str):
    Repository.create(tmp_path)
    (tmp_path / "newhope-repository").write_text(content)

    refused(tmp_path, RepositoryDamaged)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_says_so(tmp_path: Path):
    Repository.create(tmp_path)
    tmp_path.chmod(0)
    try:
        assert "ls -ld" in refused(tmp_path, StorageFailed).next_step
    finally:
        tmp_path.chmod(0o700)


def test_a_storage_that_refuses_to_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Repository.create(tmp_path)

    def refuse(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "pread", refuse)
    error = refused(tmp_path, StorageFailed)

    assert "Permission denied" in error.what
    assert "ls -ld" in error.next_step
