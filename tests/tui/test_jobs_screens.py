from datetime import UTC, datetime, timedelta
from pathlib import Path

from engine.jobs import Failure, JobState, Journal, Knobs, LogLine, Priority, Step, StepState
from tests.builders import MIB
from tests.tui.consoles import console, front, press, said, screen_text, settled, table, tell_jobs
from tests.tui.pictures import busy_fleet, make_job
from tui.actions import Place
from tui.destination import Destination
from tui.gateway import JobsArrived


def running(job_id: int = 7, done: int = 100):
    steps = (Step(1, "read vda", StepState.RUN, datetime.now(UTC), None, done * MIB, 1000 * MIB),)
    now = datetime.now(UTC)
    return make_job(job_id, steps=steps, started=now, created=now, heartbeat=now)


async def test_jobs_that_ran_before_the_console_opened_are_there(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet(), jobs=[running()]) as (opened, pilot):
        assert "jobs 1 running" in said(opened, "summary")

        await press(pilot, "2")
        assert "10%" in "\n".join(screen_text(opened))
        assert "closing the console" in said(opened, "job")


async def test_progress_arrives_while_the_job_is_watched(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet(), jobs=[running()]) as (opened, pilot):
        await press(pilot, "2", "enter")
        assert front(opened).place is Place.JOB
        assert "100 MiB of 1000 MiB" in said(opened, "steps")

        await tell_jobs(opened, pilot, [running(done=500)])
        assert "500 MiB of 1000 MiB" in said(opened, "steps")
        assert "50%" in said(opened, "summary")


async def test_a_new_job_comes_on_top_and_the_cursor_stays_with_its_own(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet(), jobs=[running(7)]) as (opened, pilot):
        await press(pilot, "2")
        await tell_jobs(opened, pilot, [running(8), running(7)])

        assert table(opened, "jobs").keys == ("8", "7")
        assert table(opened, "jobs").key == "7"


