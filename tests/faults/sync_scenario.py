"""A sync of several points: what fault tests interrupt, and what must hold in the target without the source."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.repository import Repository, SyncRequest, WriterLimits
from tests.repository.building import BLOCK, DB, back_up, facts, later, mixed_disk
from tests.repository.syncing import generations, held, soon, sync

SMALL_PACKS = WriterLimits(pack_bytes=8 * BLOCK, index_every_blocks=16)
OWN = later(-60)


class SyncScenario:
    """The target holds a point of its own and the source's oldest; two more, one of them protected, are to come."""

    def __init__(self, folder: Path, block_bytes: int) -> None:
        self.source = folder / "source"
        self.template = folder / "template"
        self.folder = folder / "vault"
        self._away = folder / "away"
        first, *others = generations(3, 40, each=6)
        source = Repository.create(self.source, name="source", block_bytes=BLOCK)
        target = Repository.create(self.template, name="vault", block_bytes=block_bytes)
        back_up(target, mixed_disk(9, 7), moment=OWN, vm=facts(DB, "db"), limits=SMALL_PACKS)
        back_up(source, first, moment=later(0), limits=SMALL_PACKS)
        sync(source, target)
        self.first = held(target)
        for number, content in enumerate(others, 1):
            back_up(source, content, bytes(3000), moment=later(number), limits=SMALL_PACKS)
        source.protect(source.points()[0], until=soon(24), why="audit", by="bo")
        self.expected = self.first | held(source)
        self.source_as_it_was = self._source_now()

    def begin(self) -> None:
        """Put the target back to where it holds two points."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.template, self.folder)

    def run(self) -> None:
        """Sync; read everything back before it is listed."""
        done = sync(Repository.open(self.source), Repository.open(self.folder), SyncRequest(verify=True))
        assert done.refused == ()

    def check(self) -> bool:
        """Whatever the target lists restores from it alone, byte for byte; whether that is everything."""
        with self.without_source():
            found = held(Repository.open(self.folder))
        assert found.keys() >= self.first.keys()
        assert found == {key: self.expected[key] for key in found}
        return found == self.expected

    def check_next_run(self, *, leases_may_stay: bool = False) -> None:
        """The next run copies the rest, guards and all, and leaves nothing of the one that was interrupted."""
        self.run()
        assert self.check()
        assert self._source_now() == self.source_as_it_was
        repository = Repository.open(self.folder)
        guarded = repository.guarded()
        assert [point.manifest.moment for point in repository.points() if point.id in guarded] == [later(2)]
        assert list(self.folder.glob(".new-*")) == []
        assert leases_may_stay or list(self.folder.glob("leases/*")) == []

    @contextmanager
    def without_source(self) -> Iterator[None]:
        """The source is gone."""
        self.source.rename(self._away)
        try:
            yield
        finally:
            self._away.rename(self.source)

    def _source_now(self) -> dict[str, str]:
        return {
            str(path.relative_to(self.source)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in self.source.rglob("*")
            if path.is_file()
        }
