from datetime import timedelta

import pytest
from msgspec.structs import replace

from engine.jobs import Failure, JobState, LogLine, RateMeter, Step, StepState
from tests.builders import GIB, MIB, NOW, ago
from tests.tui.pictures import make_job, make_picture, row_of, texts
from tui.viewmodels.job_lines import (
    cancel_lines,
    counts_line,
    headline,
    job_table,
    log_lines,
    outcome_lines,
    step_lines,
)
from tui.viewmodels.text import plain_text

COPYING = make_job(
    steps=(
        Step(1, "fix the moment of all disks", StepState.DONE, ago("1m"), ago("50s"), note="frozen for 0.2 s"),
        Step(2, "read vda", StepState.RUN, ago("50s"), None, done_bytes=512 * MIB, total_bytes=GIB),
        Step(3, "commit the recovery point", StepState.WAIT),
    )
)


def test_a_running_job_tells_how_far_how_fast_and_how_long() -> None:
    meter = RateMeter().seen(0, 0).seen(5, 500 * MIB).seen(10, 512 * MIB)
    picture = make_picture(jobs=[COPYING])

    row = row_of(job_table(picture, {7: meter}, 80), "7")

    assert (row["state"], row["done"], row["rate"], row["left"]) == ("> RUN", "50%", "51 MiB/s", "0:10")
    assert plain_text(headline(COPYING, meter, picture)).startswith("RUN  50%  of 1.0 GiB  51 MiB/s  left about 0:10")


def test_a_job_that_nobody_has_watched_yet_claims_no_rate() -> None:
    row = row_of(job_table(make_picture(jobs=[COPYING]), {}, 80), "7")

    assert (row["rate"], row["left"]) == ("", "")


def test_steps_have_their_word_bytes_and_time() -> None:
    lines = texts(step_lines(COPYING, make_picture(jobs=[COPYING]), 78))

    assert lines[0].startswith(" ok    1 fix the moment of all disks")
    assert lines[0].endswith("0:10")
    assert lines[1].strip() == "frozen for 0.2 s"
    assert "[" not in lines[2] and "#####-----" in lines[2] and "512 MiB of 1.0 GiB" in lines[2]
    assert lines[3].startswith(" wait  3 commit")


@pytest.mark.parametrize("width", [58, 78, 138])
def test_no_step_is_wider_than_the_screen(width: int) -> None:
    long = replace(COPYING, steps=tuple(replace(step, title=step.title * 5) for step in COPYING.steps))

    assert all(len(text) <= width for text in texts(step_lines(long, make_picture(), width)))


def test_a_failed_job_says_what_what_is_untouched_and_what_to_do() -> None:
    failure = Failure("vault is full.", "Every earlier recovery point.", "free 2 GiB, then try again", 8)
    job = make_job(state=JobState.FAIL, failure=failure, again="newhope backup web", finished=NOW)

    said = texts(outcome_lines(job, make_picture(jobs=[job]), 78))

    assert said[0] == "WHAT       vault is full."
    assert said[1] == "UNTOUCHED  Every earlier recovery point."
    assert said[2] == "NEXT       free 2 GiB, then try again"
    assert said[3] == "AGAIN      newhope backup web"


def test_a_lost_job_shows_the_way_on() -> None:
    job = make_job(state=JobState.LOST, again="newhope backup web", untouched="Earlier points are whole.")

    said = "\n".join(texts(outcome_lines(job, make_picture(jobs=[job]), 78)))

    assert "gone without a last word" in said
    assert "Earlier points are whole." in said
    assert "newhope backup web" in said


def test_a_running_job_says_that_it_outlives_the_console() -> None:
    said = " ".join(texts(outcome_lines(COPYING, make_picture(), 78)))

    assert "closing the console" in said
    assert "No sign of life" not in said


def test_a_silent_job_says_for_how_long() -> None:
    silent = replace(COPYING, heartbeat=ago("3m"))

    assert "No sign of life for 3m." in " ".join(texts(outcome_lines(silent, make_picture(), 78)))


def test_a_job_that_was_asked_to_stop_says_so() -> None:
    job = replace(COPYING, cancel_asked=True)

    assert "cancelling" in plain_text(headline(job, None, make_picture(jobs=[job])))


def test_the_result_of_a_job_is_its_report() -> None:
    job = make_job(state=JobState.DONE, result="web is back.", finished=NOW + timedelta(seconds=61))

    assert texts(outcome_lines(job, make_picture(), 78))[0] == "RESULT     web is back."
    assert "took 1:01" in plain_text(headline(job, None, make_picture()))


def test_only_what_ended_in_the_last_day_is_counted() -> None:
    jobs = [
        COPYING,
        make_job(1, state=JobState.DONE, finished=ago("1h")),
        make_job(2, state=JobState.FAIL, finished=ago("2h")),
        make_job(3, state=JobState.FAIL, finished=ago("2d")),
    ]

    assert plain_text(counts_line(make_picture(jobs=jobs))) == "RUN 1   in 24 h:  DONE 1  FAIL 1  "


def test_faults_and_filters_choose_jobs() -> None:
    jobs = [COPYING, make_job(2, state=JobState.FAIL, subject="db", finished=ago("2h"))]
    picture = make_picture(jobs=jobs)

    assert [row.key for row in job_table(picture, {}, 80, faults_only=True).rows] == ["2"]
    assert [row.key for row in job_table(picture, {}, 80, wanted="web").rows] == ["7"]


def test_no_job_yet_says_how_to_start_one() -> None:
    assert "B backs a VM up" in texts(job_table(make_picture(), {}, 80).empty)[1]


def test_log_lines_have_times_and_levels_in_words() -> None:
    said = texts(log_lines((LogLine(1, NOW, "warn", "agent is slow"),), 78))

    assert said[0].endswith("WARN agent is slow")


def test_cancelling_says_what_stays() -> None:
    assert any("Every earlier one stays" in text for text in texts(cancel_lines(COPYING)))


def test_when_all_bytes_are_moved_the_steps_tell_how_far_it_is() -> None:
    steps = tuple(
        replace(step, done_bytes=step.total_bytes, state=StepState.DONE) if step.number < 3 else step
        for step in COPYING.steps
    )
    job = replace(COPYING, steps=(*steps[:2], replace(steps[2], state=StepState.RUN)))

    assert row_of(job_table(make_picture(jobs=[job]), {}, 80), "7")["done"] == "3/3"
    assert plain_text(headline(job, None, make_picture(jobs=[job]))).startswith("RUN  step 3/3")
