"""What goes in comes out: whatever the disks hold, in whatever order they are read, byte for byte."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.repository import Passphrase, Repository, WriterLimits
from tests.repository.building import (
    BLOCK,
    PASSPHRASE,
    back_up,
    commit,
    later,
    mixed_disk,
    restored,
    unlock,
    write_disk,
)

BLOCKS = st.lists(
    st.tuples(st.sampled_from(["zero", "same", "text", "random", "near zero"]), st.integers(0, 5)), max_size=40
)
TAIL = st.integers(0, BLOCK - 1)


def content_of(blocks: list[tuple[str, int]], tail: int) -> bytes:
    pieces: list[bytes] = []
    for kind, seed in blocks:
        match kind:
            case "zero":
                pieces.append(bytes(BLOCK) * (seed + 1))
            case "same":
                pieces.append(bytes([seed + 1]) * BLOCK)
            case "text":
                pieces.append((f"line {seed} of a log file\n" * 300).encode()[:BLOCK])
            case "near zero":
                pieces.append(bytes(BLOCK - 1) + b"\1")
            case _:
                pieces.append(random.Random(seed).randbytes(BLOCK))
    return b"".join(pieces) + random.Random(tail).randbytes(tail)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    disks=st.lists(st.tuples(BLOCKS, TAIL), min_size=1, max_size=3),
    pack_blocks=st.integers(1, 30),
    passphrase=st.sampled_from([None, PASSPHRASE]),
)
def test_disks_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory,
    disks: list[tuple[list[tuple[str, int]], int]],
    pack_blocks: int,
    passphrase: Passphrase | None,
):
    folder = tmp_path_factory.mktemp("vault")
    contents = [content_of(*disk) for disk in disks]
    limits = WriterLimits(pack_bytes=pack_blocks * BLOCK, index_every_blocks=10)
    repository = Repository.create(folder, block_bytes=BLOCK, passphrase=passphrase)
    point = back_up(repository, *contents, limits=limits)

    opened = Repository.open(folder, unlock=unlock)
    assert [found.manifest for found in opened.points()] == [point.manifest]
    for record, content in zip(point.manifest.disks, contents, strict=True):
        assert restored(opened, record) == content
        blocks = [content[at : at + BLOCK] for at in range(0, len(content), BLOCK)]
        assert record.data_bytes == sum(len(block) for block in blocks if any(block))


@settings(max_examples=40, deadline=None)
@given(disk=st.tuples(BLOCKS, TAIL), looks=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=8))
def test_any_range_is_read_as_it_was(
    tmp_path_factory: pytest.TempPathFactory,
    disk: tuple[list[tuple[str, int]], int],
    looks: list[tuple[float, float]],
):
    content = content_of(*disk)
    repository = Repository.create(tmp_path_factory.mktemp("vault"), block_bytes=BLOCK)
    record = back_up(repository, content).manifest.disks[0]

    with repository.reader() as reader:
        for low, high in looks:
            start, end = sorted((int(low * len(content)), int(high * len(content))))
            assert reader.read_range(record, start, end - start) == content[start:end]
            runs = list(reader.disk_runs(record, start, end - start))
            inside = bytearray(end - start)
            for run in runs:
                assert start <= run.offset < run.offset + run.length <= end
                at = run.offset - start
                inside[at : at + run.length] = content[run.offset : run.offset + run.length]
            assert inside == content[start:end]
            assert all(a.offset + a.length < b.offset for a, b in pairwise(runs))


def test_blocks_submitted_out_of_order_come_back_in_order(tmp_path: Path):
    repository = Repository.create(tmp_path / "vault", block_bytes=BLOCK)
    content = mixed_disk(600)
    order = list(range(601))
    random.Random(2).shuffle(order)
    with repository.writer("a test") as writer:
        point = commit(writer, (write_disk(writer, "vda", content, order),))

    assert restored(repository, point.manifest.disks[0]) == content


def test_a_sliced_buffer_may_be_submitted(tmp_path: Path):
    repository = Repository.create(tmp_path / "vault", block_bytes=BLOCK)
    with repository.writer("a test") as writer:
        disk = writer.disk("vda", 100, "raw")
        buffer = disk.buffer()[:100]
        buffer[:] = b"x" * 100
        disk.submit(0, buffer, 100)
        point = commit(writer, (disk.finish("full"),))

    assert restored(repository, point.manifest.disks[0]) == b"x" * 100


def test_a_disk_larger_than_memory_with_a_few_blocks_comes_back(tmp_path: Path):
    repository = Repository.create(tmp_path / "vault")
    size = 10 << 40
    blocks = size // repository.block_bytes
    with repository.writer("a test") as writer:
        disk = writer.disk("vda", size, "qcow2")
        buffer = disk.buffer()
        buffer[:] = b"\7" * repository.block_bytes
        disk.zero(0, 12_345_678)
        disk.submit(12_345_678, buffer, repository.block_bytes)
        disk.zero(12_345_679, blocks - 12_345_679)
        record = disk.finish("full")
        commit(writer, (record,))

    with repository.reader() as reader:
        runs = list(reader.disk_runs(record))
        assert [(run.offset, run.length) for run in runs] == [(12_345_678 << 18, 1 << 18)]
        assert list(reader.read_disk(record)) == [(12_345_678 << 18, b"\7" * (1 << 18))]
        assert reader.read_range(record, (12_345_678 << 18) - 2, 4) == b"\0\0\7\7"


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 300 * BLOCK + 5])
def test_small_files_of_any_size_come_back(tmp_path: Path, size: int):
    repository = Repository.create(tmp_path / "vault", block_bytes=BLOCK)
    content = random.Random(size).randbytes(size)
    with repository.writer("a test") as writer:
        record = writer.file("nvram", "/var/lib/web.fd", content)
        zeroes = writer.file("nvram", "zero", bytes(size))
        commit(writer, ())

    with repository.reader() as reader:
        assert reader.file(record) == content
        assert reader.file(zeroes) == bytes(size)
    assert (record.role, record.name, record.size_bytes) == ("nvram", "/var/lib/web.fd", size)


def test_earlier_points_are_not_changed_by_later_ones(tmp_path: Path):
    repository = Repository.create(tmp_path / "vault", block_bytes=BLOCK)
    chance = random.Random(4)
    contents = [bytearray(mixed_disk(300))]
    for _ in range(9):
        changed = bytearray(contents[-1])
        for _ in range(10):
            block = chance.randrange(300)
            new = bytes(BLOCK) if chance.random() < 0.3 else chance.randbytes(BLOCK)
            changed[block * BLOCK : (block + 1) * BLOCK] = new
        contents.append(changed)
    points = [back_up(repository, bytes(content), moment=later(i)) for i, content in enumerate(contents)]

    opened = Repository.open(tmp_path / "vault")
    for point, content in zip(points, contents, strict=True):
        assert restored(opened, point.manifest.disks[0]) == content
    assert all(point.manifest.new_bytes < 30 * BLOCK for point in points[1:])
