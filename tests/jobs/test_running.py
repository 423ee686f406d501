"""What a job's process writes down, whatever comes of its work."""

import os
import signal
from itertools import pairwise
from threading import Thread

import pytest

from engine.errors import Conflict, ExitCode
from engine.jobs import CancelAnswer, JobState, Journal, StepState, follow, run
from tests.jobs.conftest import WaitingJob, outcome, spec, start
from tests.waiting import wait_for


def test_a_job_ends_done_with_its_steps_bytes_log_and_sentence(journal: Journal) -> None:
    started = start(journal, spec("finish"))

    job = outcome(journal, started.id)

    assert job.state is JobState.DONE
    assert job.result == "Everything was written."
    assert [(step.title, step.state, step.done_bytes, step.note) for step in job.steps] == [
        ("read", StepState.DONE, 100, "all of it"),
        ("write", StepState.DONE, 0, ""),
    ]
    assert (job.done_bytes, job.total_bytes) == (100, 100)
    assert [line.text for line in journal.log(job.id)] == ["everything written"]
    assert job.started and job.finished and job.created <= job.started <= job.finished


def test_a_job_that_asks_to_be_read_ends_warn(journal: Journal) -> None:
    job = outcome(journal, start(journal, spec("warn")).id)

    assert (job.state, job.result) == (JobState.WARN, "Written, but the guest was not frozen.")


def test_an_error_is_kept_with_its_three_sentences_and_the_waiting_steps_are_skipped(journal: Journal) -> None:
    job = outcome(journal, start(journal, spec("fail")).id)

    assert job.state is JobState.FAIL
    assert job.failure is not None
    assert job.failure.what == "The pool is full."
    assert job.failure.next_step == "free 3 GiB."
    assert job.failure.exit_code == ExitCode.NO_SPACE
    assert [step.state for step in job.steps] == [StepState.FAIL, StepState.SKIP]


def test_a_defect_puts_its_traceback_in_the_output_file_and_not_in_the_journal(journal: Journal) -> None:
    job = outcome(journal, start(journal, spec("defect")).id)

    assert job.state is JobState.FAIL
    assert job.failure is not None
    assert "ZeroDivisionError" in job.failure.what
    assert str(journal.output_file(job.id)) in job.failure.next_step
    assert "Traceback" not in repr(job)
    assert "Traceback" in journal.output_file(job.id).read_text()
    assert job.steps[0].state is StepState.FAIL


def test_cancel_stops_the_work_at_its_next_clean_place(journal: Journal, waiting: WaitingJob) -> None:
    started = start(journal, waiting.spec)
    waiting.wait_until_it_works()

    first = journal.ask_cancel(started.id)
    second = journal.ask_cancel(started.id)
    job = outcome(journal, started.id)

    assert (first, second) == (CancelAnswer.ASKED, CancelAnswer.ALREADY_ASKED)
    assert job.state is JobState.CANCELLED
    assert job.failure is not None
    assert job.failure.exit_code == ExitCode.CANCELLED
    assert journal.ask_cancel(started.id) is CancelAnswer.OVER


def test_a_job_that_was_cancelled_before_it_began_does_no_work(journal: Journal, waiting: WaitingJob) -> None:
    job_id = journal.insert(kind="backup", subject="web", host="h", spec=b"", lock=None, again="", untouched="")
    journal.ask_cancel(job_id)

    code = run(journal, job_id, lambda job, context: pytest.fail("it worked"))

    assert code is ExitCode.CANCELLED
    assert journal.job(job_id).state is JobState.CANCELLED


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_that_asks_to_end_cancels(journal: Journal, waiting: WaitingJob, number: signal.Signals) -> None:
    started = start(journal, waiting.spec)
    pid = waiting.wait_until_it_works()

    os.kill(pid, number)

    assert outcome(journal, started.id).state is JobState.CANCELLED


def test_a_hangup_is_ignored(journal: Journal, waiting: WaitingJob) -> None:
    started = start(journal, waiting.spec)
    pid = waiting.wait_until_it_works()

    os.kill(pid, signal.SIGHUP)
    waiting.let_go()

    assert outcome(journal, started.id).state is JobState.DONE


def test_progress_is_written_while_the_work_goes_on_and_no_more_than_four_times_a_second(
    journal: Journal, waiting: WaitingJob
) -> None:
    started = start(journal, waiting.spec)
    waiting.wait_until_it_works()
    seen = []

    for job in follow(journal, started.id, look_s=0.01):
        seen.append((job.heartbeat, job.done_bytes))
        if len(seen) == 8:
            waiting.let_go()

    bytes_seen = [done_bytes for _, done_bytes in seen]
    beats = sorted({heartbeat for heartbeat, _ in seen if heartbeat is not None})
    assert bytes_seen == sorted(bytes_seen)
    assert bytes_seen[-1] > bytes_seen[0]
    # 250 ms between two pulses; steps that begin or end, at both ends of the row, may come between them.
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(beats[2:-2])]
    assert all(gap > 0.2 for gap in gaps), gaps


def test_a_job_is_run_only_once(journal: Journal) -> None:
    started = start(journal, spec("finish"))
    outcome(journal, started.id)

    with pytest.raises(Conflict, match="done"):
        run(journal, started.id, lambda job, context: "again")


def test_several_threads_advance_one_step_without_losing_a_byte(journal: Journal) -> None:
    job_id = journal.insert(kind="backup", subject="web", host="h", spec=b"", lock=None, again="", untouched="")

    def work(job: object, context: object) -> str:
        with context.step("read", total_bytes=40_000) as step:
            threads = [Thread(target=lambda: [step.advance(1) for _ in range(10_000)]) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return "read"

    run(journal, job_id, work)

    assert journal.job(job_id).done_bytes == 40_000


def test_follow_ends_at_once_on_a_job_that_is_over(journal: Journal) -> None:
    started = start(journal, spec("finish"))
    wait_for(lambda: journal.job(started.id).state.over)

    assert [job.state for job in follow(journal, started.id)] == [JobState.DONE]
