"""Images that QEMU writes as for a guest: what is taken over from a dirty bitmap is the disk, or is not believed."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import nbd
from engine.backup import changed_blocks
from engine.backup.changed_blocks import BitmapDistrusted, copy_changed_blocks, last_unchanged_data_block
from engine.backup.disk_copy import copy_disk
from engine.hosts import bitmap_at_rest, image
from engine.hosts.reach import HERE
from engine.repository import DiskRecord, Point, Repository
from tests.repository.building import commit, later, restored

KIB = 1024
MIB = 1024 * KIB
BLOCK = 16 * KIB
SIZE = 6 * MIB + 3584


class Image:
    """A qcow2 image, and the recovery points that are made of it."""

    def __init__(self, folder: Path, size_bytes: int = SIZE, granularity_bytes: int = 64 * KIB) -> None:
        self.folder = folder
        self.path = folder / "disk.qcow2"
        self.repository = Repository.create(folder / "vault", block_bytes=BLOCK)
        self._granularity_bytes = granularity_bytes
        self._points: list[Point] = []
        self._img("create", "-q", "-f", "qcow2", str(self.path), str(size_bytes))

    @property
    def size_bytes(self) -> int:
        return image.info(self.path, "qcow2").size_bytes

    @property
    def bitmap(self) -> str:
        return f"point-{len(self._points)}"

    def io(self, *commands: str) -> None:
        """Do what a guest does: `write -P 1 0 64k`, `write -zu ...`, `discard ...`."""
        arguments = [part for command in commands for part in ("-c", command)]
        subprocess.run(
            ["qemu-io", "-f", "qcow2", "-d", "unmap", *arguments, str(self.path)], check=True, stdout=subprocess.DEVNULL
        )

    def resize(self, size_bytes: int) -> None:
        self._img("resize", "-q", "--shrink", str(self.path), str(size_bytes))

    def mark(self) -> None:
        """A dirty bitmap counts from now on, as from a checkpoint."""
        for old in image.info(self.path, "qcow2").bitmaps:
            self._img("bitmap", "--remove", str(self.path), old.name)
        self._img("bitmap", "--add", "--enable", "-g", str(self._granularity_bytes), str(self.path), self.bitmap)

    def back_up(self) -> Point:
        """A point of what was written since the last one; the first is read whole."""
        parent = self._points[-1] if self._points else None
        with (
            image.serve(self.path, "qcow2", self.folder / "s", bitmap=self.bitmap if parent else None) as address,
            self.repository.writer("a test") as writer,
            self.repository.reader() as reader,
        ):
            told = nbd.dirty_bitmap_context(self.bitmap)
            with nbd.Client.connect(address, "", contexts=(nbd.BASE_ALLOCATION, *([told] if parent else []))) as client:
                if parent is None:
                    disk = writer.disk("vda", client.size_bytes, "qcow2")
                    copy_disk(client, disk, BLOCK, ignore, nothing)
                else:
                    writer.lean_on(parent)
                    record = parent.manifest.disks[0]
                    disk = writer.disk("vda", client.size_bytes, "qcow2", parent=record)
                    copy_changed_blocks(client, told, disk, (reader, record), BLOCK, ignore, nothing)
            made = commit(writer, (disk.finish("a test"),), later(len(self._points)))
        self._points.append(made)
        return made

    def last_unchanged(self, record: DiskRecord) -> int | None:
        told = nbd.dirty_bitmap_context(self.bitmap)
        with (
            image.serve(self.path, "qcow2", self.folder / "s", bitmap=self.bitmap) as address,
            nbd.Client.connect(address, "", contexts=(told,)) as client,
            self.repository.reader() as reader,
        ):
            return last_unchanged_data_block(client, told, (reader, record), BLOCK)

    def content(self) -> bytes:
        raw = self.folder / "truth"
        self._img("convert", "-f", "qcow2", "-O", "raw", str(self.path), str(raw))
        return raw.read_bytes()

    def kept(self, point: Point) -> bytes:
        return restored(self.repository, point.manifest.disks[0])

    def _img(self, *arguments: str) -> None:
        subprocess.run(["qemu-img", *arguments], check=True)


def ignore(_done_bytes: int) -> None:
    return


def nothing(_read_bytes: int) -> None:
    return


@pytest.fixture
def no_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found then is found every time."""
    monkeypatch.setattr(changed_blocks, "SAMPLE_AT_LEAST", 0)


