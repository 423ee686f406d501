"""From maps to lost ranges, without a repository: maps in memory, and blocks that somebody calls lost."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.repository import Consistency, DataRun, DiskRecord, FileRecord, Manifest, Point
from engine.repository.damage import disk_losses, point_name
from engine.repository.disk_map import ZERO_NAME, MapBuilder, blocks_of, height_of
from engine.repository.shared_maps import lost_blocks, versions_of
from tests.repository.building import BLOCK, DB, facts, later


class Maps:
    """Nodes of maps, kept in memory, and how often each was asked for."""

    def __init__(self) -> None:
        self.nodes: dict[bytes, bytes] = {}
        self.loads: list[bytes] = []
        self.gone: set[bytes] = set()

    def store(self, content: bytes) -> bytes:
        name = blake3(content).digest()
        self.nodes[name] = content
        return name

    def load(self, name: bytes, length: int) -> bytes | None:
        self.loads.append(name)
        content = self.nodes[name]
        return None if name in self.gone or len(content) != length else content

    def root(self, names: Sequence[bytes]) -> str:
        builder = MapBuilder(len(names), self.store)
        for block, name in enumerate(names):
            builder.put(block, name)
        return builder.finish()[0]


def name(number: int) -> bytes:
    return blake3(number.to_bytes(4)).digest() if number else ZERO_NAME


def point(minutes: int, *records: DiskRecord | FileRecord, uuid: str = DB) -> Point:
    manifest = Manifest(
        version=1,
        vm=facts(uuid, "db"),
        moment=later(minutes),
        finished=later(minutes),
        method="hot",
        consistency=Consistency.CRASH,
        consistency_note="",
        disks=tuple(record for record in records if isinstance(record, DiskRecord)),
        files=tuple(record for record in records if isinstance(record, FileRecord)),
        downtime_s=0,
        read_bytes=0,
        new_bytes=0,
        checkpoint=None,
        writer="",
    )
    return Point("vault", f"{minutes:016x}", manifest)


def disk(maps: Maps, names: Sequence[bytes], size_bytes: int | None = None, target: str = "vda") -> DiskRecord:
    size = len(names) * BLOCK if size_bytes is None else size_bytes
    return DiskRecord(target, size, "raw", maps.root(names), height_of(blocks_of(size, BLOCK)), 0, "")


def test_a_disk_of_which_nothing_is_lost_is_not_told_of():
    maps = Maps()
    points = [point(0, disk(maps, [name(1), name(2)]))]

    assert list(disk_losses(points, BLOCK, maps.load, lambda block: ())) == []


def test_neighbouring_lost_blocks_are_one_range_that_ends_with_the_disk():
    maps = Maps()
    lost = {name(2): ("packs/aa/aa",), name(3): ("packs/bb/bb",), name(9): ("packs/aa/aa",)}
    names = [name(1), name(2), name(3), name(4), name(9)]
    points = [point(0, disk(maps, names, 4 * BLOCK + 100))]

    (loss,) = disk_losses(points, BLOCK, maps.load, lambda block: lost.get(block, ()))

    assert loss.point == point_name(points[0])
    assert loss.name == "vda"
    assert loss.ranges == (DataRun(BLOCK, 2 * BLOCK), DataRun(4 * BLOCK, 100))
    assert loss.lost_bytes == 2 * BLOCK + 100
    assert loss.objects == ("packs/aa/aa", "packs/bb/bb")


def test_a_lost_block_hurts_every_version_that_has_it_and_no_other():
    maps = Maps()
    versions = [[name(1), name(2)], [name(1), name(3)], [name(4), name(2)]]
    points = [point(minutes, disk(maps, names)) for minutes, names in enumerate(versions)]

    losses = list(disk_losses(points, BLOCK, maps.load, lambda block: ("x",) if block == name(2) else ()))

    assert [loss.point.id for loss in losses] == [points[0].id, points[2].id]


def test_a_lost_node_takes_the_range_below_it_and_nothing_else():
    maps = Maps()
    names = [name(number + 1) for number in range(700)]
    record = disk(maps, names)
    maps.gone.add(maps.store(b"".join(names[256:512])))

    (loss,) = disk_losses([point(0, record)], BLOCK, maps.load, lambda block: ("x",) if block in maps.gone else ())

    assert loss.ranges == (DataRun(256 * BLOCK, 256 * BLOCK),)


def test_files_are_told_by_role_and_name():
    maps = Maps()
    record = FileRecord("nvram", "vars.fd", 100, maps.root([name(7)]), 0)

    (loss,) = disk_losses([point(0, record)], BLOCK, maps.load, lambda block: ("x",))

    assert (loss.name, loss.ranges) == ("nvram vars.fd", (DataRun(0, 100),))


def test_a_map_that_does_not_fit_its_disk_loses_all_of_it_and_names_the_manifest():
    maps = Maps()
    record = msgspec.structs.replace(disk(maps, [name(1)]), map_height=2)
    hurt = point(0, record)

    (loss,) = disk_losses([hurt], BLOCK, maps.load, lambda block: ())

    assert loss.ranges == (DataRun(0, BLOCK),)
    assert loss.objects == (f"points/{DB}/{later(0):%Y%m%dT%H%M%SZ}-{hurt.id}",)


def test_what_versions_share_is_looked_at_once():
    maps = Maps()
    names = [name(number + 1) for number in range(5000)]
    points = []
    for minutes in range(30):
        names[minutes] = name(100_000 + minutes)
        points.append(point(minutes, disk(maps, names)))

    looked: list[bytes] = []
    assert list(disk_losses(points, BLOCK, maps.load, lambda block: looked.append(block) or ())) == []

    # 20 leaves, of which one has 30 versions; 30 roots; and of the leaf that changes, a block more each time.
    assert len(maps.loads) == 30 + 30 + 19
    assert len(looked) < 5000 + 30 * 30


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=40), min_size=1, max_size=6),
    st.sets(st.integers(1, 6), max_size=3),
    st.integers(1, 20),
)
def test_walking_versions_together_finds_what_looking_at_each_alone_does(
    versions: list[list[int]], lost: set[int], repeat: int
):
    maps = Maps()
    size = max(map(len, versions)) * repeat
    all_names = [[name(number) for number in (version * size)[:size]] for version in versions]
    lost_names = {name(number) for number in lost}
    roots = [maps.root(names) for names in all_names]

    found = list(lost_blocks(roots, height_of(size), size, maps.load, lambda block: block in lost_names))

    for version, names in enumerate(all_names):
        mine = [one.first for one in found if version in versions_of(one.versions)]
        assert mine == [block for block, block_name in enumerate(names) if block_name in lost_names]
