"""Collections as tests ask for them, and what is there for one to free."""

from __future__ import annotations

import random
from pathlib import Path

from engine.repository import Point, Repository
from tests.repository.building import BLOCK, SMALL, back_up, later, packs_of


def noise(blocks: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(blocks * BLOCK)


def stored(folder: Path) -> int:
    return sum(pack.stat().st_size for pack in packs_of(folder))


def drop(repository: Repository, *points: Point) -> int:
    with repository.collector("a test", limits=SMALL) as collector:
        return collector.drop(points)


def collect(folder: Path):
    with Repository.open(folder).collector("a test", limits=SMALL) as collector:
        return collector.collect()


def unneeded_packs(repository: Repository, seed: int = 70) -> bytes:
    """Packs that nobody needs: those of a point that was dropped. What was in them."""
    content = noise(50, seed)
    old = back_up(repository, content, moment=later(-200 + seed))
    back_up(repository, noise(3, seed + 1), moment=later(-199 + seed))
    drop(repository, old)
    return content


def remains(folder: Path) -> list[str]:
    below = ("condemned", "witnesses", "pending", "leases")
    return [str(path) for name in below for path in (folder / name).glob("*")]
