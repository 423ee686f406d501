"""A job whose process is gone is LOST, whoever looks, and says how to go on."""

import os
import signal
import sqlite3
import subprocess
import sys

from engine.errors import ExitCode
from engine.jobs import JobState, Journal, StepState
from engine.jobs.lost import LAUNCH_GRACE_S
from engine.jobs.process import ProcessIdentity, alive, identify
from tests.jobs.conftest import WaitingJob, outcome, spec, start
from tests.waiting import wait_for


def test_a_killed_job_is_lost_and_names_the_command_to_run_again(journal: Journal, waiting: WaitingJob) -> None:
    started = start(journal, waiting.spec)
    os.kill(waiting.wait_until_it_works(), signal.SIGKILL)

    job = outcome(journal, started.id)

    assert job.state is JobState.LOST
    assert job.failure is not None
    assert job.failure.untouched == "Every earlier recovery point is as it was."
    assert "`newhope backup web`" in job.failure.next_step
    assert job.failure.exit_code == ExitCode.LOST
    assert job.steps[0].state is StepState.FAIL


def test_a_job_that_died_before_its_work_began_is_lost(journal: Journal) -> None:
    started = start(journal, b"")
    other = _insert(journal)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    identity = identify(dead.pid)
    dead.wait()
    assert identity is not None
    journal.record_process(other, identity)

    assert "died before its work began" in _failure(journal, other)
    # This one's program ran and found a spec that it cannot read: a defect, not a loss.
    assert outcome(journal, started.id).state is JobState.FAIL


def test_a_job_without_a_process_is_given_time_and_then_lost(journal: Journal) -> None:
    job_id = _insert(journal)

    assert journal.job(job_id).state is JobState.QUEUED
    _change(journal, "UPDATE job SET created = created - ?", LAUNCH_GRACE_S)
    assert "was never started" in _failure(journal, job_id)


def test_a_process_of_the_same_number_that_started_at_another_time_is_not_the_jobs(journal: Journal) -> None:
    job_id = _insert(journal)
    mine = identify(os.getpid())
    assert mine is not None

    journal.begin(job_id, ProcessIdentity(mine.pid, mine.start_ticks - 1, mine.boot_id))

    assert "is gone without a last word" in _failure(journal, job_id)


def test_a_restart_of_the_machine_loses_its_jobs(journal: Journal) -> None:
    job_id = _insert(journal)
    mine = identify(os.getpid())
    assert mine is not None

    journal.begin(job_id, ProcessIdentity(mine.pid, mine.start_ticks, "00000000-another-boot"))

    assert "ended with the machine" in _failure(journal, job_id)


def test_a_zombie_counts_as_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    identity = identify(child.pid)
    assert identity is not None

    wait_for(lambda: not alive(identity))

    assert os.path.exists(f"/proc/{child.pid}")
    child.wait()


def test_listing_marks_lost_jobs_too_and_the_filter_sees_it(journal: Journal, waiting: WaitingJob) -> None:
    start(journal, waiting.spec)
    os.kill(waiting.wait_until_it_works(), signal.SIGKILL)
    wait_for(lambda: journal.jobs(states=[JobState.LOST]) != ())

    assert journal.jobs(states=[JobState.RUN, JobState.QUEUED]) == ()


def test_a_late_process_cannot_overwrite_lost(journal: Journal) -> None:
    job_id = _insert(journal)
    _change(journal, "UPDATE job SET created = created - ?", LAUNCH_GRACE_S)
    journal.job(job_id)

    journal.end(job_id, JobState.DONE, steps=(), result="too late")
    mine = identify(os.getpid())
    assert mine is not None

    assert not journal.begin(job_id, mine)
    assert journal.job(job_id).state is JobState.LOST


def test_a_job_that_ends_well_is_never_taken_for_lost(journal: Journal) -> None:
    assert {outcome(journal, start(journal, spec("finish")).id).state for _ in range(5)} == {JobState.DONE}


def _insert(journal: Journal) -> int:
    return journal.insert(kind="backup", subject="web", host="h", spec=b"", lock=None, again="", untouched="")


def _failure(journal: Journal, job_id: int) -> str:
    job = journal.job(job_id)
    assert job.state is JobState.LOST
    assert job.failure is not None
    return job.failure.what


def _change(journal: Journal, statement: str, value: float) -> None:
    with sqlite3.connect(journal.state_dir / "journal.sqlite") as connection:
        connection.execute(statement, (value,))
