"""One backup into a repository that holds points already: what fault tests interrupt, and what must hold afterwards."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

from engine.repository import Passphrase, Repository, index
from tests.repository.building import BLOCK, back_up, later, mixed_disk, restored, unlock

NEW_POINT = 100


@contextmanager
def fast_folder() -> Iterator[Path]:
    """A folder in memory, where syncing costs nothing: these tests run hundreds of backups."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None, prefix="nh-") as folder:
        yield Path(folder)


class Scenario:
    """Two points are there; a third, which shares half of its blocks with them, is to be made."""

    def __init__(self, folder: Path, passphrase: Passphrase | None = None) -> None:
        self.template = folder / "template"
        self.folder = folder / "vault"
        old = mixed_disk(90, 1)
        self.contents = {
            later(0): (old, bytes(3000)),
            later(10): (old[: 20 * BLOCK] + random.Random(5).randbytes(30 * BLOCK), b"x"),
            later(NEW_POINT): (old[: 60 * BLOCK] + random.Random(6).randbytes(40 * BLOCK) + b"end", mixed_disk(9, 3)),
        }
        repository = Repository.create(self.template, block_bytes=BLOCK, passphrase=passphrase)
        for moment in (later(0), later(10)):
            back_up(repository, *self.contents[moment], moment=moment)

    def begin(self) -> None:
        """Put the repository back to where it holds two points."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.template, self.folder)

    def run(self) -> None:
        """Make the third point; index files are merged and removed in it that would wait for days otherwise."""
        with (
            patch.object(index, "MERGE_AT", 3),
            patch.object(index, "MERGE_AT_LEAST", 2),
            patch.object(index, "REMOVE_AFTER_US", 0),
        ):
            back_up(
                Repository.open(self.folder, unlock=unlock), *self.contents[later(NEW_POINT)], moment=later(NEW_POINT)
            )

    def check(self) -> bool:
        """Every listed point restores byte for byte and the first two are listed; whether the third is."""
        repository = Repository.open(self.folder, unlock=unlock)
        points = repository.points()
        assert repository.damaged == ()
        moments = {point.manifest.moment for point in points}
        assert moments >= {later(0), later(10)}
        for point in points:
            for record, content in zip(point.manifest.disks, self.contents[point.manifest.moment], strict=True):
                assert restored(repository, record) == content
            with repository.reader() as reader:
                assert [reader.file(file) for file in point.manifest.files] == [b"<domain/>"]
        return later(NEW_POINT) in moments

    def check_next_run(self, *, leases_may_stay: bool = False) -> None:
        """The next run succeeds and leaves nothing of the one that was interrupted."""
        repository = Repository.open(self.folder, unlock=unlock)
        content = self.contents[later(NEW_POINT)]
        point = back_up(repository, *content, moment=later(NEW_POINT + 1))
        assert [restored(repository, record) for record in point.manifest.disks] == list(content)
        assert list(self.folder.glob(".new-*")) == []
        assert leases_may_stay or list(self.folder.glob("leases/*")) == []
        assert leases_may_stay or repository.info().writers == 0
