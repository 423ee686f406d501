"""Nothing starts by accident: Enter never confirms, E works in a confirmation only, the focus is on Cancel."""

import os
import signal
from pathlib import Path

import pytest

from engine.hosts.model import VmState, Way
from engine.jobs import Journal, launch
from tests.builders import (
    make_fleet,
    make_host,
    make_host_facts,
    make_level,
    make_point,
    make_settings,
    make_vm,
    uuid_of,
)
from tests.tui.consoles import console, front, press, said, screen_text, sentence, settled, table, tell_jobs
from tests.tui.pictures import make_job
from tui.actions import Place
from tui.screens.confirm import Cancel, ConfirmScreen
from tui.viewmodels.text import line


def local_fleet(**changes):
    host = make_host("alderaan", vms=[make_vm("web", **changes)], facts=make_host_facts("alderaan", local=True))
    other = make_host("coruscant", facts=make_host_facts("coruscant", local=True))
    return make_fleet(hosts=[host, other], points=[make_point("web", age="2h"), make_point("web", age="9h")])


def jobs_of(state: Path) -> int:
    with Journal(state) as journal:
        return len(journal.jobs())


SETTINGS = make_settings(hosts=("alderaan", "coruscant"))


async def test_enter_goes_through_the_whole_restore_and_starts_nothing(tmp_path: Path) -> None:
    async with console(tmp_path, local_fleet(), settings=SETTINGS) as (opened, pilot):
        await press(pilot, "R", "enter", "j", "enter", "enter", "space", "enter", "enter")
        assert front(opened).place is Place.CONFIRM
        assert isinstance(opened.focused, Cancel)

        await press(pilot, "enter")
        assert front(opened).place is Place.RESTORE
        assert jobs_of(tmp_path) == 0


async def test_e_does_nothing_outside_a_confirmation(tmp_path: Path) -> None:
    async with console(tmp_path, local_fleet(), settings=SETTINGS) as (opened, pilot):
        await press(pilot, "E", "enter", "E", "R", "E", "enter", "E", "P", "E", "E")

        assert front(opened).place is Place.RESTORE
        assert jobs_of(tmp_path) == 0


async def test_p_shows_the_plan_from_the_first_step(tmp_path: Path) -> None:
    async with console(tmp_path, local_fleet(), settings=SETTINGS) as (opened, pilot):
        await press(pilot, "R", "P")

        assert "WHAT WILL BE DONE" in said(opened, "rule-step")
        assert "write vda" in said(opened, "detail")
        assert "newhope restore web@" in said(opened, "detail")


async def test_a_step_back_keeps_what_was_chosen(tmp_path: Path) -> None:
    async with console(tmp_path, local_fleet(), settings=SETTINGS) as (opened, pilot):
        await press(pilot, "R", "j", "enter", "j", "enter", "h", "h")
        assert "WHICH MOMENT" in said(opened, "rule-step")
        assert table(opened, "choice").cursor == 1

        await press(pilot, "h")
        assert "first step" in said(opened, "notice")


async def test_a_name_is_typed_and_the_plan_follows(tmp_path: Path) -> None:
    async with console(tmp_path, local_fleet(), settings=SETTINGS) as (opened, pilot):
        await press(pilot, "R", "enter", "enter", "space", "ctrl+u", *"web-7", "enter", "P")

        assert "web-7" in said(opened, "title")
        assert "--name web-7" in sentence(opened, "detail")


async def test_reason_and_ticket_are_typed_and_can_be_taken_away_again(tmp_path: Path) -> None:
    async with console(tmp_path, local_fleet(), settings=SETTINGS) as (opened, pilot):
        await press(pilot, "R", "enter", "enter")
        for field, said_of_it in (("reason", "disk died"), ("ticket", "INC-4711")):
            table(opened, "choice").move_to_key(field)
            await press(pilot, "space", *said_of_it.replace(" ", "_"), "enter")
        await press(pilot, "P")
        assert "--reason disk_died --ticket INC-4711" in sentence(opened, "detail")

        await press(pilot, "h", "h")
        table(opened, "choice").move_to_key("reason")
        await press(pilot, "space", "ctrl+u", "enter", "P")
        assert "--reason" not in sentence(opened, "detail")
        assert "--ticket INC-4711" in sentence(opened, "detail")


async def test_a_failed_check_stops_the_way_on_and_says_why(tmp_path: Path) -> None:
    async with console(tmp_path, local_fleet(), settings=SETTINGS) as (opened, pilot):
        await press(pilot, "R", "enter")
        table(opened, "choice").move_to_key("alderaan")
        await press(pilot, "enter", "space", "ctrl+u", *"web", "enter", "enter", "enter")

        assert "WHAT STANDS IN THE WAY" in said(opened, "rule-step")
        assert "A check has failed" in said(opened, "notice")


async def test_a_warning_that_wants_its_name_stops_the_way_on_until_space_accepts_it(tmp_path: Path) -> None:
    async with console(tmp_path, local_fleet(), settings=SETTINGS) as (opened, pilot):
        await press(pilot, "R", "P", "enter")
        assert "Accept first, with Space on its line of the step before (h): original." in sentence(opened, "notice")

        await press(pilot, "h")
        assert "accepts it by its name, original" in sentence(opened, "detail")
        await press(pilot, "space")
        assert "original is accepted" in sentence(opened, "detail")
        await press(pilot, "enter")
        assert sentence(opened, "detail").endswith("--accept original")

        await press(pilot, "h", "space", "enter")
        assert "WHAT STANDS IN THE WAY" in said(opened, "rule-step")


