"""Records: proofs and reports kept beside the recovery points, under names that are used once."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import Conflict, NotFound
from engine.repository import Repository, RepositoryDamaged
from engine.repository.errors import Unsound
from engine.repository.frame import FrameCodec, FrameKind, decode_frame, encode_frame


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path / "vault", name="vault")


def test_a_record_is_kept_and_read_back(repository: Repository):
    repository.put_record("restores", "web-20261122T081355Z.md", b"# Restored\n")
    repository.put_record("restores", "db-20261122T081355Z.md", b"")

    assert repository.records("restores") == ("db-20261122T081355Z.md", "web-20261122T081355Z.md")
    assert repository.record("restores", "web-20261122T081355Z.md") == b"# Restored\n"
    assert repository.record("restores", "db-20261122T081355Z.md") == b""
    assert repository.records("proofs") == ()


def test_a_record_is_never_overwritten(repository: Repository):
    repository.put_record("proofs", "one", b"first")

    with pytest.raises(Conflict, match="proofs/one"):
        repository.put_record("proofs", "one", b"second")
    assert repository.record("proofs", "one") == b"first"


def test_a_record_that_is_not_there_is_not_found(repository: Repository):
    repository.put_record("proofs", "one", b"first")

    with pytest.raises(NotFound, match="proofs/two") as caught:
        repository.record("proofs", "two")
    assert "one" in caught.value.next_step


@pytest.mark.parametrize("name", ["", ".", "..", "../points", "a/b", ".hidden", "a b", "ä", "x" * 300])
def test_a_name_that_could_lead_elsewhere_is_refused(repository: Repository, name: str):
    for kind, record in ((name, "one"), ("proofs", name)):
        with pytest.raises(ValueError, match="no name for a record"):
            repository.put_record(kind, record, b"")


def test_a_damaged_or_exchanged_record_is_not_handed_out(repository: Repository, tmp_path: Path):
    repository.put_record("proofs", "one", b"first")
    repository.put_record("proofs", "two", b"second")
    one, two = (tmp_path / "vault/records/proofs" / name for name in ("one", "two"))
    sound = one.read_bytes()
    for content in (two.read_bytes(), sound[:-1], b"", sound[:30] + b"?" + sound[31:]):
        one.write_bytes(content)
        with pytest.raises(RepositoryDamaged, match="records/proofs/one"):
            repository.record("proofs", "one")


@pytest.mark.parametrize("codec", list(FrameCodec))
@pytest.mark.parametrize("payload", [b"", b"x", b"words " * 1000])
def test_every_flipped_bit_and_every_cut_of_a_frame_shows(codec: FrameCodec, payload: bytes):
    frame = encode_frame("records/a/b", FrameKind.RECORD, payload, codec=codec)
    assert decode_frame("records/a/b", FrameKind.RECORD, frame) == payload

    for position in range(len(frame)):
        damaged = bytearray(frame)
        damaged[position] ^= 1 << position % 8
        with pytest.raises(Unsound):
            decode_frame("records/a/b", FrameKind.RECORD, bytes(damaged))
    for length in range(0, len(frame), 7):
        with pytest.raises(Unsound):
            decode_frame("records/a/b", FrameKind.RECORD, frame[:length])
    with pytest.raises(Unsound):
        decode_frame("records/a/c", FrameKind.RECORD, frame)
    with pytest.raises(Unsound):
        decode_frame("records/a/b", FrameKind.POINT, frame)
