"""A sync that meets damage, other syncs, a collection, or the end of its process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec import structs

from engine.repository import ArrivalDamaged, Point, Repository, SyncLimits, SyncRequest, WriterLimits
from engine.repository.directory_storage import DirectoryStorage, NewFile
from engine.repository.manifest import point_key
from engine.repository.pack import read_pack_index
from tests.repository.building import BLOCK, SMALL, WEB, back_up, later, mixed_disk, packs_of
from tests.repository.syncing import LIMITS, disks_of, generations, held, sync


@pytest.fixture
def source(tmp_path: Path) -> Repository:
    """Three points, of which each has blocks of its own."""
    repository = Repository.create(tmp_path / "here", name="here", block_bytes=BLOCK)
    for number, content in enumerate(generations(3)):
        back_up(repository, content, moment=later(number))
    return repository


@pytest.fixture
def target(tmp_path: Path) -> Repository:
    return Repository.create(tmp_path / "there", name="there", block_bytes=16384)


def spoil_last_pack(folder: Path, before: list[Path]) -> None:
    """Flip a bit in a block of a pack that was not there before."""
    pack = max(set(packs_of(folder)) - set(before), key=lambda path: path.stat().st_size)
    content = bytearray(pack.read_bytes())
    content[200] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(content)


def test_a_point_that_is_damaged_at_the_source_is_refused_by_name(
    source: Repository, target: Repository, tmp_path: Path
):
    before = packs_of(tmp_path / "here")
    bad = back_up(source, mixed_disk(50, 77), moment=later(50))
    spoil_last_pack(tmp_path / "here", before)
    good = back_up(source, b"fine" * 1000, moment=later(60))

    done = sync(Repository.open(tmp_path / "here"), target)

    ((name, point_id, why),) = (structs.astuple(each) for each in done.refused)
    assert (name, point_id) == ("web", bad.id)
    assert f"web@{bad.id}" in why
    assert {point.original_id for point in target.points()} == {point.id for point in source.points()} - {bad.id}
    assert target.points()[0].original_id == good.id
    assert held(target) == held_but(source, bad)


def held_but(repository: Repository, left_out: Point) -> dict[object, list[bytes]]:
    return {
        (point.manifest.vm.uuid, point.manifest.moment): [*disks_of(repository, point), b"<domain/>"]
        for point in repository.points()
        if point.id != left_out.id
    }


def test_a_point_that_is_mended_is_copied_by_the_next_run(source: Repository, target: Repository, tmp_path: Path):
    before = packs_of(tmp_path / "here")
    content = mixed_disk(50, 77)
    back_up(source, content, moment=later(50))
    kept = {path: path.read_bytes() for path in packs_of(tmp_path / "here")}
    spoil_last_pack(tmp_path / "here", before)
    assert len(sync(Repository.open(tmp_path / "here"), target).refused) == 1
    for path, mended in kept.items():
        path.write_bytes(mended)

    assert sync(Repository.open(tmp_path / "here"), target).refused == ()
    assert disks_of(target, target.points()[0]) == [content]


def test_what_did_not_arrive_as_it_was_sent_is_not_listed(
    source: Repository, target: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    finish = NewFile.finish

    def spoil(self: NewFile, key: str) -> None:
        finish(self, key)
        if "there" in str(self._storage.folder) and key.startswith("packs/"):
            spoil_last_pack(tmp_path / "there", [path for path in packs_of(tmp_path / "there") if key not in str(path)])

    monkeypatch.setattr(NewFile, "finish", spoil)

    with pytest.raises(ArrivalDamaged, match="did not arrive whole"):
        sync(source, target, SyncRequest(verify=True))
    assert target.points() == ()


def test_two_syncs_at_once_make_every_copy_once(source: Repository, target: Repository, tmp_path: Path):
    works = [
        Repository.open(tmp_path / "here").sync_to(
            Repository.open(tmp_path / "there"), SyncRequest(streams=2), f"sync {number}", limits=LIMITS
        )
        for number in range(3)
    ]
    plans = [work.plan() for work in works]
    together = threading.Barrier(len(works))
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            together.wait()
            works[number].run(plans[number])
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert len(target.points()) == 3
    assert held(target) == held(source)
    assert list((tmp_path / "there/pending").glob("*")) == []


class At:
    """Does something when a sync has come to its n-th point, or in the middle of it."""

    def __init__(self, number: int, what: Callable[[], None], *, after_bytes: int = 0) -> None:
        self.number = number
        self.what = what
        self.after_bytes = after_bytes

    @contextmanager
    def point(self, point: Point) -> Generator[Callable[[int], None]]:
        done = 0
        self.number -= 1

        def advance(count: int) -> None:
            nonlocal done
            done += count
            if self.number == 0 and done >= self.after_bytes:
                self.number = -1
                self.what()

        yield advance


def test_a_collection_at_the_target_beside_a_sync_takes_nothing_away(
    source: Repository, target: Repository, tmp_path: Path
):
    # What nobody needs yet: blocks of the source's points, left by a point that was dropped.
    left = back_up(target, generations(3)[1], moment=later(-9))
    back_up(target, b"newer", moment=later(-8))
    (tmp_path / "there" / point_key(left)).unlink()
    collected: list[int] = []

    def collect() -> None:
        with Repository.open(tmp_path / "there").collector("a test", limits=SMALL) as collector:
            collected.append(collector.collect().deleted_packs)

    for number in (1, 2, 3):
        work = source.sync_to(target, SyncRequest(newest=number), "a test", limits=LIMITS)
        work.run(work.plan(), At(1, collect, after_bytes=20 * BLOCK))
        collect()

    assert len(collected) == 6
    assert held(target).items() >= held(source).items()


def test_a_point_that_is_dropped_at_the_source_meanwhile_is_passed_over(
    source: Repository, target: Repository, tmp_path: Path
):
    oldest = source.points()[-1]
    work = source.sync_to(target, SyncRequest(), "a test", limits=LIMITS)

    done = work.run(work.plan(), At(1, (tmp_path / "here" / point_key(oldest)).unlink))

    assert (len(done.copied), done.gone, done.refused) == (2, 1, ())


class Stopped(Exception):
    """Somebody stopped it."""


@pytest.mark.parametrize("block_bytes", [4096, 16384], ids=["names alike", "cut anew"])
def test_what_a_stopped_run_stored_is_not_stored_again(source: Repository, tmp_path: Path, block_bytes: int):
    content = mixed_disk(600, 5)
    back_up(source, content, moment=later(99))
    target = Repository.create(tmp_path / "there", block_bytes=block_bytes)
    # Packs of 16 blocks, and no index file before the end: as a killed writer leaves them.
    limits = SyncLimits(WriterLimits(pack_bytes=16 * BLOCK, index_every_blocks=10**9))

    def stop() -> None:
        raise Stopped

    work = source.sync_to(target, SyncRequest(newest=1), "a test", limits=limits)
    with pytest.raises(Stopped):
        work.run(work.plan(), At(1, stop, after_bytes=300 * BLOCK))
    for index in (tmp_path / "there/index").glob("*"):
        index.unlink()
    stored = {path.name for path in packs_of(tmp_path / "there")}
    assert target.points() == ()
    assert len(stored) > 4

    sync(source, Repository.open(tmp_path / "there"), SyncRequest(newest=1))

    again = Repository.open(tmp_path / "there")
    assert disks_of(again, again.points(WEB)[0]) == [content]
    assert stored <= {path.name for path in packs_of(tmp_path / "there")}
    storage = DirectoryStorage(tmp_path / "there")
    names = [
        entry.name
        for pack in packs_of(tmp_path / "there")
        for entry in read_pack_index(storage, pack.relative_to(storage.folder).as_posix())
    ]
    assert len(names) == len(set(names))


def test_packs_are_sent_several_at_once(source: Repository, target: Repository, monkeypatch: pytest.MonkeyPatch):
    together = threading.Barrier(2)
    finish = NewFile.finish

    def meet(self: NewFile, key: str) -> None:
        if key.startswith("packs/") and not met:
            together.wait(60)
            met.append(key)
        finish(self, key)

    met: list[str] = []
    monkeypatch.setattr(NewFile, "finish", meet)

    sync(source, target, SyncRequest(streams=4))

    assert len(met) == 2
    assert held(target) == held(source)
