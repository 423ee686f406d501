"""Recovery points of files from inside a guest: stored, read, verified, kept and copied beside those of VMs."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from engine.errors import NotFound
from engine.file_entry import FileKind
from engine.repository import (
    Consistency,
    ContentShort,
    Extent,
    GuestContentWriter,
    GuestEntry,
    GuestFiles,
    KeepRules,
    Point,
    PointKind,
    Repository,
    SyncRequest,
    VerifyRequest,
    decide,
    decode_listing,
    read_guest_file,
    select_point,
)
from tests.repository.building import WEB, back_up, commit, facts, later, mixed_disk
from tests.repository.syncing import sync

BLOCK = 4096
FILES = {f"etc/file-{number}".encode(): os.urandom(100 + 700 * number) for number in range(40)} | {b"etc/empty": b""}


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path / "vault", name="vault", block_bytes=BLOCK)


def keep(repository: Repository, files: dict[bytes, bytes], minutes: int = 0) -> Point:
    """A guest point of these files, after those that are there."""
    with repository.writer("test") as writer:
        earlier = [point for point in repository.points(WEB) if point.manifest.kind is PointKind.GUEST]
        content = GuestContentWriter(writer, listing(repository, earlier[0]) if earlier else ())
        content.add(GuestEntry(b"etc", FileKind.FOLDER, mode=0o755))
        for path, data in files.items():
            content.add(GuestEntry(path, FileKind.FILE, mode=0o640, size_bytes=len(data)), io.BytesIO(data).read)
        disk, entries = content.finish("all of it")
        size_bytes = sum(map(len, files.values()))
        return writer.commit(
            vm=facts(),
            moment=later(minutes),
            method="guest",
            consistency=Consistency.FILES,
            consistency_note="read while it ran",
            disks=(disk,),
            files=(entries,),
            writer="test",
            guest_files=GuestFiles("etc", ("/etc",), len(files) + 1, size_bytes, "by a test"),
        )


def listing(repository: Repository, point: Point) -> tuple[GuestEntry, ...]:
    with repository.reader() as reader:
        return decode_listing(reader.file(point.manifest.files[0]), point.id)


def contents(repository: Repository, point: Point) -> dict[bytes, bytes]:
    with repository.reader() as reader:
        return {
            entry.path: b"".join(read_guest_file(reader, point.manifest.disks[0], entry, 1000))
            for entry in listing(repository, point)
            if entry.kind is FileKind.FILE
        }


def test_files_come_back_byte_for_byte_and_the_point_says_their_size(repository: Repository):
    point = keep(repository, FILES)

    assert contents(repository, point) == FILES
    assert point.size_bytes == sum(map(len, FILES.values()))
    assert repository.points()[0] == point


def test_what_did_not_change_costs_nothing_and_one_file_costs_that_file(repository: Repository):
    first = keep(repository, FILES)

    again = keep(repository, FILES, minutes=1)
    changed = FILES | {b"etc/file-3": os.urandom(2000)}
    one = keep(repository, changed, minutes=2)

    assert first.manifest.new_bytes > 500_000
    assert again.manifest.new_bytes == 0
    assert one.manifest.new_bytes < 2000 + 4 * 8192 + 4096
    assert contents(repository, one) == changed


def test_a_new_file_in_front_and_one_that_grows_move_no_other(repository: Repository):
    keep(repository, FILES)
    before = {entry.path: entry.offset for entry in listing(repository, repository.points()[0])}

    grown = {b"etc/0-first": b"new", b"etc/file-1": os.urandom(9000)} | {
        path: data for path, data in FILES.items() if path != b"etc/file-1"
    }
    point = keep(repository, grown, minutes=1)
    after = {entry.path: entry.offset for entry in listing(repository, point)}

    assert contents(repository, point) == grown
    moved = {path for path in before if path != b"etc/empty" and before[path] != after[path]}
    assert moved == {b"etc/file-1"}


def test_places_are_given_out_anew_once_hardly_any_is_used(repository: Repository):
    big = {f"data/{number}".encode(): os.urandom(BLOCK * 20) for number in range(3)}
    keep(repository, {b"a": bytes(BLOCK * 5000) + b"end"} | big)
    keep(repository, big, minutes=1)

    third = keep(repository, big, minutes=2)

    assert max(entry.offset for entry in listing(repository, third)) == 40 * BLOCK
    assert contents(repository, third) == big


def test_a_name_that_comes_twice_keeps_both_contents_apart(repository: Repository):
    keep(repository, {b"etc/a": b"one"})

    with repository.writer("test") as writer:
        content = GuestContentWriter(writer, listing(repository, repository.points()[0]))
        for text in (b"two", b"ten"):
            content.add(GuestEntry(b"etc/a", FileKind.FILE, size_bytes=3), io.BytesIO(text).read)
        disk, record = content.finish("twice")
        commit(writer, (disk,))
    with repository.reader() as reader:
        entries = decode_listing(reader.file(record), "it")
        assert {b"".join(read_guest_file(reader, disk, entry)) for entry in entries} == {b"two", b"ten"}


def test_a_file_that_ends_early_is_noticed(repository: Repository):
    with repository.writer("test") as writer, pytest.raises(ContentShort):
        GuestContentWriter(writer).add(GuestEntry(b"a", FileKind.FILE, size_bytes=9000), io.BytesIO(b"x" * 5000).read)


def test_verification_reads_a_guest_point_like_any_other(repository: Repository):
    keep(repository, FILES)

    found = repository.verifier(VerifyRequest(Extent.FULL)).run()

    assert found.sound
    assert found.findings == ()


@pytest.mark.parametrize("block_bytes", [BLOCK, 2 * BLOCK, 64 * BLOCK])
def test_a_copy_in_another_repository_has_the_same_files(repository: Repository, tmp_path: Path, block_bytes: int):
    point = keep(repository, FILES)
    far = Repository.create(tmp_path / "far", name="far", block_bytes=block_bytes)

    sync(repository, far, SyncRequest())

    (copy,) = far.points()
    assert copy.manifest.kind is PointKind.GUEST
    assert copy.manifest.guest_files == point.manifest.guest_files
    assert contents(far, copy) == FILES
    # The next one is built on the copy, whatever its blocks are.
    assert contents(far, keep(far, FILES, minutes=5)) == FILES


def test_a_policy_counts_each_kind_by_itself(repository: Repository):
    vm_points = [back_up(repository, mixed_disk(20, seed=n), moment=later(n)) for n in range(2)]
    guest_points = [keep(repository, FILES, minutes=10 + n) for n in range(3)]

    decisions = decide(repository.points(), lambda vm: KeepRules(last=1), {})

    assert {decision.point.id for decision in decisions if decision.keep} == {vm_points[1].id, guest_points[2].id}


def test_latest_is_never_of_another_kind_and_an_id_always_its_point(repository: Repository):
    vm_point = back_up(repository, mixed_disk(20))
    guest_point = keep(repository, FILES, minutes=10)
    both = repository.points()

    assert select_point(both, "latest") == vm_point
    assert select_point(both, "latest", PointKind.GUEST) == guest_point
    assert select_point(both, guest_point.id[:8]) == guest_point
    with pytest.raises(NotFound, match="only files of its guest"):
        select_point([guest_point], "latest")
    with pytest.raises(NotFound, match="no recovery point of files"):
        select_point([vm_point], "latest", PointKind.GUEST)


def test_the_newest_of_each_kind_is_copied_where_only_the_newest_is_wanted(repository: Repository, tmp_path: Path):
    wanted = {
        back_up(repository, mixed_disk(20), moment=later(1)).id,
        keep(repository, FILES, minutes=10).id,
    }
    back_up(repository, mixed_disk(20, seed=2), moment=later(0))
    far = Repository.create(tmp_path / "far", name="far", block_bytes=BLOCK)

    sync(repository, far, SyncRequest(newest=1))

    assert {point.original_id for point in far.points()} == wanted
