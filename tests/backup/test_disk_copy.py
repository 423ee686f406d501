"""Rounding extents to blocks: no byte of data may fall into a zero run."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from engine.backup.disk_copy import round_to_blocks

Extents = list[tuple[int, int, bool]]


def runs(extents: Extents, size_bytes: int, block_bytes: int = 100) -> list[tuple[int, int, bool]]:
    return list(round_to_blocks(iter(extents), size_bytes, block_bytes))


def test_an_empty_disk_has_no_runs():
    assert runs([], 0) == []


def test_a_disk_of_zeroes_is_one_zero_run():
    assert runs([(0, 1000, False)], 1000) == [(0, 10, False)]


def test_a_disk_of_data_is_one_data_run():
    assert runs([(0, 1000, True)], 1000) == [(0, 10, True)]


def test_a_block_with_one_byte_of_data_is_a_data_block():
    assert runs([(0, 250, False), (250, 1, True), (251, 749, False)], 1000) == [
        (0, 2, False),
        (2, 1, True),
        (3, 7, False),
    ]


def test_data_that_ends_within_a_block_shares_it_with_the_next_data():
    assert runs([(0, 110, True), (110, 40, False), (150, 10, True), (160, 840, False)], 1000) == [
        (0, 2, True),
        (2, 8, False),
    ]


def test_neighbouring_data_runs_are_one():
    assert runs([(0, 100, True), (100, 100, True)], 200) == [(0, 2, True)]


def test_the_last_short_block_is_counted():
    assert runs([(0, 1000, False), (1000, 1, True)], 1001) == [(0, 10, False), (10, 1, True)]


@st.composite
def extents_of_a_disk(draw: st.DrawFn) -> tuple[Extents, int]:
    lengths = draw(st.lists(st.integers(1, 700), max_size=30))
    offset, extents = 0, []
    for length in lengths:
        extents.append((offset, length, draw(st.booleans())))
        offset += length
    return extents, offset


@given(extents_of_a_disk(), st.integers(1, 300))
def test_runs_cover_the_disk_once_and_hold_exactly_the_blocks_with_data(disk: tuple[Extents, int], block_bytes: int):
    extents, size_bytes = disk

    found = runs(extents, size_bytes, block_bytes)

    covered = [block for first, count, _ in found for block in range(first, first + count)]
    assert covered == list(range(-(-size_bytes // block_bytes)))
    expected = {
        block
        for offset, length, is_data in extents
        if is_data
        for block in range(offset // block_bytes, -(-(offset + length) // block_bytes))
    }
    assert {b for first, count, data in found if data for b in range(first, first + count)} == expected
    assert all(left[2] != right[2] for left, right in pairwise(found))
