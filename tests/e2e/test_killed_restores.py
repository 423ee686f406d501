"""A restore that is killed at any step goes on where it was, or is taken back without a trace.

`NEWHOPE_KILLED_RESTORES=100` kills that many at random moments, and one after every note of the journal; the suite
has a few of each.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator

import pytest

from engine.cli.launching import launch_resume, launch_settlement
from engine.hosts import HostLanes, power, volumes
from engine.jobs import Job, JobState, Journal
from engine.lab import Lab
from engine.restore import AtEnd, Entry, Mode, Phase, RestoreJournal, RestorePlan, Settlement
from tests.e2e.conftest import Operator
from tests.e2e.killing import restore_until_killed
from tests.e2e.restored import is_whole, what_is_there
from tests.hosts.live import lab_of_its_own

ASKED_FOR = os.environ.get("NEWHOPE_KILLED_RESTORES")

pytestmark = [pytest.mark.lab, pytest.mark.slow, *([pytest.mark.timeout(7200)] if ASKED_FOR else [])]

HOSTS = ("alderaan", "coruscant")
RANDOM_KILLS = int(ASKED_FOR or 3)
EVERY_SO_MANY_NOTES = 1 if ASKED_FOR else 3


@pytest.fixture(scope="module")
def small() -> Iterator[Lab]:
    with lab_of_its_own(hosts=HOSTS, guests=("web",)) as lab:
        yield lab


@pytest.fixture
def op(small: Lab) -> Iterator[Operator]:
    with HostLanes(small.settings) as lanes, Journal(small.settings.state) as journal:
        yield Operator(small, lanes, journal)


def restores(op: Operator) -> RestoreJournal:
    return RestoreJournal(op.settings.state)


def settle(op: Operator, identity: str, end: AtEnd, *, delete_original: bool = False) -> Job:
    entry = restores(op).find(identity)
    return op.finish(launch_settlement(op.settings, op.journal, entry, Settlement(identity, end, delete_original)))


def resume(op: Operator, entry: Entry) -> Job:
    return op.finish(launch_resume(op.settings, op.journal, entry))


def test_a_restore_killed_after_any_note_of_its_journal_is_undone_completely_or_goes_on(op: Operator):
    point = op.back_up("web")
    before = what_is_there(op)
    whole = op.plan_restore(point, "coruscant", start=False, verify=True)
    notes = restore_until_killed(op, whole.request, "0")
    is_whole(op, whole)
    settle_beside(op, whole)
    assert what_is_there(op) == before

    for note in range(1, notes + 1, EVERY_SO_MANY_NOTES):
        plan = op.plan_restore(point, "coruscant", start=False, verify=True)
        restore_until_killed(op, plan.request, str(note))
        entry = restores(op).find(plan.request.id)
        if note % 2 and entry.phase is Phase.UNDER_WAY:
            job = resume(op, entry)
            assert job.failure is None, (note, job.failure)
            is_whole(op, plan)
            settle_beside(op, plan)
        elif entry.phase is Phase.UNDER_WAY:
            job = settle(op, entry.id, AtEnd.UNDO)
            assert job.failure is None, (note, job.failure)
            assert restores(op).find(entry.id).phase is Phase.UNDONE
        else:
            settle_beside(op, plan)
        assert what_is_there(op) == before, note


def settle_beside(op: Operator, plan: RestorePlan) -> None:
    """Remove what a restore beside the original has left whole and committed."""
    request, lane = plan.request, op.lanes[plan.request.to_host]
    if power.name_of(lane, request.new_uuid) is not None:
        power.power_off(lane, request.new_uuid)
        power.undefine(lane, request.new_uuid)
    for name in volumes.names(lane, request.pool):
        if name.startswith(request.name) or request.id in name:
            volumes.delete(lane, request.pool, name)


@pytest.mark.parametrize("moment", ["set-aside+2", "start+1"])
def test_an_original_that_was_put_aside_is_back_as_it_was_after_a_kill_and_an_undo(op: Operator, moment: str):
    point = op.back_up("web")
    vm = op.vm("web")
    before = what_is_there(op)
    plan = op.plan_restore(point, "alderaan", mode=Mode.REPLACE)

    restore_until_killed(op, plan.request, moment)
    if moment == "set-aside+2":
        # As if it had been killed between the two calls: the original is defined under no name at all.
        power.undefine(op.lanes["alderaan"], vm.uuid, keep_nothing=False)
    job = settle(op, plan.request.id, AtEnd.UNDO)

    assert job.failure is None, job.failure
    op.lab.wait_until_up("alderaan", "web")
    assert what_is_there(op) == before
    again = op.back_up("web")
    assert again.manifest.disks[0].read_reason == f"what was written since web@{point.id[:8]}"


def test_a_restore_killed_at_a_random_moment_leaves_nothing_that_cannot_be_settled(op: Operator):
    point = op.back_up("web")
    before = what_is_there(op)
    chance = random.Random(20261128)
    interrupted = 0

    for number in range(RANDOM_KILLS):
        plan = op.plan_restore(point, "coruscant", start=False)
        job = op.start_restore(plan)
        while restores(op).get(plan.request.id) is None and not op.journal.job(job.id).state.over:
            time.sleep(0.005)
        time.sleep(chance.uniform(0.0, 0.5))
        _kill(op, job)
        job = op.finish(job)
        entry = restores(op).get(plan.request.id)
        if job.state is JobState.LOST and entry is not None and entry.phase is Phase.UNDER_WAY:
            interrupted += 1
            settled = resume(op, entry) if number % 2 else settle(op, entry.id, AtEnd.UNDO)
            assert settled.failure is None, (number, settled.failure)
            if number % 2:
                is_whole(op, plan)
        settle_beside(op, plan)
        assert what_is_there(op) == before, number

    print(f"{RANDOM_KILLS} restores killed at random moments, {interrupted} of them in the middle")


def _kill(op: Operator, job: Job) -> None:
    pid = op.journal.job(job.id).pid
    if pid is not None and not op.journal.job(job.id).state.over:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
