"""What changed, cut along blocks: every byte is told of once, as what it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.repository.changed_ranges import BlockRun, ChangedRange, MixedBlock, in_blocks

BLOCK = 16


def told(changes: list[ChangedRange], size: int) -> list[BlockRun | MixedBlock]:
    return list(in_blocks(changes, size, BLOCK))


def test_a_disk_without_changes_is_one_run():
    assert told([], 10 << 40) == [BlockRun(0, (10 << 40) // BLOCK, changed=False)]
    assert told([], 0) == []


def test_whole_blocks_are_runs_and_their_edges_are_mixed():
    assert told([ChangedRange(10, 44)], 100) == [
        MixedBlock(0, ((10, 6),), (), ((0, 10),)),
        BlockRun(1, 2, changed=True),
        MixedBlock(3, ((0, 6),), (), ((6, 10),)),
        BlockRun(4, 3, changed=False),
    ]


def test_what_is_dirty_and_zero_is_zero_and_never_the_same():
    assert told([ChangedRange(16, 32, zero=True), ChangedRange(50, 2, zero=True)], 64) == [
        BlockRun(0, 1, changed=False),
        BlockRun(1, 2, changed=True, zero=True),
        MixedBlock(3, (), ((2, 2),), ((0, 2), (4, 12))),
    ]


def test_neighbours_that_fill_a_block_together_make_it_whole():
    assert told([ChangedRange(0, 5), ChangedRange(5, 11)], 16) == [BlockRun(0, 1, changed=True)]
    assert told([ChangedRange(0, 5, zero=True), ChangedRange(5, 11, zero=True)], 16) == [
        BlockRun(0, 1, changed=True, zero=True)
    ]


def test_a_short_last_block_is_whole_when_its_bytes_are():
    assert told([ChangedRange(16, 9)], 25) == [BlockRun(0, 1, changed=False), BlockRun(1, 1, changed=True)]
    assert told([ChangedRange(16, 99)], 25) == [BlockRun(0, 1, changed=False), BlockRun(1, 1, changed=True)]


def test_changes_that_overlap_are_refused():
    with pytest.raises(ValueError, match="overlaps"):
        told([ChangedRange(0, 20), ChangedRange(19, 1)], 100)


@given(
    gaps=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 60), st.booleans()), max_size=12),
    size=st.integers(0, 700),
)
def test_every_byte_is_told_of_once_as_what_it_is(gaps: list[tuple[int, int, bool]], size: int):
    expected = ["same"] * size
    changes: list[ChangedRange] = []
    at = 0
    for gap, length, zero in gaps:
        at += gap
        if at < size:
            changes.append(ChangedRange(at, length, zero))
            for place in range(at, min(at + length, size)):
                expected[place] = "zero" if zero else "read"
        at += length

    found: list[str] = []
    for each in told(changes, size):
        if isinstance(each, BlockRun):
            assert len(found) == each.first * BLOCK
            kind = "same" if not each.changed else "zero" if each.zero else "read"
            found += [kind] * (min(size, (each.first + each.count) * BLOCK) - each.first * BLOCK)
            continue
        assert len(found) == each.block * BLOCK
        block = ["?"] * min(BLOCK, size - each.block * BLOCK)
        for kind, parts in (("read", each.read), ("zero", each.zero), ("same", each.same)):
            for offset, length in parts:
                assert block[offset : offset + length] == ["?"] * length
                block[offset : offset + length] = [kind] * length
        found += block
    assert found == expected
