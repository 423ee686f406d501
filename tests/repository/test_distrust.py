"""Which points a write may be missing from, once a later one has found that a dirty bitmap was wrong."""

from __future__ import annotations

from pathlib import Path

import msgspec
from msgspec.structs import replace

from engine.repository import Origin, Point, Repository, doubts
from tests.builders import make_disk_record, make_point
from tests.repository.building import BLOCK, back_up, commit, later, mixed_disk, packs_of, restored


def chain(*steps: tuple[str, str], vm: str = "web") -> dict[str, Point]:
    """Points, oldest first, by a letter each; a step names its letter and how it was read.

    `w` is read whole, `=A` takes over from A, `!A` contradicts A.
    """
    made: dict[str, Point] = {}
    for number, (letter, how) in enumerate(steps):
        parent = made[how[1:]].id if how[1:] else ""
        disk = make_disk_record(
            taken_over_from=parent if how[0] == "=" else "", contradicted=parent if how[0] == "!" else ""
        )
        made[letter] = make_point(vm, age=f"{100 - number}h", disks=(disk,))
    return made


def doubted(points: dict[str, Point], *, without: str = "") -> str:
    found = doubts(point for letter, point in points.items() if letter not in without)
    return "".join(letter for letter, point in points.items() if point.id in found)


def test_nothing_is_doubted_where_nothing_was_contradicted() -> None:
    assert doubted(chain(("a", "w"), ("b", "=a"), ("c", "=b"))) == ""


def test_what_took_something_over_since_the_disk_was_last_read_whole_is_doubted() -> None:
    points = chain(("a", "w"), ("b", "=a"), ("c", "w"), ("d", "=c"), ("e", "=d"), ("f", "!e"), ("g", "=f"))

    assert doubted(points) == "de"


def test_a_point_beside_the_chain_is_doubted_too() -> None:
    # Of a VM that was off: nothing was built on it.
    assert doubted(chain(("a", "w"), ("b", "=a"), ("c", "=a"), ("d", "!c"))) == "bc"


def test_where_the_points_between_were_dropped_all_back_to_a_whole_one_are_doubted() -> None:
    points = chain(("a", "w"), ("b", "=a"), ("c", "=b"), ("d", "=c"), ("e", "!d"))

    assert doubted(points, without="c") == "bd"
    assert doubted(points, without="ad") == "bc"


def test_other_vms_are_not_touched() -> None:
    web, db = chain(("a", "w"), ("b", "=a"), ("c", "!b")), chain(("x", "w"), ("y", "=x"), vm="db")

    assert set(doubts([*web.values(), *db.values()])) == {web["b"].id}


def test_another_disk_that_was_read_whole_is_not_the_one() -> None:
    points = chain(("a", "w"), ("b", "=a"), ("c", "!b"))
    second = replace(points["b"].manifest.disks[0], target="vdb", taken_over_from="")
    b = points["b"]
    points["b"] = replace(b, manifest=replace(b.manifest, disks=(second, *b.manifest.disks)))

    assert doubted(points) == "b"
    assert doubts(points.values())[b.id].startswith("vda may hold older content in places: web@")


def test_a_copy_is_doubted_with_its_original() -> None:
    points = chain(("a", "w"), ("b", "=a"), ("c", "!b"))
    b = points["b"]
    copy = replace(b, id="f" * 16, manifest=replace(b.manifest, origin=Origin("other", b.id)))

    assert set(doubts([points["a"], copy, points["c"]])) == {copy.original_id}


def test_a_record_of_before_reads_as_it_was_and_is_written_as_it_was() -> None:
    record = make_disk_record()
    stored = msgspec.json.encode(record)

    assert b"taken_over_from" not in stored
    assert b"contradicted" not in stored
    assert msgspec.json.decode(stored, type=type(record)) == record


def test_a_doubted_disk_stores_again_what_cannot_be_read_and_only_that(tmp_path: Path) -> None:
    repository = Repository.create(tmp_path / "vault", block_bytes=BLOCK)
    content = mixed_disk(60)
    first = back_up(repository, content)
    (pack, *_) = packs_of(tmp_path / "vault")
    damaged = bytearray(pack.read_bytes())
    damaged[200] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(damaged)

    made: list[Point] = []
    new_blocks: list[int] = []
    for verify in (False, True, True):
        with repository.writer("a test") as writer:
            disk = writer.disk("vda", len(content), "raw", verify=verify)
            for block in range(-(-len(content) // BLOCK)):
                piece = content[block * BLOCK : (block + 1) * BLOCK]
                buffer = disk.buffer()
                buffer[: len(piece)] = piece
                disk.submit(block, buffer, len(piece))
            made.append(commit(writer, (disk.finish("a test"),), later(len(made) + 1)))
            new_blocks.append(writer.stats.new_blocks)

    assert new_blocks == [0, 1, 0]
    assert restored(repository, made[-1].manifest.disks[0]) == content
    assert made[-1].manifest.disks[0].map_root == first.manifest.disks[0].map_root
