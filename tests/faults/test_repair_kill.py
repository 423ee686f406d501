"""A repair killed (SIGKILL) before every call that changes the repository's disk, and on a disk that refuses.

Whatever the instant: every block that could be read before can be read after, nothing damaged is without its original,
and the next repair succeeds: all is whole, and there is nothing left to do.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
from pathlib import Path

import pytest

from engine.errors import NewhopeError
from engine.repository import Extent, RepairReport, RepairRequest, Repository, VerifyRequest
from engine.repository.block_record import HEADER_BYTES
from engine.repository.directory_storage import DirectoryStorage
from engine.repository.pack import read_pack_index
from tests.faults.figures import Fault, count
from tests.faults.parts import parts
from tests.faults.repository_scenario import fast_folder
from tests.faults.repository_system_calls import Call, SystemCalls
from tests.faults.test_repository_kill import in_a_child
from tests.repository.building import BLOCK, SMALL, back_up, later, restored

PARTS = 4


class RepairScenario:
    """Two points; a manifest, an index file, a record and a guard are cut, a pack is damaged, and one is gone."""

    def __init__(self, folder: Path) -> None:
        self.copy = folder / "copy"
        self.template = folder / "template"
        self.folder = folder / "vault"
        first = random.Random(1).randbytes(40 * BLOCK)
        self.contents = {later(0): first, later(10): first[: 20 * BLOCK] + random.Random(2).randbytes(9 * BLOCK)}
        repository = Repository.create(self.copy, block_bytes=BLOCK)
        points = [back_up(repository, content, moment=moment) for moment, content in self.contents.items()]
        repository.pin(points[0], why="a test", by="ana")
        repository.put_record("restores", "one", b"# Restored\n" * 20)
        shutil.copytree(self.copy, self.template)
        self.damaged: dict[str, bytes] = {}
        for pattern in ("points/*/*", "index/*", "records/restores/*", "guards/*/*"):
            self._cut(sorted(self.template.glob(pattern))[0])
        self._damage_packs()
        self.begin()
        self.readable = self.blocks()

    def _cut(self, victim: Path) -> None:
        victim.write_bytes(victim.read_bytes()[:-20])
        self.damaged[str(victim.relative_to(self.template))] = victim.read_bytes()

    def _damage_packs(self) -> None:
        storage = DirectoryStorage(self.template)
        packs = sorted(self.template.glob("packs/*/*"), key=lambda pack: pack.stat().st_size)
        packs[0].unlink()
        pack = packs[-1]
        entries = read_pack_index(storage, str(pack.relative_to(self.template)))
        content = bytearray(pack.read_bytes())
        content[entries[2].offset + HEADER_BYTES] ^= 1
        pack.write_bytes(content)
        self.pack = pack.relative_to(self.template)
        Repository.open(self.template).verifier(VerifyRequest(Extent.FULL)).run()

    def begin(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.template, self.folder)

    def run(self) -> RepairReport:
        repairer = Repository.open(self.folder).repairer("a test", [Repository.open(self.copy).source()], limits=SMALL)
        return repairer.apply(repairer.plan(RepairRequest()))

    def blocks(self) -> dict[tuple[str, int], bytes]:
        """Every block that can be read."""
        found: dict[tuple[str, int], bytes] = {}
        repository = Repository.open(self.folder)
        for point in repository.points():
            record = point.manifest.disks[0]
            with repository.reader() as reader:
                for offset in range(0, record.size_bytes, BLOCK):
                    try:
                        found[point.id, offset] = reader.read_range(record, offset, BLOCK)
                    except NewhopeError:
                        continue
        return found

    def check(self) -> None:
        """No sound byte is lost, and what is no longer in its place was kept."""
        assert self.readable.items() <= self.blocks().items()
        assert (self.folder / self.pack).exists()
        kept = {path.read_bytes() for path in self.folder.glob("quarantine/**/*") if path.is_file()}
        for name, content in self.damaged.items():
            path = self.folder / name
            assert content in kept or path.read_bytes() == content

    def check_next_run(self) -> None:
        """The next repair brings everything back, and leaves nothing of the one that was killed."""
        self.run()
        self.check()
        repository = Repository.open(self.folder)
        points = {point.manifest.moment: point for point in repository.points()}
        assert points.keys() == self.contents.keys()
        for moment, point in points.items():
            assert restored(repository, point.manifest.disks[0]) == self.contents[moment]
        found = repository.verifier(VerifyRequest(Extent.FULL)).run()
        assert found.sound, found.findings
        assert repository.repairer("a test").plan(RepairRequest()).steps == ()
        assert repository.guarded()
        for left in (".new-*", "leases/*", "healing/**/*"):
            assert [path for path in self.folder.glob(left) if path.is_file()] == []


@pytest.mark.parametrize("part", parts(PARTS))
def test_a_repair_killed_at_any_change_of_the_disk_loses_nothing_and_is_gone_on_with(part: int):
    with fast_folder() as folder:
        scenario = RepairScenario(folder)
        calls = in_a_child(scenario, 0, "never")  # type: ignore[arg-type]
        assert calls is not None
        assert len(calls) > 60
        scenario.check_next_run()
        tried = killed = 0
        for kill_at in range(1 + part, len(calls) + 1, PARTS):
            # What is so after one call is so before the next.
            scenario.begin()
            tried += 1
            # The order in which packs are made durable differs a little each time.
            if in_a_child(scenario, kill_at, "before") is None:  # type: ignore[arg-type]
                killed += 1
                scenario.check()
                scenario.check_next_run()
                count(Fault.KILL, "repair")

    assert killed > 0.8 * tried


@pytest.mark.parametrize(
    ("number", "failing", "fault"),
    [
        (errno.ENOSPC, ("open", "write", "writev", "fsync", "link", "mkdir"), Fault.FULL),
        (errno.EROFS, ("open", "write", "writev", "fsync", "link", "mkdir", "unlink"), Fault.READ_ONLY),
        (errno.EACCES, ("unlink",), Fault.REFUSED),
    ],
    ids=["full", "read-only", "no deleting"],
)
def test_a_disk_that_refuses_at_any_call_of_a_repair_loses_nothing(number: int, failing: tuple[str, ...], fault: Fault):
    refused = 0
    with fast_folder() as folder:
        scenario = RepairScenario(folder)
        for first in range(1, 1000, 5):
            scenario.begin()
            done = _run_failing_from(scenario, first, number, failing)
            scenario.check()
            if not done:
                break
            refused += 1
            for lease in scenario.folder.glob("leases/*"):
                # This process lives on, so a lease it could not delete would be believed until it runs out.
                lease.unlink()
            if first % 25 == 1:
                scenario.check_next_run()

    assert refused > 10
    count(fault, "repair", refused)


def _run_failing_from(scenario: RepairScenario, first: int, number: int, failing: tuple[str, ...]) -> bool:
    failed = False

    def hook(count: int, name: str, arguments: tuple[object, ...], call: Call) -> object:
        nonlocal failed
        if count >= first and name in failing:
            failed = True
            raise OSError(number, os.strerror(number))
        return call()

    calls = SystemCalls(str(scenario.folder), hook)
    calls.install()
    try:
        scenario.run()
    except NewhopeError as error:
        assert error.next_step
    finally:
        calls.remove()
    return failed
