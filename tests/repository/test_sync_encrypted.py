"""A sync between repositories with different keys, or with none on one side."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.repository import Passphrase, Repository, Secret, SyncRequest
from tests.repository.building import BLOCK, back_up, later
from tests.repository.s3_server import S3Server
from tests.repository.syncing import generations, held, sync

HERE, THERE = Passphrase(b"of the first"), Passphrase(b"of the second")


def opened(place: Path | str, passphrase: Passphrase | None) -> Repository:
    def unlock(_: str, __: str) -> Secret:
        assert passphrase
        return passphrase

    return Repository.open(place, unlock=unlock)


@pytest.fixture
def points() -> list[bytes]:
    return generations(3, 120)


def filled(folder: Path, passphrase: Passphrase | None, contents: list[bytes], block_bytes: int = BLOCK) -> Repository:
    repository = Repository.create(folder, name="here", block_bytes=block_bytes, passphrase=passphrase)
    for number, content in enumerate(contents):
        back_up(repository, content, moment=later(number))
    return repository


@pytest.mark.parametrize("block_bytes", [BLOCK, 16384])
@pytest.mark.parametrize(
    ("here", "there"),
    [(None, THERE), (HERE, THERE), (HERE, None), (HERE, HERE)],
    ids=["plain to encrypted", "to another key", "encrypted to plain", "one passphrase for both"],
)
def test_every_point_opens_with_the_key_of_the_repository_that_it_is_in(
    tmp_path: Path, points: list[bytes], here: Passphrase | None, there: Passphrase | None, block_bytes: int
):
    source = filled(tmp_path / "here", here, points)
    Repository.create(tmp_path / "there", block_bytes=block_bytes, passphrase=there)
    target = opened(tmp_path / "there", there)
    source.pin(source.points()[0], why="kept", by="ana")

    done = sync(source, target, SyncRequest(verify=True))

    assert len(done.copied) == 3
    again = opened(tmp_path / "there", there)
    assert held(again) == held(source)
    assert len(again.guarded()) == 1
    assert sync(source, again).copied == ()


def test_of_a_next_point_only_what_changed_is_read_under_another_key_too(tmp_path: Path, points: list[bytes]):
    source = filled(tmp_path / "here", HERE, points)
    target = Repository.create(tmp_path / "there", block_bytes=BLOCK, passphrase=THERE)
    sync(source, target)
    content = points[-1][: 50 * BLOCK] + b"new!" * (BLOCK // 4) + points[-1][51 * BLOCK :]
    back_up(source, content, moment=later(99))

    (copied,) = sync(source, target).copied

    assert copied.read_bytes <= BLOCK + 100
    assert held(target) == held(source)


def test_from_an_encrypted_folder_of_large_blocks_into_an_encrypted_bucket_of_small_ones(
    tmp_path: Path, points: list[bytes], moto: S3Server, bucket: str
):
    source = filled(tmp_path / "here", HERE, points, block_bytes=256 << 10)
    far = f"s3://{bucket}/vault?endpoint={moto.endpoint}"
    Repository.create(far, block_bytes=64 << 10, passphrase=THERE)

    sync(source, opened(far, THERE), SyncRequest(verify=True))

    assert held(opened(far, THERE)) == held(source)


def test_nothing_of_the_content_can_be_read_at_the_target(tmp_path: Path):
    secret = b"the lion sleeps tonight, " * 400
    source = filled(tmp_path / "here", None, [secret])
    sync(source, Repository.create(tmp_path / "there", block_bytes=BLOCK, passphrase=THERE))

    everything = b"".join(path.read_bytes() for path in (tmp_path / "there").rglob("*") if path.is_file())
    assert b"lion" not in everything
    assert b"<domain/>" not in everything
    assert b"alderaan" not in everything
