"""Writers that begin, write, commit, stop and sleep, and collections between any two of their steps.

The steps run one after another, in an order that hypothesis chooses: what is tried are interleavings of whole steps,
and of a collection within a commit, at the worst place.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from unittest.mock import patch

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import Struct

from engine.repository import Collected, DiskRecord, LeaseLost, Point, Repository, Writer
from engine.repository.lease import HeldLease
from tests.faults.repository_scenario import fast_folder
from tests.repository.building import BLOCK, SMALL, commit, facts, later, restored, write_disk

PIECES = [random.Random(seed).randbytes(5 * BLOCK) for seed in range(3)]
VMS = [f"{number}" * 8 + "-1111-4111-8111-111111111111" for number in (1, 2)]


class Tomorrow(datetime):
    """A wall clock that has jumped ahead."""

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        return datetime.now(UTC) + timedelta(days=1)


class Begun(Struct):
    writer: Writer
    vm: str
    disks: list[tuple[DiskRecord, bytes]]


class RepositoryMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.folder = self.stack.enter_context(fast_folder()) / "vault"
        self.kept_open = Repository.create(self.folder, block_bytes=BLOCK)
        self.begun: list[Begun] = []
        self.contents: dict[str, list[bytes]] = {}
        self.minutes = 0

    def teardown(self) -> None:
        for begun in self.begun:
            begun.writer.__exit__(None, None, None)
        self.stack.close()
        shutil.rmtree(self.folder.parent, ignore_errors=True)

    @precondition(lambda self: len(self.begun) < 3)
    @rule(vm=st.sampled_from(VMS), numbers=st.lists(st.integers(0, 2), min_size=1, max_size=2), kept_open=st.booleans())
    def begin_and_write(self, vm: str, numbers: list[int], kept_open: bool) -> None:
        repository = self.kept_open if kept_open else Repository.open(self.folder)
        begun = Begun(repository.writer("a test", limits=SMALL).__enter__(), vm, [])
        self.begun.append(begun)
        content = b"".join(PIECES[number] for number in numbers)
        begun.disks.append((write_disk(begun.writer, "vda", content), content))

    @precondition(lambda self: self.begun)
    @rule(chosen=st.randoms(use_true_random=False))
    def commit(self, chosen: random.Random) -> None:
        begun = self.begun.pop(chosen.randrange(len(self.begun)))
        try:
            self._commit(begun)
        except LeaseLost:
            pass
        finally:
            begun.writer.__exit__(None, None, None)

    @precondition(lambda self: self.begun)
    @rule(chosen=st.randoms(use_true_random=False), jumped=st.booleans())
    def commit_with_a_collection_right_before_the_manifest(self, chosen: random.Random, jumped: bool) -> None:
        begun = self.begun.pop(chosen.randrange(len(self.begun)))
        check = HeldLease.check

        def check_and_sleep(held: HeldLease) -> None:
            check(held)
            if held.lease.kind == "writer":
                self._collect(jumped)

        try:
            with patch.object(HeldLease, "check", check_and_sleep):
                self._commit(begun)
        except LeaseLost:
            pass
        finally:
            begun.writer.__exit__(None, None, None)

    @precondition(lambda self: self.begun)
    @rule(chosen=st.randoms(use_true_random=False))
    def stop(self, chosen: random.Random) -> None:
        self.begun.pop(chosen.randrange(len(self.begun))).writer.__exit__(None, None, None)

    @precondition(lambda self: self.begun)
    @rule(chosen=st.randoms(use_true_random=False))
    def renew(self, chosen: random.Random) -> None:
        held = chosen.choice(self.begun).writer._lease  # pyright: ignore[reportPrivateUsage]
        try:
            held.renew()
        except Exception as error:
            assert "is not in the repository" in str(error)

    @rule(jumped=st.booleans())
    def drop_all_but_the_newest_and_collect(self, jumped: bool) -> None:
        repository = Repository.open(self.folder)
        for vm in VMS:
            old: tuple[Point, ...] = repository.points(vm)[1:]
            with repository.collector("a test", limits=SMALL) as collector:
                collector.drop(old)
        self._collect(jumped)

    @invariant()
    def every_point_is_whole(self) -> None:
        repository = Repository.open(self.folder)
        for point in repository.points():
            for record, content in zip(point.manifest.disks, self.contents[point.id], strict=True):
                assert restored(repository, record) == content
        assert repository.damaged == ()

    def _commit(self, begun: Begun) -> None:
        self.minutes += 1
        records = tuple(record for record, _ in begun.disks)
        point = commit(begun.writer, records, later(self.minutes), facts(begun.vm, begun.vm[:1]))
        self.contents[point.id] = [content for _, content in begun.disks]

    def _collect(self, jumped: bool) -> Collected:
        with ExitStack() as stack:
            if jumped:
                stack.enter_context(patch("engine.repository.collection.datetime", Tomorrow))
            with Repository.open(self.folder).collector("a test", limits=SMALL) as collector:
                done = collector.collect()
        assert done.kept == ()
        return done


def test_no_order_of_steps_harms_a_point():
    from hypothesis.stateful import run_state_machine_as_test

    run: Callable[..., None] = run_state_machine_as_test
    run(
        RepositoryMachine,
        settings=settings(
            max_examples=50, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
