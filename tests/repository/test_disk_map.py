"""The tree that says which block lies where: built in any order, walked in any range, refused when it has a gap."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.repository.block_record import block_name
from engine.repository.disk_map import NAMES_A_NODE, ZERO_NAME, MapBuilder, height_of, walk_map
from engine.repository.errors import Unsound

Names = dict[int, bytes]


class Nodes:
    """Where a test keeps nodes; counts how often one is loaded."""

    def __init__(self) -> None:
        self.contents: dict[bytes, bytes] = {}
        self.loads = 0

    def store(self, content: bytes) -> bytes:
        name = block_name(content)
        self.contents[name] = content
        return name

    def load(self, name: bytes, length: int) -> bytes:
        self.loads += 1
        content = self.contents[name]
        assert len(content) == length
        return content


def name_of(number: int) -> bytes:
    return number.to_bytes(32, "big", signed=False).replace(b"\0", b"\1")


def build(nodes: Nodes, blocks: int, names: Names) -> tuple[str, int]:
    builder = MapBuilder(blocks, nodes.store)
    for block in range(blocks):
        if block in names:
            builder.put(block, names[block])
        else:
            builder.put_zeroes(block, 1)
    return builder.finish()


@pytest.mark.parametrize(
    ("blocks", "height"),
    [(0, 0), (1, 0), (256, 0), (257, 1), (65536, 1), (65537, 2), (1 << 24, 2), ((1 << 24) + 1, 3)],
)
def test_the_height_follows_from_the_number_of_blocks(blocks: int, height: int):
    assert height_of(blocks) == height


def test_a_disk_without_blocks_has_an_empty_root():
    assert MapBuilder(0, Nodes().store).finish() == ("", 0)


def test_a_map_of_zeroes_stores_nothing_whatever_its_size():
    nodes = Nodes()
    builder = MapBuilder(40_000_000, nodes.store)
    builder.put_zeroes(0, 40_000_000)

    assert builder.finish() == ("", 3)
    assert nodes.contents == {}


def test_zeroes_told_one_by_one_are_the_same_as_zeroes_told_at_once():
    assert build(Nodes(), 1000, {}) == ("", 1)


def test_one_block_in_a_huge_disk_costs_one_node_a_level():
    nodes = Nodes()
    builder = MapBuilder(40_000_000, nodes.store)
    builder.put_zeroes(0, 12_345_678)
    builder.put(12_345_678, name_of(7))
    builder.put_zeroes(12_345_679, 40_000_000 - 12_345_679)
    root, height = builder.finish()

    assert len(nodes.contents) == 4
    assert list(walk_map(root, height, 40_000_000, nodes.load)) == [(12_345_678, name_of(7))]


@settings(max_examples=150, deadline=None)
@given(
    blocks=st.one_of(st.integers(1, 600), st.sampled_from([255, 256, 257, 511, 512, 513, 65536, 65537, 66000])),
    density=st.sampled_from([0.0, 0.002, 0.3, 1.0]),
    seed=st.integers(0, 1 << 30),
    disorder=st.sampled_from([1, 7, 300]),
)
def test_what_was_put_is_found_again_in_order(blocks: int, density: float, seed: int, disorder: int):
    chance = random.Random(seed)
    nodes = Nodes()
    builder = MapBuilder(blocks, nodes.store)
    names = {block: name_of(chance.randrange(1, 1 << 60)) for block in range(blocks) if chance.random() < density}
    runs: list[tuple[int, int]] = []
    for block in range(blocks):
        if block in names:
            runs.append((block, 0))
        elif runs and runs[-1][1] and chance.random() < 0.99:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((block, 1))
    for start in range(0, len(runs), disorder):
        window = runs[start : start + disorder]
        chance.shuffle(window)
        for first, count in window:
            if count:
                builder.put_zeroes(first, count)
            else:
                builder.put(first, names[first])
    root, height = builder.finish()

    assert dict(walk_map(root, height, blocks, nodes.load)) == names
    first, end = sorted((chance.randint(0, blocks), chance.randint(0, blocks)))
    found = list(walk_map(root, height, blocks, nodes.load, first, end))
    assert found == sorted((block, name) for block, name in names.items() if first <= block < end)


def test_the_order_in_which_blocks_come_does_not_change_the_map():
    names = {block: name_of(block + 1) for block in range(0, 3000, 3)}
    nodes = Nodes()
    builder = MapBuilder(3000, nodes.store)
    order = list(range(3000))
    random.Random(5).shuffle(order)
    for block in order:
        if block in names:
            builder.put(block, names[block])
        else:
            builder.put_zeroes(block, 1)

    assert builder.finish() == build(Nodes(), 3000, names)


def test_a_change_of_one_block_stores_only_the_nodes_above_it():
    nodes = Nodes()
    names = {block: name_of(block + 1) for block in range(100_000)}
    build(nodes, 100_000, names)
    before = set(nodes.contents)
    build(nodes, 100_000, {**names, 77_777: name_of(1 << 40)})

    assert len(set(nodes.contents) - before) == 3


def test_a_short_look_loads_only_what_lies_above_it():
    nodes = Nodes()
    root, height = build(nodes, 100_000, {block: name_of(block + 1) for block in range(100_000)})
    found = list(walk_map(root, height, 100_000, nodes.load, 50_000, 50_010))

    assert [block for block, _ in found] == list(range(50_000, 50_010))
    assert nodes.loads == 3


def test_nodes_that_are_full_are_not_kept():
    nodes = Nodes()
    builder = MapBuilder(1 << 24, nodes.store)
    for block in range(20_000):
        builder.put(block, name_of(block + 1))

    assert sum(len(level) for level in builder._open) <= 3


@pytest.mark.parametrize("missing", [0, 255, 256, 600])
def test_a_map_with_a_gap_is_refused(missing: int):
    builder = MapBuilder(601, Nodes().store)
    for block in range(601):
        if block != missing:
            builder.put(block, name_of(block + 1))

    with pytest.raises(ValueError, match="gaps"):
        builder.finish()


def test_a_block_given_twice_is_refused():
    builder = MapBuilder(600, Nodes().store)
    builder.put(5, name_of(1))

    with pytest.raises(ValueError, match="twice"):
        builder.put(5, name_of(1))


def test_a_block_of_a_range_called_zero_is_refused():
    builder = MapBuilder(100_000, Nodes().store)
    builder.put_zeroes(0, 70_000)

    for block in range(512, 768):
        builder.put(block, name_of(1))
    builder.put_zeroes(70_000, 30_000)

    with pytest.raises(ValueError, match="twice"):
        builder.finish()


@pytest.mark.parametrize(("first", "count"), [(0, 600), (0, 256), (0, 300), (4, 2)])
def test_a_zero_range_over_a_given_block_is_refused(first: int, count: int):
    builder = MapBuilder(600, Nodes().store)
    builder.put(5, name_of(1))

    with pytest.raises(ValueError, match=r"twice|then called zero"):
        builder.put_zeroes(first, count)


@pytest.mark.parametrize(("first", "count"), [(-1, 1), (600, 1), (590, 11), (0, 601)])
def test_blocks_outside_the_disk_are_refused(first: int, count: int):
    with pytest.raises(ValueError, match="outside"):
        MapBuilder(600, Nodes().store).put_zeroes(first, count)


def test_a_height_that_does_not_fit_the_size_is_unsound():
    with pytest.raises(Unsound, match="height 1, not 0"):
        list(walk_map("00" * 32, 0, NAMES_A_NODE + 1, Nodes().load))


def test_the_zero_name_is_no_content_s_name():
    assert block_name(b"") != ZERO_NAME
