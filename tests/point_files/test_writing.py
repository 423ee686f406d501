"""Files of a point written to this machine: as they were, and never outside the place that was named."""

from __future__ import annotations

import io
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.errors import Conflict, NewhopeError, NotFound
from engine.file_entry import FileKind, shown
from engine.point_files import PointFiles, Written, below, open_files, plain_path, write
from engine.repository import (
    Consistency,
    GuestContentWriter,
    GuestEntry,
    GuestFiles,
    Repository,
    RepositoryDamaged,
)
from tests.repository.building import facts, later
from tests.repository.damaging import lose_block

BLOB = os.urandom(300_000)
ENTRIES = (
    (GuestEntry(b"etc", FileKind.FOLDER, mode=0o750, mtime_ns=10**18), b""),
    (GuestEntry(b"etc/blob", FileKind.FILE, mode=0o4755, size_bytes=len(BLOB), mtime_ns=10**18 + 7), BLOB),
    (GuestEntry(b"etc/zeroes", FileKind.FILE, mode=0o600, size_bytes=5_000_000), bytes(5_000_000)),
    (GuestEntry(b"etc/empty", FileKind.FILE, mode=0o644), b""),
    (GuestEntry(b"etc/link", FileKind.SYMLINK, target=b"/etc/shadow"), b""),
    (GuestEntry(b"etc/twin", FileKind.HARD_LINK, target=b"etc/blob"), b""),
    (GuestEntry(b"etc/\xff\x1b[31m", FileKind.FILE, size_bytes=3), b"odd"),
    (GuestEntry(b"etc/null", FileKind.CHARACTER_DEVICE, device=(1, 3)), b""),
    (GuestEntry(b"data/dump", FileKind.FILE, mode=0o640, size_bytes=4), b"dump"),
)


class Kept:
    """A repository with one point of kind guest."""

    def __init__(self, folder: Path, entries: tuple[tuple[GuestEntry, bytes], ...] = ENTRIES) -> None:
        self.repository = Repository.create(folder, name="vault", block_bytes=65536)
        with self.repository.writer("test") as writer:
            content = GuestContentWriter(writer)
            for entry, data in entries:
                content.add(entry, io.BytesIO(data).read)
            disk, listing = content.finish("all")
            self.point = writer.commit(
                vm=facts(),
                moment=later(0),
                method="guest",
                consistency=Consistency.FILES,
                consistency_note="read while it ran",
                disks=(disk,),
                files=(listing,),
                writer="test",
                guest_files=GuestFiles("etc", ("/etc", "/data/dump"), len(entries), 1, "by a test"),
            )

    @contextmanager
    def files(self, *, salvage: bool = False) -> Generator[PointFiles]:
        with open_files(self.repository, self.point, salvage=salvage) as opened:
            yield opened.on("")

    def get(self, path: str, place: Path, *, overwrite: bool = False, salvage: bool = False) -> Written:
        with self.files(salvage=salvage) as files:
            return write(files, plain_path(path), place, overwrite=overwrite, salvage=salvage)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path / "vault")


def test_the_tree_is_listed_with_folders_above_what_was_asked_for(kept: Kept):
    with kept.files() as files:
        assert [entry.path for entry in files.children(b"").entries] == [b"data", b"etc"]
        assert [entry.path for entry in below(files, files.stat(b"data"))] == [b"data", b"data/dump"]
        assert files.stat(b"etc/twin").kind is FileKind.HARD_LINK
        assert b"".join(piece.data for piece in files.read(files.stat(b"etc/twin"))) == BLOB
        with pytest.raises(NotFound, match="no /etc/nothing"):
            files.stat(b"etc/nothing")


def test_a_folder_comes_as_it_was_but_without_what_could_hurt_here(kept: Kept, tmp_path: Path):
    got = kept.get("/etc", tmp_path / "out")

    out = tmp_path / "out"
    assert (out / "blob").read_bytes() == BLOB
    assert (out / "blob").stat().st_mode & 0o7777 == 0o755
    assert (out / "blob").stat().st_mtime_ns == 10**18 + 7
    assert (out / "twin").samefile(out / "blob")
    assert (out / "zeroes").stat().st_size == 5_000_000
    assert (out / "zeroes").stat().st_blocks * 512 < 1_000_000
    assert (out / "link").is_symlink()
    assert os.readlink(out / "link") == "/etc/shadow"
    assert (out / os.fsdecode(b"\xff\x1b[31m")).read_bytes() == b"odd"
    assert out.stat().st_mode & 0o777 == 0o750
    assert out.stat().st_mtime_ns == 10**18
    assert [(each.path, each.reason) for each in got.left_out] == [("/etc/null", "a device, FIFO or socket")]
    assert (got.files, got.folders, got.symlinks) == (5, 1, 1)


def test_the_pace_is_asked_for_what_is_written_and_not_for_holes(kept: Kept, tmp_path: Path):
    asked: list[int] = []

    with kept.files() as files:
        done = write(files, b"etc", tmp_path / "etc", pace=asked.append)

    assert sum(asked) == len(BLOB) + len(b"odd")
    assert done.size_bytes == sum(asked) + 5_000_000
    assert 0 in asked, "a pause holds up holes too"


def test_one_file_goes_into_a_folder_that_is_there_or_under_a_name(kept: Kept, tmp_path: Path):
    (tmp_path / "there").mkdir()

    assert kept.get("/data/dump", tmp_path / "there").destination == str(tmp_path / "there" / "dump")
    assert kept.get("data/dump/", tmp_path / "mine").destination == str(tmp_path / "mine")
    assert (tmp_path / "there" / "dump").read_bytes() == (tmp_path / "mine").read_bytes() == b"dump"