@pytest.fixture
def disk(tmp_path: Path) -> Image:
    return Image(tmp_path)


def test_dirty_and_zero_is_written_as_zero_however_the_guest_made_it_so(disk: Image) -> None:
    disk.io("write -P 7 0 4M")
    disk.back_up()
    disk.mark()
    disk.io("write -P 0 0 64k", "write -z 1M 64k", "write -zu 2M 64k", "discard 3M 64k")

    point = disk.back_up()

    kept = disk.kept(point)
    assert kept == disk.content()
    assert [kept[at * MIB : at * MIB + 64 * KIB].strip(b"\0") for at in range(4)] == [b""] * 4


@pytest.mark.parametrize("written", [0, 64 * KIB], ids=["empty", "with data in it"])
@pytest.mark.parametrize("size_bytes", [SIZE, 6 * MIB], ids=["short last block", "whole last block"])
def test_what_a_disk_has_grown_by_is_read_although_qemu_calls_it_clean(
    tmp_path: Path, size_bytes: int, written: int
) -> None:
    disk = Image(tmp_path, size_bytes)
    disk.io(f"write -P 7 0 {size_bytes}")
    disk.back_up()
    disk.mark()
    disk.resize(9 * MIB)
    if written:
        disk.io(f"write -P 8 8M {written}")

    point = disk.back_up()

    assert disk.kept(point) == disk.content()


def test_a_disk_cut_off_and_made_as_large_as_before_is_found_out(disk: Image, no_sample: None) -> None:
    disk.io("write -P 7 0 4M")
    disk.back_up()
    disk.mark()
    disk.resize(4 * MIB - 64 * KIB)
    disk.resize(SIZE)

    with pytest.raises(BitmapDistrusted, match=f"The block at {4 * MIB - BLOCK} of vda has changed"):
        disk.back_up()


def test_a_disk_cut_off_behind_its_data_is_still_believed(disk: Image) -> None:
    disk.io("write -P 7 0 4M")
    disk.back_up()
    disk.mark()
    disk.resize(4 * MIB)
    disk.resize(SIZE)

    assert disk.kept(disk.back_up()) == disk.content()


def test_the_last_unchanged_data_is_found_behind_long_stretches_of_changes_and_holes(tmp_path: Path) -> None:
    disk = Image(tmp_path, 256 * MIB)
    disk.io("write -P 7 1M 64k", "write -P 7 100M 64k", "write -P 7 200M 64k")
    record = disk.back_up().manifest.disks[0]
    disk.mark()

    assert disk.last_unchanged(record) == (200 * MIB + 64 * KIB) // BLOCK - 1
    disk.io("write -P 8 90M 150M")
    assert disk.last_unchanged(record) == (1 * MIB + 64 * KIB) // BLOCK - 1
    disk.io("discard 0 10M")
    assert disk.last_unchanged(record) is None


