"""What an image holds is found by reading it: blocks that are right, wrong or missing, and what should not be there."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine import nbd
from engine.hosts import image
from engine.hosts.disk_sink import open_sink
from engine.repository import DiskRecord, Reader, Repository
from engine.restore.recognised import Recognised, recognise
from engine.restore.step_disks import write_disk
from tests.repository.building import BLOCK, back_up

BLOCKS = 64


@pytest.fixture(scope="module")
def content() -> bytes:
    """Every third block is zero, and the last one is short."""
    chance = random.Random(11)
    pieces = [bytes(BLOCK) if number % 3 == 2 else chance.randbytes(BLOCK) for number in range(BLOCKS - 1)]
    return b"".join(pieces) + chance.randbytes(1024)


@pytest.fixture
def kept(tmp_path: Path, content: bytes) -> Iterator[tuple[Reader, DiskRecord]]:
    with Repository.create(tmp_path / "vault", block_bytes=BLOCK) as repository:
        back_up(repository, content)
        with repository.reader() as reader:
            yield reader, repository.points()[0].manifest.disks[0]


@pytest.fixture(params=["raw", "qcow2"])
def target(request: pytest.FixtureRequest, tmp_path: Path, content: bytes) -> tuple[Path, str]:
    path, image_format = tmp_path / "target", str(request.param)
    subprocess.run(["qemu-img", "create", "-q", "-f", image_format, path, str(len(content))], check=True)
    return path, image_format


def look(kept: tuple[Reader, DiskRecord], target: tuple[Path, str], tmp_path: Path) -> Recognised:
    reader, record = kept
    with (
        image.serve(*target, tmp_path / "look.sock") as address,
        nbd.Client.connect(address, contexts=(nbd.BASE_ALLOCATION,)) as client,
    ):
        return recognise(reader, record, client, _nothing, _nothing)


def put(target: tuple[Path, str], offset: int, content: bytes, tmp_path: Path) -> None:
    with open_sink(*target, tmp_path / "put.sock", keep=True) as sink:
        sink.write(offset, content)
        sink.flush()


def held(target: tuple[Path, str], tmp_path: Path) -> bytes:
    raw = tmp_path / "held.raw"
    subprocess.run(["qemu-img", "convert", "-f", target[1], "-O", "raw", target[0], raw], check=True)
    return raw.read_bytes()


def _nothing(*_: object) -> None:
    return


def test_nothing_is_recognised_in_a_new_image(
    kept: tuple[Reader, DiskRecord], target: tuple[Path, str], tmp_path: Path
):
    found = look(kept, target, tmp_path)

    assert (found.there_bytes, found.stale) == (0, [])
    assert found.missing_blocks == BLOCKS - BLOCKS // 3


def test_what_was_half_written_spoiled_and_never_to_be_there_ends_as_the_point_has_it(
    kept: tuple[Reader, DiskRecord], target: tuple[Path, str], tmp_path: Path, content: bytes
):
    reader, record = kept
    put(target, 0, content[: 20 * BLOCK], tmp_path)
    put(target, 3 * BLOCK + 100, b"torn", tmp_path)
    put(target, 41 * BLOCK + 7, b"what a zero block must not hold", tmp_path)

    found = look(kept, target, tmp_path)

    assert found.stale == [3, 41]
    assert [block for block in range(BLOCKS) if found.is_there(block)] == [
        block for block in range(20) if block % 3 != 2 and block != 3
    ]
    written: list[int] = []
    with open_sink(*target, tmp_path / "go-on.sock", keep=True) as sink:
        for block in found.stale:
            sink.zero(block * BLOCK, BLOCK)
        write_disk(reader, record, sink, written.append, _nothing, skip=found.is_there)
    assert held(target, tmp_path)[: len(content)] == content
    assert sum(written) + found.there_bytes == record.data_bytes

    again = look(kept, target, tmp_path)
    assert (again.missing_blocks, again.stale) == (0, [])


def test_a_single_flipped_bit_is_found_by_reading_again(
    kept: tuple[Reader, DiskRecord], target: tuple[Path, str], tmp_path: Path, content: bytes
):
    reader, record = kept
    with open_sink(*target, tmp_path / "all.sock") as sink:
        write_disk(reader, record, sink, _nothing, _nothing)
    assert look(kept, target, tmp_path).missing_blocks == 0
    at = 33 * BLOCK + 1234
    put(target, at, bytes([content[at] ^ 1]), tmp_path)

    assert look(kept, target, tmp_path).stale == [33]
