"""Recovery points copied to another repository: only what is missing, whole, and complete there by themselves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.errors import Conflict, NotFound
from engine.repository import Repository, SyncRequest
from tests.repository.building import (
    BLOCK,
    DB,
    WEB,
    back_up,
    commit,
    facts,
    later,
    mixed_disk,
    packs_of,
    write_disk,
)
from tests.repository.s3_server import S3Server
from tests.repository.syncing import disks_of, generations, held, sync


@pytest.fixture
def source(tmp_path: Path) -> Repository:
    """Five points of web, whose disk changes, and one of db with two disks."""
    repository = Repository.create(tmp_path / "here", name="here", block_bytes=BLOCK)
    for number, content in enumerate(generations(5)):
        back_up(repository, content, moment=later(number * 60))
    back_up(repository, mixed_disk(40, 9), bytes(5 * BLOCK), moment=later(30), vm=facts(DB, "db"))
    return repository


def make(folder: Path, block_bytes: int = BLOCK) -> Repository:
    return Repository.create(folder / "there", name="there", block_bytes=block_bytes)


@pytest.mark.parametrize("block_bytes", [4096, 16384, 65536], ids=["same size", "larger", "much larger"])
def test_the_second_repository_is_complete_by_itself(source: Repository, tmp_path: Path, block_bytes: int):
    target = make(tmp_path, block_bytes)
    expected = held(source)

    done = sync(source, target)
    shutil.rmtree(tmp_path / "here")

    assert len(done.copied) == 6
    assert held(Repository.open(tmp_path / "there")) == expected


def test_blocks_are_cut_smaller_where_the_target_wants_that(tmp_path: Path):
    source = Repository.create(tmp_path / "here", block_bytes=65536)
    for number, content in enumerate(generations(3)):
        back_up(source, content, bytes(100), b"x" * 5000, moment=later(number))
    target = make(tmp_path, 4096)

    sync(source, target)

    assert held(target) == held(source)


def test_from_a_folder_into_a_bucket_and_back(source: Repository, tmp_path: Path, moto: S3Server, bucket: str):
    far = Repository.create(f"s3://{bucket}/vault?endpoint={moto.endpoint}", name="far", block_bytes=16384)
    near = make(tmp_path)

    sync(source, far)
    sync(far, near)

    assert held(far) == held(near) == held(source)
    assert {point.original_id for point in near.points()} == {point.id for point in source.points()}


def test_a_copy_says_all_that_its_point_says_and_of_which_it_is_one(source: Repository, tmp_path: Path):
    target = make(tmp_path, 16384)
    sync(source, target)

    for point in source.points():
        (copy,) = (each for each in target.points() if each.original_id == point.id)
        assert copy.manifest.origin is not None
        assert copy.manifest.origin.repository == source.info().id
        assert copy.id != point.id
        for name in ("vm", "moment", "finished", "method", "consistency", "consistency_note", "checkpoint", "writer"):
            assert getattr(copy.manifest, name) == getattr(point.manifest, name)
        assert [disk.read_reason for disk in copy.manifest.disks] == [d.read_reason for d in point.manifest.disks]
    assert all(point.manifest.origin is None for point in source.points())


def test_a_copied_disk_keeps_every_word_that_is_not_of_its_map(tmp_path: Path):
    source, target = Repository.create(tmp_path / "here", block_bytes=BLOCK), make(tmp_path, 16384)
    with source.writer("tests") as writer:
        words = {"source": "/images/web", "encrypted": True, "taken_over_from": "a" * 16, "contradicted": "b" * 16}
        commit(writer, (replace(write_disk(writer, "vda", mixed_disk(30)), **words),))
    sync(source, target)

    (copied,) = target.points()[0].manifest.disks

    assert {name: getattr(copied, name) for name in words} == words


def test_a_copy_of_a_copy_names_the_first_and_nothing_comes_back_twice(source: Repository, tmp_path: Path):
    second, third = make(tmp_path), Repository.create(tmp_path / "third", block_bytes=16384)
    sync(source, second)
    sync(second, third)

    assert sync(source, third).copied == ()
    assert sync(third, source).copied == ()
    assert {point.manifest.origin.repository for point in third.points() if point.manifest.origin} == {source.id}
    assert len(source.points()) == len(third.points()) == 6


def test_only_what_is_missing_is_copied(source: Repository, tmp_path: Path):
    target = make(tmp_path)
    sync(source, target)
    packs = packs_of(tmp_path / "there")

    again = sync(source, target)

    assert (again.copied, again.present) == ((), 6)
    assert packs_of(tmp_path / "there") == packs


@pytest.mark.parametrize("block_bytes", [4096, 16384], ids=["names alike", "cut anew"])
def test_of_a_next_point_only_what_changed_is_read_and_stored(source: Repository, tmp_path: Path, block_bytes: int):
    target = make(tmp_path, block_bytes)
    sync(source, target)
    content = bytearray(generations(5)[-1])
    content[100 * BLOCK : 101 * BLOCK] = b"new!" * (BLOCK // 4)
    back_up(source, bytes(content), moment=later(999))

    (copied,) = sync(source, target).copied

    assert disks_of(target, target.points(WEB)[0]) == [bytes(content)]
    # The changed block and its neighbours in the larger one; and the definition, a small file.
    assert copied.read_bytes <= block_bytes + 100
    assert copied.new_bytes < block_bytes + 3 * 256 * 32 + 1000


def test_contents_that_repeat_are_read_once(tmp_path: Path):
    source = Repository.create(tmp_path / "here", block_bytes=BLOCK)
    back_up(source, mixed_disk(1, 3, 0) * 0 + bytes(range(256)) * 16 * 200)
    (copied,) = sync(source, make(tmp_path, 16384)).copied

    assert copied.read_bytes <= 4 * BLOCK + 100


def test_points_may_be_chosen_by_vm_and_age(source: Repository, tmp_path: Path):
    target = make(tmp_path)

    sync(source, target, SyncRequest(vms=("web",), newest=2))
    assert [point.manifest.moment for point in target.points()] == [later(240), later(180)]

    sync(source, target, SyncRequest(vms=(DB,)))
    assert len(target.points()) == 3


def test_a_vm_that_is_not_there_is_named_with_the_one_that_was_meant(source: Repository, tmp_path: Path):
    with pytest.raises(NotFound, match="no recovery point of a VM wbe") as caught:
        sync(source, make(tmp_path), SyncRequest(vms=("wbe",)))
    assert "web" in caught.value.next_step


def test_the_newest_point_of_every_vm_comes_first(source: Repository, tmp_path: Path):
    plan = source.sync_to(make(tmp_path), SyncRequest(), "a test").plan()

    names = [(point.manifest.vm.name, point.manifest.moment) for point in plan.copies]
    assert names[:3] == [("web", later(240)), ("db", later(30)), ("web", later(180))]


@pytest.mark.parametrize("block_bytes", [4096, 16384], ids=["names alike", "cut anew"])
def test_a_plan_says_what_would_come_and_changes_nothing(source: Repository, tmp_path: Path, block_bytes: int):
    target = make(tmp_path, block_bytes)
    before = sorted(path for path in tmp_path.rglob("*") if path.is_file())

    plan = source.sync_to(target, SyncRequest(), "a test").plan(estimate=True)

    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == before
    assert (len(plan.copies), plan.present, plan.unreadable) == (6, 0, ())
    assert plan.data_bytes == sum(point.size_bytes for point in source.points())
    sync(source, target)
    stored = sum(path.stat().st_size for path in packs_of(tmp_path / "there"))
    assert plan.transfer_bytes is not None
    # Of larger blocks more have changed.
    assert plan.transfer_bytes == pytest.approx(stored, rel=0.25 if block_bytes == BLOCK else 0.5)
    assert source.sync_to(target, SyncRequest(), "a test").plan(estimate=True).transfer_bytes == 0


def test_a_repository_is_not_synced_with_itself(source: Repository, tmp_path: Path):
    with pytest.raises(Conflict, match="the same repository"):
        source.sync_to(Repository.open(tmp_path / "here"), SyncRequest(), "a test")


def test_what_is_read_back_is_as_it_was_sent(source: Repository, tmp_path: Path):
    target = make(tmp_path, 16384)

    sync(source, target, SyncRequest(verify=True))

    assert held(target) == held(source)


def test_a_point_without_a_copy_s_origin_is_stored_as_it_always_was(source: Repository, tmp_path: Path):
    from engine.repository.frame import FrameKind, decode_frame
    from engine.repository.manifest import point_key

    key = point_key(source.points()[0])

    assert b"origin" not in decode_frame(key, FrameKind.POINT, (tmp_path / "here" / key).read_bytes())
