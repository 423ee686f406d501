"""Writers, a reader, drops, pins, verifications and collections at once, switched at every operation of the storage.

Hypothesis chooses who runs, for how many operations, who is killed, who sleeps past its lease, whose clock is years
off, whose requests fail, or are done after they failed. Whatever the history:

- every point that is listed restores byte for byte, at every instant;
- a point whose commit returned is listed until it is dropped, and a pinned one is not dropped;
- readers and verifiers meet no damage but in a point that was dropped under them;
- once all is quiet, collections leave no garbage: no lease, no announcement, no condemnation, no wasteful pack.

`NEWHOPE_FAULTS_MINUTES` lets it go on for so long; without it the test takes less than half a minute.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from msgspec import Struct

from engine.errors import Conflict, NewhopeError, NotFound
from engine.repository import Extent, LeaseLost, Point, Repository, Severity, StorageFailed, VerifyRequest
from engine.repository.look import Look
from tests.faults.figures import Fault, count
from tests.faults.simulated_storage import SimulatedStorage, Trouble
from tests.faults.simulated_world import Process, Task, World
from tests.repository.building import BLOCK, SMALL, commit, facts, later, restored, write_disk

PIECES = [random.Random(seed).randbytes(5 * BLOCK) for seed in range(4)]
VMS = [f"{number}" * 8 + "-1111-4111-8111-111111111111" for number in (1, 2)]
MACHINES = st.sampled_from(["coruscant", "coruscant", "naboo"])
CLOCKS = st.sampled_from([timedelta()] * 3 + [timedelta(hours=-5), timedelta(hours=5), timedelta(days=3650)])
STEPS = st.sampled_from([1, 2, 5, 10, 20, 40, 80, 400])
MOST_AT_ONCE = 5
EXAMPLES = 60
MINUTES = float(os.environ.get("NEWHOPE_FAULTS_MINUTES", "0"))


class Promised(Struct):
    """What the processes were told, which must hold from then on."""

    contents: dict[object, bytes] = {}
    """By moment: what was to be stored."""
    committed: dict[str, str] = {}
    """Ids of points whose commit returned, by id, with their VM."""
    to_be_dropped: set[str] = set()
    pinned: set[str] = set()


class SimulatedRepository(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.world = World()
        self.stack.enter_context(self.world.patched())
        self.storage = SimulatedStorage(self.world)
        Repository.create_in(self.storage, block_bytes=BLOCK)
        self.promised = Promised()
        self.minutes = 0
        self.living: list[Process] = []
        self.kept: dict[int, Repository] = {}
        self.looked_at: tuple[int, int] = (0, 0)
        for vm, numbers in ((VMS[0], [0, 1]), (VMS[1], [2]), (VMS[0], [3])):
            self.a_writer_begins(vm, numbers, "coruscant", timedelta(), 1)
            self._finish(self.living.pop())

    def teardown(self) -> None:
        try:
            self.all_is_quiet_in_the_end()
        finally:
            for process in self.world.processes:
                self.world.kill(process)
            self.stack.close()

    # Who begins.

    @precondition(lambda self: len(self.living) < MOST_AT_ONCE)
    @rule(
        vm=st.sampled_from(VMS),
        numbers=st.lists(st.integers(0, 3), min_size=1, max_size=2),
        on=MACHINES,
        off=CLOCKS,
        steps=STEPS,
    )
    def a_writer_begins(self, vm: str, numbers: list[int], on: str, off: timedelta, steps: int) -> None:
        process = self._process(on, off)
        self.kept[process.pid] = Repository.open_in(self.storage)
        self._write(process, vm, numbers)
        self._run([process], steps, random.Random(steps))

    @precondition(lambda self: self._idle_writers())
    @rule(vm=st.sampled_from(VMS), numbers=st.lists(st.integers(0, 3), min_size=1, max_size=2), at=st.integers(0, 9))
    def a_process_that_wrote_before_writes_again(self, vm: str, numbers: list[int], at: int) -> None:
        idle = self._idle_writers()
        self._write(idle[at % len(idle)], vm, numbers)

    @precondition(lambda self: len(self.living) < MOST_AT_ONCE)
    @rule(vm=st.sampled_from(VMS), at=st.integers(0, 9), block=st.integers(0, 4), on=MACHINES, off=CLOCKS)
    def a_writer_begins_that_takes_over_what_did_not_change(
        self, vm: str, at: int, block: int, on: str, off: timedelta
    ) -> None:
        process = self._process(on, off)
        self.kept[process.pid] = Repository.open_in(self.storage)
        self.minutes += 1
        moment = later(self.minutes)
        self.world.begin(process, lambda: self._write_changes(process, vm, at, block, moment))

    @precondition(lambda self: len(self.living) < MOST_AT_ONCE)
    @rule(on=MACHINES, off=CLOCKS)
    def a_collector_begins(self, on: str, off: timedelta) -> None:
        self.world.begin(self._process(on, off), self._collect)

    @precondition(lambda self: len(self.living) < MOST_AT_ONCE)
    @rule(kind=st.sampled_from(["read", "verify", "pin", "unpin"]), at=st.integers(0, 9), on=MACHINES)
    def another_begins(self, kind: str, at: int, on: str) -> None:
        work = {"read": self._read, "verify": self._verify, "pin": self._pin, "unpin": self._unpin}[kind]
        self.world.begin(self._process(on, timedelta()), lambda: work(at))

    # What happens to them.

    @precondition(lambda self: self.living)
    @rule(at=st.integers(0, 9), steps=STEPS, seed=st.integers(0, 1 << 16))
    def one_runs(self, at: int, steps: int, seed: int) -> None:
        self._run([self.living[at % len(self.living)]], steps, random.Random(seed))

    @precondition(lambda self: len(self.living) > 1)
    @rule(steps=STEPS, seed=st.integers(0, 1 << 16))
    def all_run(self, steps: int, seed: int) -> None:
        self._run(self.living, steps, random.Random(seed))

    @precondition(lambda self: self.living)
    @rule(at=st.integers(0, 9))
    def one_is_killed(self, at: int) -> None:
        process = self.living.pop(at % len(self.living))
        self.world.kill(process)
        count(Fault.CRASH, "backup" if process.pid in self.kept else "others")

    @precondition(lambda self: self.living)
    @rule(at=st.integers(0, 9), done=st.booleans(), later=st.booleans())
    def the_next_change_of_one_fails(self, at: int, done: bool, later: bool) -> None:
        self.storage.trouble[self.living[at % len(self.living)].pid] = Trouble(done, later)

    @precondition(lambda self: self.storage.on_its_way)
    @rule(at=st.integers(0, 9))
    def what_was_on_its_way_is_done(self, at: int) -> None:
        self._land(at)

    @rule(seconds=st.sampled_from([30.0, 150.0, 4000.0, 90000.0]))
    def time_passes(self, seconds: float) -> None:
        """Whoever is not let run before it passes again has slept."""
        self._pass(seconds)
        if seconds > SMALL.lease_s:
            count(Fault.SLEEP, "simulation", sum(map(_working, self.living)))

    @precondition(lambda self: self.living)
    @rule(off=CLOCKS)
    def all_sleep_while_others_collect(self, off: timedelta) -> None:
        """Twice, so that the second collection takes their leases."""
        asleep, self.living = self.living, []
        for _ in range(2):
            self._pass(2 * SMALL.lease_s)
            collector = self._process("coruscant", off)
            self.world.begin(collector, self._collect)
            self._finish(collector)
        self.living = asleep
        count(Fault.SLEEP, "simulation", sum(map(_working, asleep)))

    # What must hold.

    @invariant()
    def every_listed_point_is_whole(self) -> None:
        now = (len(self.storage.deleted), sum(key.startswith("points/") for key in self.storage.objects))
        if now == self.looked_at:
            return
        self.looked_at = now
        repository = Repository.open_in(self.storage)
        points = repository.points()
        for point in points:
            assert restored(repository, point.manifest.disks[0]) == self.promised.contents[point.manifest.moment]
        assert repository.damaged == ()
        listed = {point.id for point in points}
        assert self.promised.committed.keys() - self.promised.to_be_dropped <= listed
        assert self.promised.pinned <= listed

    def all_is_quiet_in_the_end(self) -> None:
        for process in list(self.living):
            self.world.kill(process)
        self.storage.trouble.clear()
        for _ in range(4):
            self._pass(40 * 86400)
            process = self.world.process("coruscant")
            self.world.begin(process, self._collect)
            self._finish(process)
        self.looked_at = (0, 0)
        self.every_listed_point_is_whole()
        left = [
            key for key in self.storage.objects if key.startswith(("leases/", "pending/", "condemned/", "witnesses/"))
        ]
        assert left == []
        repository = Repository.open_in(self.storage)
        look = Look(self.storage, repository._identity, repository._index)  # pyright: ignore[reportPrivateUsage]
        assert look.to_condemn(None) == {}
        assert set(look.packs) == set(look.use())

    # What they do.

    def _write(self, process: Process, vm: str, numbers: list[int]) -> None:
        self.minutes += 1
        moment, content = later(self.minutes), b"".join(PIECES[number] for number in numbers)
        self.promised.contents[moment] = content

        def work() -> None:
            try:
                with self.kept[process.pid].writer("a backup", limits=SMALL) as writer:
                    disk = write_disk(writer, "vda", content)
                    point = commit(writer, (disk,), moment, facts(vm, vm[:1]))
                    self.promised.committed[point.id] = vm
            except (LeaseLost, StorageFailed):
                pass

        self.world.begin(process, work)

    def _write_changes(self, process: Process, vm: str, at: int, block: int, moment: datetime) -> None:
        """A backup of one block, the rest of which is as in a point that may be dropped at any moment."""
        repository = self.kept[process.pid]
        try:
            points = repository.points()
            if not points:
                return
            parent = points[at % len(points)]
            old = parent.manifest.disks[0]
            content = bytearray(self.promised.contents[parent.manifest.moment])
            content[block * BLOCK : block * BLOCK + 100] = PIECES[0][:100]
            self.promised.contents[moment] = bytes(content)
            with repository.writer("a backup", limits=SMALL) as writer:
                writer.lean_on(parent)
                disk = writer.disk("vda", old.size_bytes, "raw", parent=old)
                disk.same(0, block)
                disk.same(block + 1, old.size_bytes // BLOCK - block - 1)
                buffer = disk.buffer()
                buffer[:100] = PIECES[0][:100]
                disk.submit(block, buffer, BLOCK, same=((100, BLOCK - 100),))
                point = commit(writer, (disk.finish("changes"),), moment, facts(vm, vm[:1]))
                self.promised.committed[point.id] = vm
        except (LeaseLost, StorageFailed, NotFound):
            pass

    def _collect(self) -> None:
        repository = Repository.open_in(self.storage)
        try:
            with repository.collector("a collection", limits=SMALL) as collector:
                guarded = repository.guarded()
                for vm in VMS:
                    old: tuple[Point, ...] = repository.points(vm)[1:]
                    going = [point for point in old if point.id not in guarded]
                    self.promised.to_be_dropped |= {point.id for point in going}
                    collector.drop(going)
                assert collector.collect().kept == ()
        except (LeaseLost, StorageFailed, Conflict):
            pass

    def _read(self, at: int) -> None:
        repository = Repository.open_in(self.storage)
        points = repository.points()
        if not points:
            return
        point = points[at % len(points)]
        try:
            content = restored(repository, point.manifest.disks[0])
        except NewhopeError:
            assert point.id in self.promised.to_be_dropped
        else:
            assert content == self.promised.contents[point.manifest.moment]

    def _verify(self, _: int) -> None:
        try:
            found = Repository.open_in(self.storage).verifier(VerifyRequest(Extent.FULL)).run()
        except StorageFailed:
            return
        assert [finding for finding in found.findings if finding.severity is not Severity.NOTE] == []

    def _pin(self, at: int) -> None:
        repository = Repository.open_in(self.storage)
        points = repository.points()
        if not points:
            return
        point = points[at % len(points)]
        try:
            repository.pin(point, why="a test", by="a test")
        except (NotFound, StorageFailed):
            return
        if point.id not in self.promised.to_be_dropped:
            self.promised.pinned.add(point.id)

    def _unpin(self, at: int) -> None:
        if not self.promised.pinned:
            return
        chosen = sorted(self.promised.pinned)[at % len(self.promised.pinned)]
        repository = Repository.open_in(self.storage)
        (point,) = [point for point in repository.points() if point.id == chosen]
        self.promised.pinned.discard(chosen)
        try:
            repository.unpin(point)
        except (StorageFailed, Conflict):
            return

    # How they are moved.

    def _process(self, machine: str, off: timedelta) -> Process:
        process = self.world.process(machine, off)
        self.living.append(process)
        if off:
            count(Fault.CLOCK, "simulation")
        return process

    def _idle_writers(self) -> list[Process]:
        return [process for process in self.living if process.pid in self.kept and not _working(process)]

    def _run(self, processes: list[Process], steps: int, chance: random.Random) -> None:
        for _ in range(steps):
            ready: list[Task] = [task for process in processes for task in process.tasks if task.ready]
            if not ready:
                break
            self.world.step(chance.choice(ready))
        for process in processes[:]:
            # Writers stay, to write again; others end with their work.
            if process in self.living and process.pid not in self.kept and not _working(process):
                self.world.kill(process)
                self.living.remove(process)

    def _finish(self, process: Process) -> None:
        while _working(process):
            self._run([process], 10, random.Random(0))
        self.world.kill(process)

    def _pass(self, seconds: float) -> None:
        if seconds > self.storage.settles_s:
            while self.storage.on_its_way:
                self._land(0)
        self.world.passed_s += seconds

    def _land(self, at: int) -> None:
        request = self.storage.on_its_way.pop(at % len(self.storage.on_its_way))
        try:
            request()
        except NewhopeError:
            return


def _working(process: Process) -> bool:
    return any(not task.helper and not task.over for task in process.tasks)


def test_no_history_of_operations_harms_a_point():
    run: Callable[..., None] = run_state_machine_as_test
    end = time.monotonic() + 60 * MINUTES
    # The same histories each time, so that a run tells of the change that was made; with time to spare, ever new ones.
    same = settings(
        max_examples=EXAMPLES,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    run(SimulatedRepository, settings=same)
    while time.monotonic() < end:
        run(SimulatedRepository, settings=settings(same, derandomize=False))