async def test_what_was_accepted_is_of_one_choice(tmp_path: Path) -> None:
    async with console(tmp_path, local_fleet(), settings=SETTINGS) as (opened, pilot):
        await press(pilot, "R", "enter", "j", "enter", "enter", "space", "h")
        table(opened, "choice").move_to_key("MACs")
        await press(pilot, "space", "enter", "enter")

        assert "WHAT STANDS IN THE WAY" in said(opened, "rule-step")
        assert "Accept first" in sentence(opened, "notice")


async def test_a_restore_is_started_by_e_and_its_job_is_shown(tmp_path: Path) -> None:
    async with console(tmp_path, local_fleet(), settings=SETTINGS) as (opened, pilot):
        await press(pilot, "R", "P", "h", "space", "enter", "enter", "E")
        await settled(pilot)

        assert front(opened).place is Place.JOB
        assert jobs_of(tmp_path) == 1


async def test_the_way_out_stays_in_sight_however_much_there_is_to_confirm(tmp_path: Path) -> None:
    async with console(tmp_path, local_fleet(), settings=SETTINGS) as (opened, pilot):
        sentences = tuple(line(f"sentence {number}") for number in range(40))
        opened.push_screen(ConfirmScreen("TAKE AWAY", sentences, verb="takes it away", typed="web"))
        await settled(pilot)
        text = "\n".join(screen_text(opened))
        assert "[ Cancel ]" in text
        assert "E takes it away" in text
        assert "more lines: j" in text
        assert "sentence 39" not in text

        await press(pilot, *["j"] * 40)
        assert "sentence 39" in "\n".join(screen_text(opened))
        assert "more lines" not in "\n".join(screen_text(opened))
        assert isinstance(opened.focused, Cancel)


async def test_a_hot_backup_needs_e_alone(tmp_path: Path) -> None:
    async with console(tmp_path, local_fleet(), settings=SETTINGS) as (opened, pilot):
        await press(pilot, "B")
        assert "it keeps running" in sentence(opened, "plan")

        await press(pilot, "enter")
        assert front(opened).place is Place.CONFIRM
        assert jobs_of(tmp_path) == 0

        await press(pilot, "E")
        await settled(pilot)
        assert front(opened).place is Place.JOB
        assert jobs_of(tmp_path) == 1


async def test_a_cold_backup_of_a_running_vm_asks_for_its_name(tmp_path: Path) -> None:
    async with console(tmp_path, local_fleet(), settings=SETTINGS) as (opened, pilot):
        await press(pilot, "B", "j", "enter", "E")
        assert front(opened).place is Place.CONFIRM
        assert "Type web first" in said(opened, "notice")

        await press(pilot, "shift+tab", "w", "e", "b", "E")
        assert jobs_of(tmp_path) == 0

        await press(pilot, "backspace", "enter")
        assert isinstance(opened.focused, Cancel)
        await press(pilot, "E")
        await settled(pilot)
        assert jobs_of(tmp_path) == 1


async def test_a_cold_backup_of_a_vm_that_is_off_takes_nothing_away(tmp_path: Path) -> None:
    async with console(tmp_path, local_fleet(state=VmState.OFF), settings=SETTINGS) as (opened, pilot):
        await press(pilot, "B", "j", "enter")

        assert "Type web" not in said(opened, "notice")
        assert said(opened, "ask").strip() == ""


async def test_a_second_backup_of_the_same_vm_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        lock = f"vm:{uuid_of('web')}"
        first = launch(journal, "backup", "web", "alderaan", b"{}", lock=lock, argv_prefix=["sleep", "60"])
    try:
        async with console(tmp_path, local_fleet(), settings=SETTINGS) as (opened, pilot):
            await press(pilot, "B", "enter", "E")
            await settled(pilot)

            assert front(opened).place is Place.BACKUP
            assert "job 1 (backup of web) is at work" in opened.picture.problems[0].what
            assert jobs_of(tmp_path) == 1
    finally:
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)


async def test_a_host_out_of_reach_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    host = make_host("alderaan", vms=[make_vm("web")], facts=make_host_facts("alderaan", way=Way.LIBVIRT_ALONE))
    remote = make_fleet(hosts=[host], points=[make_point("web")])
    async with console(tmp_path, remote) as (opened, pilot):
        await press(pilot, "B")
        assert "brings libvirt's words and nothing else" in sentence(opened, "plan")

        await press(pilot, "enter")
        assert front(opened).place is Place.BACKUP


@pytest.mark.parametrize("keys", [("enter",), ("escape",)])
async def test_a_job_is_cancelled_only_by_e(tmp_path: Path, keys: tuple[str, ...]) -> None:
    async with console(tmp_path, local_fleet(), settings=SETTINGS) as (opened, pilot):
        await tell_jobs(opened, pilot, [make_job()])
        await press(pilot, "2", "C")
        assert front(opened).place is Place.CONFIRM
        assert "asked to stop at the next safe place" in said(opened, "what")

        await press(pilot, *keys)
        assert front(opened).place is Place.JOBS


async def test_a_vm_gone_with_its_host_can_be_restored(tmp_path: Path) -> None:
    hosts = [make_host("coruscant", facts=make_host_facts("coruscant", local=True))]
    fleet = make_fleet(hosts=hosts, points=[make_point("web", age="2h")])
    settings = make_settings(hosts=("coruscant",), levels=[make_level()])
    async with console(tmp_path, fleet, settings=settings) as (opened, pilot):
        await press(pilot, "R", "P")

        assert "write vda" in said(opened, "detail")