def something(chance: random.Random, size_bytes: int) -> str:
    """One request of a guest."""
    sectors = size_bytes // 512
    first = chance.randrange(sectors)
    count = min(chance.choice((1, 8, 100, 1000)), sectors - first)
    kind = chance.choice((f"write -P {chance.randrange(1, 255)}", "write -P 0", "write -z", "write -zu", "discard"))
    return f"{kind} {first * 512} {count * 512}"


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1 << 30))
def test_a_chain_is_the_disk_at_every_point_or_is_distrusted(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    chance = random.Random(seed)
    folder = tmp_path_factory.mktemp("chain")
    disk = Image(folder, SIZE + 512 * chance.randrange(100), chance.choice((64 * KIB, MIB)))
    disk.io(*(something(chance, disk.size_bytes) for _ in range(6)))
    disk.back_up()

    for _ in range(5):
        disk.mark()
        cut = False
        for doing in chance.choices(("requests", "grow", "cut"), (6, 2, 1), k=3):
            size_bytes = disk.size_bytes
            if doing == "grow":
                disk.resize(size_bytes + 512 * chance.randrange(1, 2000))
            elif doing == "cut":
                cut = True
                disk.resize(512 * chance.randrange(1, size_bytes // 512))
                disk.resize(size_bytes)
            disk.io(*(something(chance, disk.size_bytes) for _ in range(chance.randrange(5))))
        try:
            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(changed_blocks, "SAMPLE_AT_LEAST", 0)
                point = disk.back_up()
        except BitmapDistrusted:
            assert cut
            break
        assert disk.kept(point) == disk.content()

    shutil.rmtree(folder)


class TestAnImageAtRest:
    def test_a_bitmap_that_counts_is_believed(self, disk: Image) -> None:
        disk.mark()

        assert bitmap_at_rest.why_lost(disk.path, "qcow2", "point-0", files=HERE.files) == ""

    def test_another_image_in_its_place_has_no_such_bitmap(self, disk: Image) -> None:
        disk.mark()
        other = disk.folder / "other.qcow2"
        subprocess.run(["qemu-img", "convert", "-O", "qcow2", str(disk.path), str(other)], check=True)
        other.replace(disk.path)

        assert bitmap_at_rest.why_lost(disk.path, "qcow2", "point-0", files=HERE.files) == "it is not in the image"

    def test_a_tool_that_knows_nothing_of_bitmaps_has_ended_them(self, disk: Image) -> None:
        disk.mark()
        with disk.path.open("r+b") as file:
            file.seek(88)  # autoclear_features (qcow2.txt, "Header"): what a writer does not know it must clear
            file.write(bytes(8))

        assert bitmap_at_rest.why_lost(disk.path, "qcow2", "point-0", files=HERE.files) == "it is not in the image"

    def test_a_layer_on_top_counts_only_what_went_to_it(self, disk: Image) -> None:
        disk.mark()
        disk.io("write -P 7 0 64k")
        top = disk.folder / "top.qcow2"
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-b", str(disk.path), "-F", "qcow2", str(top)], check=True
        )
        subprocess.run(["qemu-img", "bitmap", "--add", str(top), "point-0"], check=True)

        lost = bitmap_at_rest.why_lost(top, "qcow2", "point-0", files=HERE.files)

        assert lost.startswith("a snapshot lies on top")

    def test_a_layer_over_a_template_is_believed(self, disk: Image) -> None:
        top = disk.folder / "top.qcow2"
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "disk.qcow2", "-F", "qcow2", str(top)], check=True
        )
        subprocess.run(["qemu-img", "bitmap", "--add", str(top), "point-0"], check=True)

        assert bitmap_at_rest.why_lost(top, "qcow2", "point-0", files=HERE.files) == ""
        assert bitmap_at_rest.why_lost(disk.path, "qcow2", "point-0", files=HERE.files) == "it is not in the image"

    def test_an_internal_snapshot_cannot_be_gone_back_to_while_a_bitmap_counts(self, disk: Image) -> None:
        subprocess.run(["qemu-img", "snapshot", "-c", "before", str(disk.path)], check=True)
        disk.mark()

        back = subprocess.run(
            ["qemu-img", "snapshot", "-a", "before", str(disk.path)], capture_output=True, text=True, check=False
        )

        assert back.returncode != 0
        assert "active dirty bitmaps" in back.stderr
