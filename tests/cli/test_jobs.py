"""Looking at jobs, following and stopping them."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

from engine.errors import ExitCode
from engine.jobs import JobState, Journal, Knobs, launch
from tests.cli.conftest import Place, Run

PRACTICE_JOB = Path(__file__).parent.parent / "jobs" / "practice_job.py"


def _launch(journal: Journal, **spec: str) -> int:
    prefix = [sys.executable, str(PRACTICE_JOB), str(journal.state_dir)]
    return launch(
        journal,
        "backup",
        "web",
        "alderaan",
        json.dumps(spec).encode(),
        lock="vm:1",
        argv_prefix=prefix,
        again="newhope backup web",
        untouched="Every earlier recovery point is as it was.",
        knobs=Knobs(streams=3),
    ).id


def _launch_waiting(journal: Journal, place: Place) -> int:
    job_id = _launch(journal, do="wait", began=str(place.folder / "began"), until=str(place.folder / "until"))
    ends = time.monotonic() + 60
    while not (place.folder / "began").exists():
        assert time.monotonic() < ends
        time.sleep(0.02)
    return job_id


def test_no_job_yet_says_how_to_start_one(newhope: Run) -> None:
    assert "newhope backup VM" in newhope("jobs").out
    assert newhope("jobs", "show").code == ExitCode.NOT_FOUND


def test_following_ends_with_the_status_of_the_job(newhope: Run, journal: Journal) -> None:
    good = newhope("jobs", "follow", _launch(journal, do="finish"))
    bad = newhope("jobs", "follow", _launch(journal, do="fail"))

    assert good.code == ExitCode.OK
    assert "+ DONE  Everything was written." in good.out
    assert "+ DONE    1/2  read" in good.out
    assert bad.code == ExitCode.NO_SPACE
    assert bad.labels == ["what", "untouched", "next"]
    assert "The pool is full." in bad.err


def test_plain_progress_has_no_cursor_movement(newhope: Run, journal: Journal) -> None:
    answer = newhope("--plain", "jobs", "follow", _launch(journal, do="finish"))

    assert "\r" not in answer.out and "\x1b" not in answer.out


def test_following_as_documents_one_a_line(newhope: Run, journal: Journal) -> None:
    answer = newhope("jobs", "follow", _launch(journal, do="finish"), "--json")

    jobs = [json.loads(line)["job"] for line in answer.out.splitlines()]
    assert jobs[-1]["state"] == "done"
    assert jobs[-1]["steps"][0]["title"] == "read"
    assert jobs[-1]["request"] == {"do": "finish"}


def test_jobs_are_listed_and_shown(newhope: Run, journal: Journal) -> None:
    job_id = _launch(journal, do="defect")
    newhope("jobs", "follow", job_id)

    listed = newhope("jobs")
    shown = newhope("jobs", "show", job_id)

    assert "x FAIL" in listed.out and "web" in listed.out
    assert all(len(line) <= 80 for line in listed.out.splitlines())
    assert "ZeroDivisionError" in shown.out
    assert "newhope backup web" in shown.out
    assert str(journal.output_file(job_id)) in shown.out
    assert newhope("jobs", "--json").document["jobs"][0]["failure"]["exit_code"] == ExitCode.DEFECT


def test_cancel_twice_says_it_was_asked_already(newhope: Run, journal: Journal, place: Place) -> None:
    job_id = _launch_waiting(journal, place)

    first = newhope("jobs", "cancel", job_id)
    second = newhope("jobs", "cancel", job_id)
    end = newhope("jobs", "follow", job_id)
    third = newhope("jobs", "cancel", job_id)

    assert "was asked to stop" in first.out
    assert "already asked" in second.out or "over already" in second.err
    assert end.code == ExitCode.CANCELLED
    assert third.code == ExitCode.CONFLICT


def test_a_job_is_paused_and_slowed_down_and_says_so_wherever_it_is_shown(
    newhope: Run, journal: Journal, place: Place
) -> None:
    job_id = _launch_waiting(journal, place)

    said = newhope("jobs", "set", job_id, "--pause", "--bandwidth", "50M", "--priority", "low", "--streams", "2")
    listed, shown = newhope("jobs"), newhope("jobs", "show", job_id)
    document = newhope("jobs", "set", job_id, "--resume", "--bandwidth", "unlimited", "--json").document["job"]

    knobs = "paused, at most 50MiB/s, priority low, 2 streams"
    assert said.out == f"Job {job_id}, backup of web: {knobs}.\n"
    assert "! PAUSED" in listed.out and "> RUN" not in listed.out
    assert "! PAUSED" in shown.out and knobs in shown.out
    assert document["knobs"] == {"paused": False, "bandwidth": None, "priority": "low", "streams": 2}
    assert newhope("jobs", "cancel", job_id).code == ExitCode.OK
    assert newhope("jobs", "follow", job_id).code == ExitCode.CANCELLED
    assert newhope("jobs", "set", job_id, "--pause").code == ExitCode.CONFLICT


def test_what_cannot_be_set_is_refused_in_one_sentence(newhope: Run, journal: Journal) -> None:
    bare = journal.insert(kind="prune", subject="vault", host="", spec=b"", lock=None, again="", untouched="")

    nothing = newhope("jobs", "set", bare)
    no_knobs = newhope("jobs", "set", bare, "--pause")
    no_rate = newhope("jobs", "set", bare, "--bandwidth", "50")
    nobody = newhope("jobs", "set", 4711, "--pause")

    assert (nothing.code, no_knobs.code, nobody.code) == (ExitCode.USAGE, ExitCode.CONFLICT, ExitCode.NOT_FOUND)
    assert "nothing to set" in nothing.err
    assert f"Job {bare} (prune of vault) cannot be paused" in no_knobs.err
    assert no_rate.code in (ExitCode.USAGE, ExitCode.CONFLICT)


def test_a_killed_job_is_lost_with_the_way_on(newhope: Run, journal: Journal, place: Place) -> None:
    job_id = _launch_waiting(journal, place)
    pid = journal.job(job_id).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)

    answer = newhope("jobs", "follow", job_id)

    assert answer.code == ExitCode.LOST
    assert "newhope backup web" in answer.err
    assert "Every earlier recovery point" in answer.err


def test_ctrl_c_leaves_the_job_running_and_says_how_to_find_it(journal: Journal, place: Place) -> None:
    job_id = _launch_waiting(journal, place)
    follower = subprocess.Popen(
        [*place.command, "jobs", "follow", str(job_id)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert follower.stdout
    follower.stdout.readline()

    follower.send_signal(signal.SIGINT)
    _, error = follower.communicate()
    still = journal.job(job_id).state
    (place.folder / "until").touch()

    assert follower.returncode == ExitCode.INTERRUPTED
    assert f"jobs follow {job_id}" in error
    assert still is JobState.RUN


def test_ctrl_c_on_the_terminal_reaches_the_follower_and_not_the_job(journal: Journal, place: Place) -> None:
    job_id = _launch_waiting(journal, place)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(place.command[0], [*place.command, "jobs", "follow", str(job_id)])
    shown = os.read(terminal, 1000)

    os.write(terminal, b"\x03")
    _, status = os.waitpid(pid, 0)
    os.close(terminal)

    assert b"wait" in shown
    assert os.waitstatus_to_exitcode(status) == ExitCode.INTERRUPTED
    assert journal.job(job_id).state is JobState.RUN
    (place.folder / "until").touch()


def test_a_job_that_runs_is_meant_when_none_is_named(newhope: Run, journal: Journal, place: Place) -> None:
    job_id = _launch_waiting(journal, place)

    shown = newhope("jobs", "show", "--json").document["job"]
    (place.folder / "until").touch()

    assert (shown["id"], shown["state"]) == (job_id, "run")


def test_the_log_of_a_job(newhope: Run, journal: Journal) -> None:
    job_id = _launch(journal, do="finish")
    newhope("jobs", "follow", job_id)

    assert "everything written" in newhope("jobs", "log", job_id).out
    assert newhope("jobs", "log", job_id, "--json").document["log"][0]["text"] == "everything written"
