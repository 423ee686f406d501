"""Incremental forever: guests that write, trim, reboot and are killed, and every point held against their disks."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from engine.fleet import open_repository
from engine.hosts import checkpoints, power_off, pull_backup, resume, start, suspend
from engine.hosts.model import Vm, VmState
from engine.hosts.power import vm_state
from engine.jobs import JobState
from engine.lab import Lab
from engine.lab.journal import ask_journal, prove
from engine.nbd import Client, ReadRequest
from engine.repository import Point
from tests.e2e.conftest import Operator
from tests.hosts.live import in_guest, kill_qemu

pytestmark = [pytest.mark.lab, pytest.mark.slow]

POINTS_OF_THE_CHAIN = 30
PIECE = 4 << 20
VICTIM_BYTES = 60_000_000


@pytest.fixture
def web(operator: Operator) -> Iterator[Vm]:
    vm = operator.vm("web")
    yield vm
    make_it_run(operator, vm)
    for name in checkpoints.own_checkpoints(operator.lanes[vm.host], vm.uuid):
        checkpoints.delete(operator.lanes[vm.host], vm.uuid, name)


def make_it_run(operator: Operator, vm: Vm) -> None:
    lane = operator.lanes[vm.host]
    state = vm_state(lane, vm.uuid)
    if state is VmState.PAUSED:
        resume(lane, vm.uuid)
    elif state is not VmState.RUNNING:
        start(lane, vm.uuid)
        operator.lab.wait_until_up(vm.host, vm.name)


def reason(point: Point, target: str = "vda") -> str:
    return next(disk.read_reason for disk in point.manifest.disks if disk.target == target)


def read_from_disks(point: Point) -> int:
    return point.manifest.read_bytes - sum(file.size_bytes for file in point.manifest.files)


def content_now(operator: Operator, vm: Vm) -> str:
    """Hash of the first disk of a paused VM, read as a whole and by nothing that this project relies on elsewhere."""
    lane = operator.lanes[vm.host]
    backup = pull_backup.begin(lane, vm, checkpoint=None)
    try:
        export = backup.exports[0]
        with Client.connect(export.address, export.export) as client:
            digest = blake3()
            buffer = memoryview(bytearray(PIECE))
            for offset in range(0, client.size_bytes, PIECE):
                piece = buffer[: min(PIECE, client.size_bytes - offset)]
                for _ in client.read_many([ReadRequest(offset, piece)]):
                    digest.update(piece)
        return digest.hexdigest()
    finally:
        pull_backup.finish(lane, backup)


def content_of(operator: Operator, point: Point) -> str:
    kept = operator.settings.repositories[0]
    record = point.manifest.disks[0]
    digest = blake3()
    with open_repository(kept) as repository, repository.reader() as reader:
        for offset in range(0, record.size_bytes, PIECE):
            digest.update(reader.read_range(record, offset, min(PIECE, record.size_bytes - offset)))
    return digest.hexdigest()


def test_the_second_point_reads_what_was_written_and_is_complete_by_itself(operator: Operator, web: Vm) -> None:
    lane = operator.lanes[web.host]
    first = operator.back_up("web")
    in_guest(lane, web, "head -c 3000000 /dev/urandom > /data/fresh; sync")
    before = ask_journal(lane, web.uuid)

    second = operator.back_up("web")
    after = ask_journal(lane, web.uuid)
    restored = operator.restore(second, "coruscant")

    assert reason(second) == f"what was written since web@{first.id[:8]}"
    assert read_from_disks(second) < read_from_disks(first)
    elsewhere = operator.lanes["coruscant"]
    assert prove((lane, web.uuid), (elsewhere, restored.uuid), before, after).compared_bytes > 0
    wanted = in_guest(lane, web, "md5sum < /data/fresh")
    assert in_guest(elsewhere, restored, "md5sum < /data/fresh") == wanted


class RandomGuest:
    """What a guest and its owner may do to a disk between two backups."""

    def __init__(self, operator: Operator, vm: Vm, seed: int) -> None:
        self._operator = operator
        self._vm = vm
        self._lane = operator.lanes[vm.host]
        self._chance = random.Random(seed)
        in_guest(self._lane, vm, "head -c 16000000 /dev/urandom > /data/area; sync")

    def do_something(self) -> str:
        """One of the things below; its name."""
        doing = self._chance.choice(
            [self.write, self.write, self.write_zeroes, self.punch, self.delete_and_trim, self.new_file, self.reboot]
        )
        doing()
        return doing.__name__

    def write(self) -> None:
        self._sh(f"dd if=/dev/urandom of=/data/area bs=64k seek={self._place()} count=7 conv=notrunc 2>&1; sync")

    def write_zeroes(self) -> None:
        self._sh(f"dd if=/dev/zero of=/data/area bs=64k seek={self._place()} count=40 conv=notrunc 2>&1; sync")

    def punch(self) -> None:
        self._sh(f"fallocate -p -o {self._place() * 65536} -l 2000000 /data/area; sync; fstrim /data 2>&1")

    def delete_and_trim(self) -> None:
        self._sh("rm -f /data/new-*; sync; fstrim /data 2>&1; sync")

    def new_file(self) -> None:
        self._sh(f"head -c 2000000 /dev/urandom > /data/new-{self._chance.randrange(10**6)}; sync")

    def reboot(self) -> None:
        power_off(self._lane, self._vm.uuid)
        start(self._lane, self._vm.uuid)
        self._operator.lab.wait_until_up(self._vm.host, self._vm.name)

    def _sh(self, script: str) -> None:
        in_guest(self._lane, self._vm, script)

    def _place(self) -> int:
        return self._chance.randrange(230)


def test_every_point_of_a_long_chain_is_the_disk_as_it_was(operator: Operator, web: Vm) -> None:
    lane = operator.lanes[web.host]
    guest = RandomGuest(operator, web, seed=5)
    done: list[str] = []
    made: list[tuple[Point, str]] = [(operator.back_up("web"), "")]

    while len(made) < POINTS_OF_THE_CHAIN:
        done.append(guest.do_something())
        if len(made) % 3:
            made.append((operator.back_up("web"), ""))
            continue
        # Every third one of a VM that stands still, so that its whole disk can be read once more beside it.
        suspend(lane, web.uuid)
        try:
            made.append((operator.back_up("web"), content_now(operator, web)))
        finally:
            resume(lane, web.uuid)

    wrong = [
        (number, reason(point), done[:number])
        for number, (point, truth) in enumerate(made)
        if truth and content_of(operator, point) != truth
    ]
    assert wrong == []
    assert all(reason(point).startswith("what was written since") for point, _ in made[1:])
    assert len(checkpoints.own_checkpoints(lane, web.uuid)) == 1
    assert operator.points("web")[0].id == made[-1][0].id


class TestWhatCannotBeBelieved:
    def test_a_killed_qemu_costs_a_full_read_and_the_point_says_why(
        self, operator: Operator, web: Vm, lab: Lab
    ) -> None:
        operator.back_up("web")
        kill_qemu(lab, operator.lanes[web.host], web)
        make_it_run(operator, web)

        after = operator.back_up("web")
        following = operator.back_up("web")

        assert reason(after).startswith("full: the dirty bitmap since newhope-")
        assert reason(following) == f"what was written since web@{after.id[:8]}"

    def test_a_write_behind_the_back_of_qemu_is_found_by_the_sample_and_told(self, operator: Operator, web: Vm) -> None:
        lane = operator.lanes[web.host]
        in_guest(lane, web, f"head -c {VICTIM_BYTES} /dev/zero | tr '\\0' x > /data/victim; sync")
        operator.back_up("web")
        power_off(lane, web.uuid)
        scribble_over(Path(web.disks[0].source or ""))
        make_it_run(operator, web)

        known = {point.id for point in operator.points("web")}
        job = operator.finish(operator.start_backup("web"))

        (point,) = [each for each in operator.points("web") if each.id not in known]
        assert job.state is JobState.WARN
        assert "the dirty bitmap was wrong" in reason(point)
        suspend(lane, web.uuid)
        last = operator.back_up("web")
        assert reason(last) == f"what was written since web@{point.id[:8]}"
        assert content_of(operator, last) == content_now(operator, web)

    def test_a_vm_that_is_off_is_read_since_its_checkpoint_too(self, operator: Operator, web: Vm) -> None:
        lane = operator.lanes[web.host]
        running = operator.back_up("web")
        in_guest(lane, web, "head -c 1000000 /dev/urandom > /data/last; sync")
        power_off(lane, web.uuid)

        off = operator.back_up("web")
        make_it_run(operator, web)
        again = operator.back_up("web")

        assert reason(off) == f"what was written since web@{running.id[:8]}"
        assert read_from_disks(off) < read_from_disks(running)
        assert reason(again) == f"what was written since web@{running.id[:8]}"


def scribble_over(image: Path) -> None:
    """Change a file in a qcow2 image as a tool does that knows nothing of dirty bitmaps."""
    mapped = subprocess.run(
        ["qemu-img", "map", "--output=json", str(image)], check=True, capture_output=True, text=True
    ).stdout
    changed = 0
    with image.open("r+b") as file:
        for extent in json.loads(mapped):
            for at in range(extent.get("offset", 0), extent.get("offset", 0) + extent["length"] * extent["data"], 4096):
                file.seek(at)
                if file.read(4096) == b"x" * 4096:
                    file.seek(at)
                    file.write(b"behind the back")
                    changed += 1
    assert changed * 4096 > VICTIM_BYTES // 2
