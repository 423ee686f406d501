"""A cold backup whose guest did not shut down: the console asks what the terminal asks, and starts what was chosen."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from engine.backup import Request
from engine.errors import ExitCode
from engine.jobs import Failure, Job, JobState, Journal
from engine.settings import Method
from tests.builders import uuid_of
from tests.tui.consoles import console, front, press, said, sentence, table, tell_jobs
from tests.tui.pictures import busy_fleet, make_job
from tui.actions import Place
from tui.screens.job import JobScreen

COLD = Request(uuid_of("web"), "web", "alderaan", "vault", Method.COLD, shutdown_timeout_s=3)
IGNORED = Failure("web did not shut down within 3s.", "It was not switched off.", "again", ExitCode.GUEST)


def running(request: Request = COLD, job_id: int = 7) -> Job:
    now = datetime.now(UTC)
    return make_job(job_id, spec=msgspec.json.encode(request), created=now, started=now, heartbeat=now)


def ended(job: Job, failure: Failure = IGNORED) -> Job:
    return msgspec.structs.replace(job, state=JobState.FAIL, finished=datetime.now(UTC), failure=failure)


def started(state: Path) -> list[Request]:
    with Journal(state) as journal:
        return [msgspec.json.decode(job.spec, type=Request) for job in journal.jobs()]


async def test_whoever_watches_is_asked_and_neither_enter_nor_a_stray_e_starts_anything(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet(), jobs=[running()]) as (opened, pilot):
        await press(pilot, "2", "enter")
        await tell_jobs(opened, pilot, [ended(running())])

        assert front(opened).place is Place.WHAT_NOW
        assert table(opened, "ways").keys == ("wait", "hot", "stop")
        assert "web did not shut down within 3s." in sentence(opened, "what")
        assert sentence(opened, "way") == "stop make no recovery point"
        await press(pilot, "enter", "E")
        assert front(opened).place is Place.JOB

        await tell_jobs(opened, pilot, [ended(running())])
        assert front(opened).place is Place.JOB
        assert started(tmp_path) == []


@pytest.mark.parametrize(
    ("up", "told", "expected"),
    [
        (2, "wait ask web again, and wait up to 6s", msgspec.structs.replace(COLD, shutdown_timeout_s=6)),
        (1, "hot take it now, while it runs", msgspec.structs.replace(COLD, method=Method.HOT)),
    ],
)
async def test_what_is_chosen_runs_as_a_job_whose_page_is_shown(
    tmp_path: Path, up: int, told: str, expected: Request
) -> None:
    async with console(tmp_path, busy_fleet(), jobs=[running()]) as (opened, pilot):
        await press(pilot, "2", "enter")
        await tell_jobs(opened, pilot, [ended(running())])
        await press(pilot, *["k"] * up)
        assert told in sentence(opened, "way")
        assert "web did not shut down" in said(opened, "notice")

        await press(pilot, "E")
        assert started(tmp_path) == [expected]
        assert isinstance(opened.screen, JobScreen)
        assert opened.screen.job_id == 1
        assert said(opened, "notice").strip() == ""


async def test_who_opens_the_page_later_is_asked_on_request(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet(), jobs=[ended(running())]) as (opened, pilot):
        await press(pilot, "2", "enter")
        assert front(opened).place is Place.JOB
        assert "asks what now" in sentence(opened, "outcome")

        await press(pilot, "A")
        assert front(opened).place is Place.WHAT_NOW
        await press(pilot, "escape")
        assert front(opened).place is Place.JOB


@pytest.mark.parametrize(
    ("jobs", "reason"),
    [
        ([ended(running(msgspec.structs.replace(COLD, hot_if_ignored=True)))], "It asks nothing"),
        ([ended(running(msgspec.structs.replace(COLD, method=Method.HOT)))], "It asks nothing"),
        ([ended(running(), Failure("vault is full.", "All.", "free", ExitCode.NO_SPACE))], "It asks nothing"),
        ([make_job(7, state=JobState.FAIL, created=datetime.now(UTC), failure=IGNORED)], "It asks nothing"),
        ([running(job_id=9), ended(running())], "Job 9 is a newer backup of web"),
    ],
    ids=["taken hot by its level", "hot", "another failure", "an unknown request", "a newer backup"],
)
async def test_nothing_is_asked_where_there_is_nothing_to_ask(tmp_path: Path, jobs: list[Job], reason: str) -> None:
    async with console(tmp_path, busy_fleet(), jobs=jobs) as (opened, pilot):
        await press(pilot, "2")
        table(opened, "jobs").move_to_key("7")
        await press(pilot, "enter", "A")

        assert front(opened).place is Place.JOB
        assert reason in said(opened, "notice")
