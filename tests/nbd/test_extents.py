"""The arithmetic on extents, against the simplest model there is: a list with one entry a byte."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from engine.nbd import Extent, clip, cover, merge

NOTHING = -1


@st.composite
def maps(draw: st.DrawFn) -> list[Extent]:
    """Extents in order, with gaps, empty ones, and neighbours of the same flags."""
    extents: list[Extent] = []
    position = 0
    for gap, length, flags in draw(
        st.lists(st.tuples(st.sampled_from([0, 0, 0, 2, 5]), st.integers(0, 9), st.integers(0, 3)), max_size=12)
    ):
        extents.append(Extent(position + gap, length, flags))
        position += gap + length
    return extents


def byte_by_byte(extents: list[Extent], size: int = 200) -> list[int]:
    told = [NOTHING] * size
    for extent in extents:
        for at in range(extent.offset, extent.end):
            if told[at] == NOTHING:
                told[at] = extent.flags
    return told


@given(maps())
def test_merging_changes_no_byte_and_leaves_no_two_neighbours_alike(extents: list[Extent]) -> None:
    merged = list(merge(extents))

    assert byte_by_byte(merged) == byte_by_byte(extents)
    assert all(extent.length for extent in merged)
    for left, right in itertools.pairwise(merged):
        assert left.end <= right.offset
        assert left.end < right.offset or left.flags != right.flags


@given(maps(), st.integers(0, 60), st.integers(0, 60))
def test_clipping_keeps_exactly_what_lies_within(extents: list[Extent], offset: int, length: int) -> None:
    clipped = list(clip(extents, offset, length))

    within = [flags if offset <= at < offset + length else NOTHING for at, flags in enumerate(byte_by_byte(extents))]
    assert byte_by_byte(clipped) == within


@given(maps(), st.integers(0, 60), st.integers(1, 60))
def test_covering_fills_every_gap_and_nothing_else(extents: list[Extent], offset: int, length: int) -> None:
    covered = list(cover(extents, offset, length, flags=7))

    told = byte_by_byte(extents)
    assert covered[0].offset == offset
    assert covered[-1].end == offset + length
    assert byte_by_byte(covered)[offset : offset + length] == [
        7 if flags == NOTHING else flags for flags in told[offset : offset + length]
    ]
    assert all(left.end == right.offset for left, right in itertools.pairwise(covered))


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 20), st.integers(0, 3)), max_size=8))
def test_covering_tells_every_byte_once_even_when_extents_overlap(told: list[tuple[int, int, int]]) -> None:
    extents = [Extent(*extent) for extent in sorted(told)]

    covered = list(cover(extents, 0, 80))

    assert sum(extent.length for extent in covered) == 80
    assert all(left.end == right.offset for left, right in itertools.pairwise(covered))


def test_a_map_is_merged_without_being_held_in_memory() -> None:
    endless = (Extent(at * 10, 10, at % 2) for at in itertools.count())

    first = next(iter(merge(endless)))

    assert first == Extent(0, 10, 0)