async def test_a_failed_job_is_a_problem_until_it_is_dismissed(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    failed = make_job(
        state=JobState.FAIL,
        created=now,
        finished=now,
        failure=Failure("vault is full.", "All points.", "free 2 GiB", 8),
    )
    async with console(tmp_path, busy_fleet(), jobs=[failed]) as (opened, pilot):
        assert "vault is full." in said(opened, "notice")

        await press(pilot, "exclamation_mark")
        assert "free 2 GiB" in said(opened, "problem")

        await press(pilot, "d", "escape")
        assert said(opened, "notice").strip() == ""


async def test_a_lost_job_shows_how_to_go_on(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    lost = make_job(state=JobState.LOST, created=now, again="newhope backup web", untouched="Earlier points are whole.")
    async with console(tmp_path, busy_fleet(), jobs=[lost]) as (opened, pilot):
        await press(pilot, "2", "enter")

        assert "LOST" in said(opened, "outcome")
        assert "newhope backup web" in said(opened, "outcome")


async def test_a_job_that_is_over_cannot_be_cancelled_and_says_so(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    done = make_job(state=JobState.DONE, created=now, finished=now)
    async with console(tmp_path, busy_fleet(), jobs=[done]) as (opened, pilot):
        await press(pilot, "2", "C")

        assert front(opened).place is Place.JOBS
        assert "over already" in said(opened, "notice")


async def test_a_job_is_paused_slowed_down_and_given_streams_by_single_keys(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        job_id = journal.insert(
            kind="restore",
            subject="web",
            host="yavin",
            spec=b"{}",
            lock=None,
            again="",
            untouched="",
            knobs=Knobs(streams=3),
        )
        async with console(tmp_path, busy_fleet(), jobs=[journal.job(job_id)]) as (opened, pilot):
            await press(pilot, "2", "enter")
            assert "no limit (< >), priority normal (t), 3 streams (- +)" in " ".join(said(opened, "outcome").split())

            for key, knobs in (
                ("space", Knobs(paused=True, streams=3)),
                ("less_than_sign", Knobs(True, 500 * MIB, streams=3)),
                ("plus", Knobs(True, 500 * MIB, streams=4)),
                ("t", Knobs(True, 500 * MIB, Priority.HIGH, 4)),
                ("greater_than_sign", Knobs(True, None, Priority.HIGH, 4)),
                ("minus", Knobs(True, None, Priority.HIGH, 3)),
            ):
                await press(pilot, key)
                await settled(pilot)
                assert journal.job(job_id).knobs == knobs
            assert "paused, no limit, priority high, 3 streams" in said(opened, "notice")

            await tell_jobs(opened, pilot, [journal.job(job_id)])
            assert said(opened, "summary").strip().startswith("PAUSED")
            await press(pilot, "escape", "space")
            await settled(pilot)
            assert journal.job(job_id).knobs == Knobs(False, None, Priority.HIGH, 3)


async def test_a_job_without_knobs_says_why_it_cannot_be_paused(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet(), jobs=[running()]) as (opened, pilot):
        await press(pilot, "2", "space")
        assert "A backup cannot be paused or slowed down." in said(opened, "notice")

        await press(pilot, "enter", "plus")
        assert "A backup cannot be paused or slowed down." in said(opened, "notice")


async def test_the_step_at_work_is_in_sight_and_every_other_step_can_be_read(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    steps = tuple(
        Step(number, f"step {number}", StepState.DONE if number < 15 else StepState.RUN, now, None, note="a note")
        for number in range(1, 21)
    )
    job = make_job(steps=steps, started=now, created=now, heartbeat=now)
    async with console(tmp_path, busy_fleet(), jobs=[job]) as (opened, pilot):
        await press(pilot, "2", "enter")
        assert any("step 15" in text for text in screen_text(opened))
        assert not any("step 1 " in text for text in screen_text(opened))
        assert any("more lines: Tab, then j" in text for text in screen_text(opened))

        await press(pilot, "shift+tab", "g")
        await tell_jobs(opened, pilot, [job])
        assert any("step 1 " in text for text in screen_text(opened))


async def test_the_log_follows_its_end_unless_the_operator_reads_further_up(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet(), jobs=[running()]) as (opened, pilot):
        await press(pilot, "2", "enter")

        def log(count: int) -> JobsArrived:
            start = datetime.now(UTC)
            lines = tuple(LogLine(n, start + timedelta(seconds=n), "info", f"line {n}") for n in range(count))
            return JobsArrived((running(),), 7, lines)

        opened.post_message(log(60))
        await settled(pilot)
        assert any("line 59" in line for line in screen_text(opened))

        await press(pilot, "g")
        opened.post_message(log(80))
        await settled(pilot)
        assert any("line 0" in line for line in screen_text(opened))
        assert "G goes to the newest" in said(opened, "rule-log")


async def test_the_log_goes_on_following_when_steps_take_its_room(tmp_path: Path) -> None:
    def told(steps: int, lines: int) -> JobsArrived:
        now = datetime.now(UTC)
        done = tuple(Step(n, f"step {n}", StepState.DONE, now, now, 0, 0) for n in range(1, steps + 1))
        job = make_job(7, steps=done, started=now, created=now, heartbeat=now)
        return JobsArrived((job,), 7, tuple(LogLine(n, now, "info", f"line {n}") for n in range(lines)))

    async with console(tmp_path, busy_fleet(), jobs=[running()]) as (opened, pilot):
        await press(pilot, "2", "enter")
        for steps, lines in ((0, 3), (9, 8), (9, 12)):
            opened.post_message(told(steps, lines))
            await settled(pilot)

        assert any("line 11" in line for line in screen_text(opened))
        assert "G goes to the newest" not in said(opened, "rule-log")


async def test_the_console_can_be_opened_on_one_job(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet(), jobs=[running()], destination=Destination("job", "7")) as (
        opened,
        pilot,
    ):
        await settled(pilot)

        assert front(opened).place is Place.JOB
        assert "Jobs > 7" in said(opened, "title")


async def test_the_console_can_be_opened_on_one_vm(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet(), destination=Destination("vm", "web")) as (opened, pilot):
        await settled(pilot)

        assert "alderaan > web" in said(opened, "title")


async def test_a_mode_key_comes_back_to_the_first_screen_of_its_mode(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet(), jobs=[running()]) as (opened, pilot):
        await press(pilot, "enter", "3", "2", "1")
        assert front(opened).place is Place.VM

        await press(pilot, "1")
        assert front(opened).place is Place.FLEET


async def test_quitting_says_which_jobs_go_on(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet(), jobs=[running()]) as (opened, pilot):
        await press(pilot, "q")

        assert opened.running_jobs() == ("7 (backup web)",)
        assert opened.return_value == 0


async def test_help_lists_the_keys_of_the_screen_it_was_called_from(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet()) as (opened, pilot):
        await press(pilot, "question_mark")
        assert front(opened).place is Place.HELP
        assert "Plan a restore" in said(opened, "sheet")
        assert "not now: build has no recovery point" in said(opened, "sheet")

        await press(pilot, "escape")
        assert front(opened).place is Place.FLEET


async def test_a_text_is_copied_and_kept_in_a_file_as_well(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet()) as (opened, pilot):
        await press(pilot, "Y")

        assert (tmp_path / "copied.txt").read_text() == "newhope points build\n"
        assert "Copied; also in" in said(opened, "notice")


async def test_the_palette_offers_what_the_keys_offer(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet()) as (opened, _):
        titles = [command.title for command in opened.get_system_commands(opened.screen)]

        assert "backup (B)" in titles
        assert not any("EXECUTE" in title for title in titles)
