"""Two repositories and what tests of a sync ask of them."""

from __future__ import annotations

from datetime import datetime, timedelta

from engine.repository import Point, Repository, Synced, SyncLimits, SyncRequest
from tests.repository.building import BLOCK, SMALL, later, mixed_disk, restored

LIMITS = SyncLimits(SMALL)
EVERYTHING = SyncRequest()


def sync(source: Repository, target: Repository, request: SyncRequest = EVERYTHING) -> Synced:
    """Make a plan and do it."""
    work = source.sync_to(target, request, "a test", limits=LIMITS)
    return work.run(work.plan())


def disks_of(repository: Repository, point: Point) -> list[bytes]:
    return [restored(repository, record) for record in point.manifest.disks]


def held(repository: Repository) -> dict[tuple[str, datetime], list[bytes]]:
    """What restores of everything that is listed would give, disks and files."""
    found: dict[tuple[str, datetime], list[bytes]] = {}
    for point in repository.points():
        with repository.reader() as reader:
            files = [reader.file(file) for file in point.manifest.files]
        found[point.manifest.vm.uuid, point.manifest.moment] = disks_of(repository, point) + files
    assert repository.damaged == ()
    return found


def generations(number: int, blocks: int = 300, seed: int = 1, each: int = 9) -> list[bytes]:
    """A disk as it changes: of each one to the next, some blocks differ and one is zeroed."""
    content = bytearray(mixed_disk(blocks, seed))
    found = [bytes(content)]
    for generation in range(1, number):
        fresh = mixed_disk(each, seed * 1000 + generation, 0)
        for block in range(each):
            at = (generation * 37 + block * 11) % blocks * BLOCK
            content[at : at + BLOCK] = fresh[block * BLOCK : (block + 1) * BLOCK]
        at = (generation * 53) % blocks * BLOCK
        content[at : at + BLOCK] = bytes(BLOCK)
        found.append(bytes(content))
    return found


def soon(hours: float) -> datetime:
    return datetime.now(later(0).tzinfo) + timedelta(hours=hours)
