"""A directory as storage: the conformance suite, and what is special about files."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import NoSpace
from engine.repository.directory_storage import DirectoryStorage
from engine.repository.errors import StorageFailed
from tests.repository.storage_conformance import StorageConformance

DIES_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from engine.repository.directory_storage import DirectoryStorage
new = DirectoryStorage(Path(sys.argv[1])).open_new()
new.write(b"half")
os.kill(os.getpid(), signal.SIGKILL)
"""

FILLS_UP = """
import resource, sys
from pathlib import Path
from engine.errors import NoSpace
from engine.repository.directory_storage import DirectoryStorage
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
storage = DirectoryStorage(Path(sys.argv[1]))
new = storage.open_new()
try:
    for _ in range(100):
        new.write(bytes(100_000))
except NoSpace as error:
    new.abandon()
    print(error)
"""


class TestDirectoryStorage(StorageConformance):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> DirectoryStorage:
        return DirectoryStorage(tmp_path)


def test_a_leftover_of_a_killed_writer_is_never_listed_and_is_cleared(tmp_path: Path):
    storage = DirectoryStorage(tmp_path)
    subprocess.run([sys.executable, "-c", DIES_WHILE_WRITING, str(tmp_path)], check=False)

    assert len(list(tmp_path.iterdir())) == 1
    assert list(storage.list("")) == []
    assert storage.clear_leftovers() == 1
    assert list(tmp_path.iterdir()) == []


def test_an_object_that_is_being_written_is_no_leftover(tmp_path: Path):
    storage = DirectoryStorage(tmp_path)
    new = storage.open_new()
    new.write(b"content")

    assert DirectoryStorage(tmp_path).clear_leftovers() == 0

    new.finish("packs/ab/abcd")
    assert storage.read("packs/ab/abcd") == b"content"


def test_files_and_folders_are_for_their_owner_only(tmp_path: Path):
    DirectoryStorage(tmp_path).create("packs/ab/abcd", b"content")

    assert (tmp_path / "packs/ab/abcd").stat().st_mode & 0o077 == 0
    assert (tmp_path / "packs").stat().st_mode & 0o077 == 0


def test_the_content_is_synced_before_it_gets_its_name_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "packs").mkdir()
    steps: list[str] = []
    fsync, link = os.fsync, os.link

    def noted_fsync(file: int) -> None:
        steps.append("fsync " + Path(os.readlink(f"/proc/self/fd/{file}")).name[:5])
        fsync(file)

    def noted_link(source: Path, target: Path) -> None:
        steps.append("link")
        link(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "link", noted_link)
    DirectoryStorage(tmp_path).create("packs/abcd", b"content")

    assert steps == ["fsync .new-", "link", "fsync packs"]


def test_a_write_that_is_cut_short_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    writev = os.writev
    monkeypatch.setattr(os, "writev", lambda file, pieces: writev(file, [b"".join(pieces)[:5]]))
    storage = DirectoryStorage(tmp_path)
    new = storage.open_new()
    new.write(b"012", b"345", b"678", b"9")
    new.finish("packs/ab/abcd")

    assert storage.read("packs/ab/abcd") == b"0123456789"


def test_a_file_limit_is_told_as_no_space_and_leaves_nothing(tmp_path: Path):
    done = subprocess.run([sys.executable, "-c", FILLS_UP, str(tmp_path)], check=True, capture_output=True, text=True)

    assert "no space left" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "kind", "advice"),
    [
        (errno.ENOSPC, NoSpace, "df -h"),
        (errno.EDQUOT, NoSpace, "df -h"),
        (errno.EROFS, StorageFailed, "mount it writable"),
        (errno.EACCES, StorageFailed, "ls -ld"),
        (errno.EIO, StorageFailed, "smartctl"),
        (errno.ESTALE, StorageFailed, "dmesg"),
    ],
)
@pytest.mark.parametrize("call", ["writev", "fsync", "link", "open"])
def test_a_refusal_of_the_system_becomes_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, kind: type[Exception], advice: str
):
    if call == "link" and number == errno.EACCES:
        advice = "permissions"
    real = getattr(os, call)

    def refuse(*arguments: object, **options: object) -> object:
        if call == "open" and ".new-" not in str(arguments[0]):
            return real(*arguments, **options)
        raise OSError(number, os.strerror(number))

    storage = DirectoryStorage(tmp_path)
    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(kind) as caught:
        storage.create("packs/ab/abcd", b"content")
    monkeypatch.undo()

    assert advice in caught.value.next_step
    assert str(tmp_path) in str(caught.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_object_whose_name_cannot_be_made_durable_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fsync = os.fsync

    def broken(file: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{file}"):
            raise OSError(errno.EIO, "Input/output error")
        fsync(file)

    (tmp_path / "packs").mkdir()
    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(StorageFailed):
        DirectoryStorage(tmp_path).create("packs/abcd", b"content")

    assert list(tmp_path.rglob("*d")) == []
    assert list(tmp_path.rglob(".new-*")) == []


def test_an_object_that_is_deleted_while_it_is_listed_is_passed_over(tmp_path: Path):
    storage = DirectoryStorage(tmp_path)
    for name in ("a", "b", "c"):
        storage.create(f"leases/{name}", b"content")
    listing = storage.list("leases/")
    first = next(listing)
    storage.delete("leases/b")

    assert [first.key, *(entry.key for entry in listing)] == ["leases/a", "leases/c"]
