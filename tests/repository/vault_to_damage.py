"""A repository that tests damage, and mend again."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from engine.errors import NewhopeError
from engine.repository import DiskLoss, Extent, Finding, Repository, Severity, Verification, VerifyRequest
from tests.repository.building import BLOCK, DB, back_up, facts, later, mixed_disk

FULL = VerifyRequest(Extent.FULL)

QUICK = VerifyRequest(Extent.QUICK)

OLD = mixed_disk(90, 1)

NEW = OLD[: 20 * BLOCK] + random.Random(5).randbytes(30 * BLOCK) + OLD[50 * BLOCK :]

OTHER = mixed_disk(40, 3)

KINDS = {
    "pack": "packs/*/*",
    "index": "index/*",
    "manifest": "points/*/*",
    "record": "records/*/*",
    "lease": "leases/*",
}


class Vault:
    """Three points of two VMs, two of which share most of their blocks; two records and a lease."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "vault"
        self._template = folder / "template"
        repository = Repository.create(self._template, block_bytes=BLOCK)
        back_up(repository, OLD, bytes(3000))
        back_up(repository, NEW, b"x", moment=later(10))
        back_up(repository, OTHER, moment=later(20), vm=facts(DB, "db"))
        repository.put_record("restores", "one", b"# Restored\n" * 20)
        repository.put_record("restores", "two", b"# Restored too\n" * 20)
        with repository.writer("a test"):
            shutil.copytree(self._template / "leases", folder / "leases")
        shutil.rmtree(self._template / "leases")
        shutil.copytree(folder / "leases", self._template / "leases")
        self.mend()

    def mend(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self._template, self.folder)

    def objects(self, kind: str) -> list[Path]:
        return sorted(path for path in self.folder.glob(KINDS[kind]) if path.is_file())

    def key(self, path: Path) -> str:
        return str(path.relative_to(self.folder))

    def verify(self, request: VerifyRequest = FULL) -> Verification:
        try:
            return Repository.open(self.folder).verifier(request).run()
        finally:
            shutil.rmtree(self.folder / "records" / "verify", ignore_errors=True)

    def unreadable(self) -> dict[tuple[str, str, str], set[int]]:
        """What a reader refuses: blocks by VM, id of the point, and disk."""
        refused: dict[tuple[str, str, str], set[int]] = {}
        repository = Repository.open(self.folder)
        for point in repository.points():
            with repository.reader() as reader:
                for disk in point.manifest.disks:
                    for block in range(-(-disk.size_bytes // BLOCK)):
                        offset = block * BLOCK
                        try:
                            reader.read_range(disk, offset, min(BLOCK, disk.size_bytes - offset))
                        except NewhopeError:
                            refused.setdefault((point.manifest.vm.name, point.id, disk.target), set()).add(block)
                for file in point.manifest.files:
                    try:
                        reader.file(file)
                    except NewhopeError:
                        refused[point.manifest.vm.name, point.id, f"{file.role} {file.name}"] = {0}
        return refused

    def check_losses(self, found: Verification) -> None:
        """What is called lost is what cannot be read, block by block, and the findings hurt the same points."""
        assert {disk_of(loss): blocks_of(loss) for loss in found.losses} == self.unreadable()
        lost_points = {loss.point for loss in found.losses}
        by_finding = {point for finding in found.findings for point in finding.points}
        unread = {finding.points[0] for finding in found.findings if finding.object.startswith("points/")}
        assert by_finding - unread == lost_points
        for finding in found.findings:
            assert bool(finding.points) == (finding.severity is Severity.LOSS)


def disk_of(loss: DiskLoss) -> tuple[str, str, str]:
    return loss.point.vm, loss.point.id, loss.name


def blocks_of(loss: DiskLoss) -> set[int]:
    blocks: set[int] = set()
    end = -1
    for run in loss.ranges:
        assert run.offset > end, "neighbouring ranges are one"
        assert run.offset % BLOCK == 0
        end = run.offset + run.length
        assert end <= loss.size_bytes
        blocks |= set(range(run.offset // BLOCK, -(-end // BLOCK)))
    return blocks


def damaged(found: Verification) -> dict[str, Finding]:
    return {finding.object: finding for finding in found.findings if finding.severity is not Severity.NOTE}


def flip(path: Path, position: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.chmod(0o600)
    path.write_bytes(content)
