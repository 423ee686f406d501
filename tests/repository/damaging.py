"""Ways to damage a repository's objects, and a small repository that has one of every kind."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from engine.errors import NewhopeError
from engine.repository import (
    Extent,
    MasterKey,
    Passphrase,
    RepairPlan,
    RepairReport,
    RepairRequest,
    Repository,
    Verification,
    VerifyRequest,
)
from engine.repository.condemned import condemn, witnesses
from engine.repository.directory_storage import DirectoryStorage
from engine.repository.pending import announce
from tests.repository.building import BLOCK, DB, SMALL, WEB, back_up, facts, later, mixed_disk

KINDS = {
    "pack": "packs/*/*",
    "index": "index/*",
    "manifest": "points/*/*",
    "record": "records/restores/*",
    "guard": "guards/*/*",
    "condemnation": "condemned/*",
    "witnesses": "witnesses/*",
    "pending point": "pending/*",
    "lease": "leases/*",
}
OLD = mixed_disk(90, 1)
NEW = OLD[: 20 * BLOCK] + random.Random(5).randbytes(30 * BLOCK) + OLD[50 * BLOCK :]
OTHER = mixed_disk(40, 3)
Blocks = dict[tuple[str, str, str, int], bytes]
"""By VM, point, disk and number."""


class Vault:
    """Three points of two VMs, two of which share most of their blocks, and two of every other kind of object."""

    def __init__(self, folder: Path, passphrase: Passphrase | None = None) -> None:
        self.folder = folder / "vault"
        self.copy = folder / "copy"
        repository = Repository.create(self.copy, block_bytes=BLOCK, passphrase=passphrase)
        self._master_key = repository.master_key()
        web = back_up(repository, OLD, bytes(3000))
        back_up(repository, NEW, b"x", moment=later(10))
        db = back_up(repository, OTHER, moment=later(20), vm=facts(DB, "db"))
        repository.put_record("restores", "one", b"# Restored\n" * 20)
        repository.put_record("restores", "two", b"# Restored too\n" * 20)
        repository.pin(web, why="before the upgrade", by="ana")
        repository.protect(db, until=datetime.now(UTC) + timedelta(days=9), why="audit", by="bo")
        self._coordinate(repository)
        self.mend()

    def _coordinate(self, repository: Repository) -> None:
        """A backup about to commit, and packs that were condemned beside it."""
        storage = DirectoryStorage(self.copy)
        for name in ("first", "second"):
            with repository.writer(name, limits=SMALL) as writer:
                lease = writer._lease.lease  # type: ignore[attr-defined]
                (self.copy / "kept").mkdir(exist_ok=True)
                for path in self.copy.glob("leases/*"):
                    shutil.copy(path, self.copy / "kept" / path.name)
            for path in self.copy.glob("kept/*"):
                shutil.copy(path, self.copy / "leases" / path.name)
            keys = repository._keys  # type: ignore[attr-defined]
            announce(storage, lease, repository.points(WEB)[0].manifest, keys)
            witnesses(storage, condemn(storage, [name.encode().ljust(32)], keys), keys)
        shutil.rmtree(self.copy / "kept")

    def mend(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.copy, self.folder)

    def objects(self, kind: str) -> list[Path]:
        return sorted(path for path in self.folder.glob(KINDS[kind]) if path.is_file())

    def files(self) -> dict[str, bytes]:
        paths = (path for path in self.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in paths}

    def open(self) -> Repository:
        return self.opened(self.folder)

    def opened(self, folder: Path) -> Repository:
        """This repository, its copy, or a plain one."""
        return Repository.open(folder, name=folder.name, unlock=self._unlock)

    def _unlock(self, *_: str) -> MasterKey:
        assert self._master_key is not None
        return self._master_key

    def verify(self, extent: Extent = Extent.FULL) -> Verification:
        return self.open().verifier(VerifyRequest(extent)).run()

    def plan(self, *others: Path, set_aside: bool = False, extent: Extent = Extent.FULL) -> RepairPlan:
        return self._repairer(others).plan(RepairRequest(extent, set_aside))

    def repair(self, *others: Path, set_aside: bool = False, extent: Extent = Extent.FULL) -> RepairReport:
        repairer = self._repairer(others)
        return repairer.apply(repairer.plan(RepairRequest(extent, set_aside)))

    def _repairer(self, others: tuple[Path, ...]):
        sources = [self.opened(other).source() for other in others]
        return self.open().repairer("a test", sources, limits=SMALL)

    def readable(self) -> Blocks:
        """Every block that a reader hands out."""
        found: Blocks = {}
        repository = self.open()
        for point in repository.points():
            with repository.reader() as reader:
                for disk in point.manifest.disks:
                    for block in range(-(-disk.size_bytes // BLOCK)):
                        offset = block * BLOCK
                        name = (point.manifest.vm.name, point.id, disk.target, block)
                        try:
                            found[name] = reader.read_range(disk, offset, min(BLOCK, disk.size_bytes - offset))
                        except NewhopeError:
                            continue
                for file in point.manifest.files:
                    try:
                        found[point.manifest.vm.name, point.id, f"{file.role} {file.name}", 0] = reader.file(file)
                    except NewhopeError:
                        continue
        return found


def flipped(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def scribbled(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    at = chance.randrange(len(content) - 12)
    content[at : at + 12] = chance.randbytes(12)
    path.write_bytes(content)


def cut(path: Path, chance: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: chance.randrange(path.stat().st_size)])


def emptied(path: Path, chance: random.Random) -> None:
    path.write_bytes(b"")


def missing(path: Path, chance: random.Random) -> None:
    path.unlink()


DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
    "flipped": flipped,
    "scribbled": scribbled,
    "cut": cut,
    "emptied": emptied,
    "missing": missing,
}


def exchanged(one: Path, two: Path) -> None:
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


def victims(vault: Vault, kind: str, chance: random.Random, count: int) -> Iterator[Path]:
    """Objects of a kind, each in a repository that is whole."""
    for number in range(count):
        vault.mend()
        objects = vault.objects(kind)
        yield objects[number % len(objects)] if kind != "pack" else chance.choice(objects)


def lose_block(folder: Path, repository: Repository, content: bytes) -> None:
    """Damage every block of the only point's first disk that has this content, in the packs."""
    with repository.reader() as reader:
        [point] = repository.points()
        disk = point.manifest.disks[0]
        blocks = {name for number, name in reader.names(disk) if (number + 1) * reader.block_bytes <= disk.size_bytes}
        places = [reader.place(name) for name in blocks if content in reader.block(name, reader.block_bytes, "vda")]
    assert places
    for pack, offset in places:
        [file] = (folder / "packs").rglob(pack.hex())
        file.chmod(0o600)
        with file.open("r+b") as opened:
            opened.seek(offset + 100)
            opened.write(bytes(40))
