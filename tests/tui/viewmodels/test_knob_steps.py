import pytest
from msgspec.structs import replace

from engine.jobs import MOST_STREAMS, JobState, Knobs
from tests.builders import MIB, NOW
from tests.tui.pictures import make_job, make_picture, row_of, texts
from tui.viewmodels import knob_steps
from tui.viewmodels.job_lines import headline, job_table, outcome_lines
from tui.viewmodels.text import plain_text


def test_the_limit_goes_down_to_one_mebibyte_and_up_to_none() -> None:
    knobs = Knobs()
    down = []
    for _ in range(len(knob_steps.RATES) + 1):
        knobs = knob_steps.slower(knobs)
        down.append(knobs.bandwidth)
    for _ in range(len(knob_steps.RATES) + 1):
        knobs = knob_steps.faster(knobs)

    assert down == [*reversed(knob_steps.RATES), MIB]
    assert knobs.bandwidth is None


def test_a_limit_from_the_command_line_moves_to_the_next_step() -> None:
    odd = Knobs(bandwidth=33 * MIB)

    assert knob_steps.slower(odd).bandwidth == 20 * MIB
    assert knob_steps.faster(odd).bandwidth == 50 * MIB


def test_streams_stay_within_their_bounds_and_out_of_jobs_without_them() -> None:
    assert knob_steps.fewer_streams(Knobs(streams=1)).streams == 1
    assert knob_steps.more_streams(Knobs(streams=MOST_STREAMS)).streams == MOST_STREAMS
    assert knob_steps.more_streams(Knobs()).streams is None


@pytest.mark.parametrize(
    ("job", "why"),
    [
        (None, "no such job"),
        (make_job(state=JobState.DONE, finished=NOW, knobs=Knobs()), "over already"),
        (make_job(), "cannot be paused"),
        (make_job(knobs=Knobs(streams=2)), None),
    ],
)
def test_why_a_job_cannot_be_set(job, why: str | None) -> None:
    said = knob_steps.why_not_set(job)

    assert said is None if why is None else why in (said or "")
    assert knob_steps.why_no_streams(make_job(knobs=Knobs())) == "Only a restore takes another number of streams."


def test_a_paused_job_says_so_in_words_and_claims_no_rate() -> None:
    paused = make_job(knobs=Knobs(paused=True, bandwidth=50 * MIB))
    picture = make_picture(jobs=[paused])

    assert row_of(job_table(picture, {}, 80), "7")["state"] == "! PAUSED"
    assert plain_text(headline(paused, None, picture)).startswith("PAUSED")
    assert "at most 50MiB/s (< >)" in texts(outcome_lines(paused, picture, 78))[0]
    assert (
        row_of(job_table(picture, {}, 80), "7")["state"]
        != row_of(job_table(make_picture(jobs=[replace(paused, knobs=Knobs())]), {}, 80), "7")["state"]
    )
