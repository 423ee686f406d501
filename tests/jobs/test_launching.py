"""A job outlives whoever launched it, and two jobs of one lock never run at once."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.errors import Conflict
from engine.jobs import JobState, Journal, LaunchFailed, launch
from tests.jobs.conftest import PRACTICE_JOB, WaitingJob, outcome, spec, start
from tests.waiting import wait_for

LAUNCHER = """
import sys, time
from pathlib import Path
from engine.jobs import Journal, launch
state, program, spec = sys.argv[1:]
journal = Journal(Path(state))
job = launch(journal, "restore", "web", "yavin", spec.encode(), lock=None, argv_prefix=[sys.executable, program, state])
print("launched", job.id, flush=True)
time.sleep(600)
"""


def test_the_child_has_its_own_session_no_terminal_and_a_private_output_file(
    journal: Journal, waiting: WaitingJob
) -> None:
    started = start(journal, waiting.spec)
    pid = waiting.wait_until_it_works()

    assert pid == started.pid
    assert os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    assert journal.output_file(started.id).stat().st_mode & 0o777 == 0o600


def test_a_job_survives_the_terminal_it_was_launched_from(journal: Journal, waiting: WaitingJob) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        argv = [sys.executable, "-c", LAUNCHER, str(journal.state_dir), str(PRACTICE_JOB), waiting.spec.decode()]
        os.execv(sys.executable, argv)
    waiting.wait_until_it_works()

    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    waiting.let_go()

    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGHUP
    assert outcome(journal, 1).state is JobState.DONE


def test_a_job_survives_the_killing_of_its_launcher(journal: Journal, waiting: WaitingJob) -> None:
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(journal.state_dir), str(PRACTICE_JOB), waiting.spec.decode()],
        stdout=subprocess.PIPE,
    )
    waiting.wait_until_it_works()

    launcher.kill()
    launcher.communicate()
    time.sleep(0.3)
    still = journal.job(1).state
    waiting.let_go()

    assert still is JobState.RUN
    assert outcome(journal, 1).state is JobState.DONE


def test_a_second_job_of_the_same_lock_is_refused_with_the_name_of_the_first(
    journal: Journal, waiting: WaitingJob
) -> None:
    first = start(journal, waiting.spec, lock="vm:1")
    waiting.wait_until_it_works()

    with pytest.raises(Conflict) as refused:
        start(journal, spec("finish"), lock="vm:1")

    assert f"job {first.id} (backup of web)" in refused.value.what
    assert first.operator in refused.value.what
    assert f"newhope jobs follow {first.id}" in refused.value.next_step
    assert [job.id for job in journal.jobs()] == [first.id]


def test_jobs_of_other_locks_run_side_by_side(journal: Journal, waiting: WaitingJob) -> None:
    start(journal, waiting.spec, lock="vm:1")

    second = start(journal, spec("finish"), lock="vm:2")

    assert outcome(journal, second.id).state is JobState.DONE


def test_the_lock_is_free_when_its_job_is_over_or_killed(journal: Journal, waiting: WaitingJob) -> None:
    killed = start(journal, waiting.spec, lock="vm:1")
    os.kill(waiting.wait_until_it_works(), signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{killed.pid}").exists())

    second = start(journal, spec("finish"), lock="vm:1")
    outcome(journal, second.id)
    third = start(journal, spec("finish"), lock="vm:1")

    assert outcome(journal, third.id).state is JobState.DONE
    assert journal.job(killed.id).state is JobState.LOST


def test_of_ten_launchers_of_one_lock_one_wins(journal: Journal, waiting: WaitingJob) -> None:
    race = LAUNCHER.replace("lock=None", "lock='vm:1'").replace("time.sleep(600)", "")
    argv = [sys.executable, "-c", race, str(journal.state_dir), str(PRACTICE_JOB), waiting.spec.decode()]

    launchers = [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(10)]
    answers = [launcher.communicate() for launcher in launchers]

    assert sum(b"launched" in out for out, _ in answers) == 1
    assert sum(b"Conflict" in err for _, err in answers) == 9
    assert len(journal.jobs()) == 1


def test_a_program_that_cannot_be_started_fails_the_job_and_frees_the_lock(journal: Journal) -> None:
    with pytest.raises(LaunchFailed):
        launch(journal, "backup", "web", "h", b"", lock="vm:1", argv_prefix=["/nonexistent/newhope"])

    assert journal.job(1).state is JobState.FAIL
    assert outcome(journal, start(journal, spec("finish"), lock="vm:1").id).state is JobState.DONE


def test_twenty_processes_write_at_once_and_nothing_is_lost(journal: Journal) -> None:
    program = """
import sys
from pathlib import Path
from engine.jobs import Journal
journal = Journal(Path(sys.argv[1]))
for number in range(50):
    journal.append_log(1, "info", f"{sys.argv[2]} {number}")
"""
    outcome(journal, start(journal, json.dumps({"do": "warn"}).encode()).id)

    writers = [
        subprocess.Popen([sys.executable, "-c", program, str(journal.state_dir), str(number)]) for number in range(20)
    ]
    statuses = [writer.wait() for writer in writers]

    lines = journal.log(1)
    assert statuses == [0] * 20
    assert sorted(line.text for line in lines) == sorted(f"{a} {b}" for a in range(20) for b in range(50))
    assert [line.number for line in lines] == list(range(1, 1001))


def test_twenty_processes_create_one_journal_together(state_dir: Path) -> None:
    program = "import sys; from pathlib import Path; from engine.jobs import Journal; Journal(Path(sys.argv[1])).jobs()"

    openers = [subprocess.Popen([sys.executable, "-c", program, str(state_dir)]) for _ in range(20)]

    assert [opener.wait() for opener in openers] == [0] * 20