def test_what_is_there_is_replaced_only_when_that_is_said(kept: Kept, tmp_path: Path):
    mine = tmp_path / "mine"
    mine.write_text("precious")

    with pytest.raises(Conflict, match="is there already"):
        kept.get("/data/dump", mine)
    assert mine.read_text() == "precious"
    kept.get("/data/dump", mine, overwrite=True)
    assert mine.read_bytes() == b"dump"


def test_overwriting_replaces_a_link_and_never_writes_through_it(kept: Kept, tmp_path: Path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "blob").symlink_to(tmp_path / "precious")
    (tmp_path / "real").mkdir()

    kept.get("/etc/blob", tmp_path / "out", overwrite=True)

    assert (tmp_path / "precious").read_text() == "precious"
    assert (tmp_path / "out" / "blob").read_bytes() == BLOB


def test_a_link_of_the_guest_is_never_entered(tmp_path: Path):
    entries = (
        (GuestEntry(b"etc/a", FileKind.SYMLINK, target=os.fsencode(tmp_path)), b""),
        (GuestEntry(b"etc/a/escaped", FileKind.FILE, size_bytes=3), b"out"),
    )
    hostile = Kept(tmp_path / "vault", entries)
    (tmp_path / "place" / "etc").mkdir(parents=True)
    (tmp_path / "place" / "etc" / "a").symlink_to(tmp_path)

    hostile.get("/etc", tmp_path / "out")
    with pytest.raises(NewhopeError):
        hostile.get("/etc/a/escaped", tmp_path / "place" / "etc" / "a" / "x" / "y")

    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize("name", [b"../out", b"etc/../../out", b"/etc/out", b"etc//out", b"etc/./out", b"etc/o\0ut"])
def test_a_listing_with_a_name_that_leads_out_is_refused(tmp_path: Path, name: bytes):
    hostile = Kept(tmp_path / "vault", ((GuestEntry(name, FileKind.FILE, size_bytes=3), b"out"),))

    with pytest.raises(RepositoryDamaged, match="leads somewhere else"):
        hostile.get("/", tmp_path / "place")


def test_another_name_of_what_is_not_kept_is_told(tmp_path: Path):
    lonely = Kept(tmp_path / "vault", ((GuestEntry(b"a", FileKind.HARD_LINK, target=b"gone"), b""),))

    with pytest.raises(NotFound, match="not in the recovery point"):
        lonely.get("/a", tmp_path / "a")


def test_a_name_that_a_terminal_could_obey_is_escaped():
    assert shown(b"a\x1b[31m\n\xff") == "a\\x1b[31m\\n\\xff"


def test_a_place_that_cannot_be_written_is_told_without_a_traceback(kept: Kept, tmp_path: Path):
    with pytest.raises(NewhopeError, match="no folder"):
        kept.get("/data/dump", tmp_path / "no" / "such" / "folder")


def test_a_hard_link_comes_with_its_content_whichever_name_comes_first(tmp_path: Path):
    entries = (
        (GuestEntry(b"d/a", FileKind.HARD_LINK, target=b"d/b"), b""),
        (GuestEntry(b"d/b", FileKind.FILE, size_bytes=3), b"one"),
        (GuestEntry(b"d/c", FileKind.HARD_LINK, target=b"d/b"), b""),
    )
    kept = Kept(tmp_path / "vault", entries)

    kept.get("/d", tmp_path / "out")
    kept.get("/d/c", tmp_path / "alone")

    assert len({(tmp_path / "out" / name).stat().st_ino for name in "abc"}) == 1
    assert (tmp_path / "out" / "c").read_bytes() == (tmp_path / "alone").read_bytes() == b"one"


def test_what_this_machine_cannot_have_is_left_out_and_told(tmp_path: Path):
    entries = (
        (GuestEntry(b"d/" + b"n" * 300, FileKind.FILE, size_bytes=3), b"one"),
        (GuestEntry(b"d/b", FileKind.FILE, size_bytes=3), b"two"),
        (GuestEntry(b"d/l", FileKind.SYMLINK, target=b"t" * 4096), b""),
    )

    got = Kept(tmp_path / "vault", entries).get("/d", tmp_path / "out")

    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b"]
    assert [each.path for each in got.left_out] == ["/d/l", "/d/" + "n" * 300]


def test_a_damaged_file_of_a_guest_is_salvaged_with_a_list_of_what_is_lost(tmp_path: Path):
    blob = os.urandom(300_000)
    entries = (
        (GuestEntry(b"d/a", FileKind.FILE, size_bytes=len(blob)), blob),
        (GuestEntry(b"d/b", FileKind.FILE, size_bytes=3), b"two"),
    )
    kept = Kept(tmp_path / "vault", entries)
    lose_block(tmp_path / "vault", kept.repository, blob[100_000:100_100])

    with pytest.raises(RepositoryDamaged):
        kept.get("/d", tmp_path / "stopped")
    got = kept.get("/d", tmp_path / "out", salvage=True)

    assert not list((tmp_path / "stopped").iterdir())
    [lost] = got.lost
    assert (lost.path, lost.offset, lost.length) == ("/d/a", 65536, 65536)
    assert (tmp_path / "out" / "a").read_bytes() == blob[:65536] + bytes(65536) + blob[2 * 65536 :]
    assert (tmp_path / "out" / "b").read_bytes() == b"two"
