"""Points dropped and their space collected: what fault tests interrupt, and what must hold afterwards."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from engine.repository import Collected, Point, Repository
from tests.repository.building import BLOCK, SMALL, back_up, later, packs_of, restored


class CollectionScenario:
    """Of four points two are dropped. Some packs are dead then, some wasteful, some needed."""

    def __init__(self, folder: Path) -> None:
        self.template = folder / "template"
        self.folder = folder / "vault"
        noise = random.Random(1).randbytes(96 * BLOCK)
        every_fourth = b"".join(noise[at * BLOCK : (at + 1) * BLOCK] for at in range(0, 48, 4))
        self.contents = {
            later(0): noise,
            later(10): random.Random(2).randbytes(20 * BLOCK),
            later(20): every_fourth + random.Random(3).randbytes(20 * BLOCK),
            later(30): random.Random(4).randbytes(5 * BLOCK) + b"end",
        }
        repository = Repository.create(self.template, block_bytes=BLOCK)
        for moment, content in self.contents.items():
            back_up(repository, content, moment=moment)
        self.dropped = {later(0), later(10)}
        self.begin()
        self.run()
        self.finished_bytes = self.stored_bytes()

    def begin(self) -> None:
        """Put the repository back to where it holds four points."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.template, self.folder)

    def run(self) -> Collected:
        """Drop two points, as far as they are still there, and collect."""
        repository = Repository.open(self.folder)
        wanted = [point for point in repository.points() if point.manifest.moment in self.dropped]
        with repository.collector("a test", limits=SMALL) as collector:
            collector.drop(wanted)
            return collector.collect()

    def stored_bytes(self) -> int:
        """All that lies in packs."""
        return sum(pack.stat().st_size for pack in packs_of(self.folder))

    def check(self) -> int:
        """Every listed point restores byte for byte, those that stay are listed, none is half there; how many."""
        repository = Repository.open(self.folder)
        points: tuple[Point, ...] = repository.points()
        assert [damage for damage in repository.damaged if not damage.key.startswith("leases/")] == []
        assert {point.manifest.moment for point in points} >= self.contents.keys() - self.dropped
        for point in points:
            assert restored(repository, point.manifest.disks[0]) == self.contents[point.manifest.moment]
        return len(points)

    def check_next_run(self) -> None:
        """A backup and the next collection succeed, and that frees what the interrupted one would have freed."""
        self.run()
        self.check()
        assert self.stored_bytes() <= self.finished_bytes + 200
        assert list(self.folder.glob(".new-*")) == []
        for name in ("leases", "condemned", "witnesses", "pending"):
            assert list(self.folder.glob(f"{name}/*")) == []
        repository = Repository.open(self.folder)
        again = self.contents[later(0)]
        point = back_up(repository, again, moment=later(40))
        assert restored(repository, point.manifest.disks[0]) == again
