from pathlib import Path

import pytest

from engine.fleet import save_cache
from engine.hosts.model import HostStatus
from tests.builders import make_fleet, make_host, make_point, make_settings, make_vm, uuid_of
from tests.tui.consoles import console, front, press, said, screen_text, shifted, table, tell_fleet
from tests.tui.pictures import busy_fleet

SIZES = [(60, 20), (80, 24), (140, 40)]


@pytest.mark.parametrize("size", SIZES)
async def test_hosts_and_vms_are_there_at_every_size(tmp_path: Path, size: tuple[int, int]) -> None:
    async with console(tmp_path, busy_fleet(), size=size) as (opened, _):
        text = "\n".join(screen_text(opened))

        assert all(name in text for name in ("alderaan", "coruscant", "yavin", "web", "db", "mail", "build"))
        assert all(len(line) == size[0] for line in screen_text(opened))
        assert len(screen_text(opened)) == size[1]


async def test_the_cursor_begins_on_the_worst_protected_vm(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet()) as (opened, _):
        assert table(opened, "vms").key == uuid_of("build")
        assert table(opened, "vms").has_focus


async def test_the_cursor_stays_on_its_vm_when_rows_come_go_and_change(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet()) as (opened, pilot):
        await press(pilot, "j", "j")
        assert table(opened, "vms").key == uuid_of("mail")

        hosts = [
            make_host("alderaan", vms=[make_vm("aaa"), make_vm("web"), make_vm("mail")]),
            make_host("coruscant", vms=[make_vm("zzz")]),
            make_host("yavin"),
        ]
        await tell_fleet(
            opened, pilot, make_fleet(hosts=hosts, points=[make_point("aaa"), make_point("mail", age="9d")])
        )

        assert table(opened, "vms").key == uuid_of("mail")


async def test_rows_do_not_move_by_themselves_once_the_operator_is_among_them(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet()) as (opened, pilot):
        await press(pilot, "j")
        before = table(opened, "vms").keys
        late = make_fleet(hosts=busy_fleet().snapshots, points=[make_point("build"), make_point("web", age="9d")])

        await tell_fleet(opened, pilot, late)
        assert table(opened, "vms").keys == before

        await press(pilot, "s")
        assert table(opened, "vms").keys != before
        assert table(opened, "vms").key == uuid_of("db")


async def test_a_vm_that_disappears_gives_its_place_to_the_next_one(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet()) as (opened, pilot):
        await press(pilot, "j")
        assert table(opened, "vms").key == uuid_of("db")
        hosts = [
            make_host("alderaan", vms=[make_vm("web"), make_vm("mail")]),
            make_host("coruscant", vms=[make_vm("build")]),
        ]

        await tell_fleet(opened, pilot, make_fleet(hosts=hosts, points=[make_point("web"), make_point("mail")]))

        assert table(opened, "vms").key == uuid_of("mail")


async def test_enter_opens_a_vm_and_escape_comes_back(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet()) as (opened, pilot):
        await press(pilot, "enter")
        assert said(opened, "title").strip().startswith("newhope  Fleet > coruscant > build")

        await press(pilot, "escape")
        assert front(opened).place.value == "Fleet"


async def test_a_dead_host_is_a_row_with_its_reason_and_the_others_are_fine(tmp_path: Path) -> None:
    fleet = make_fleet(
        hosts=[make_host("alderaan", status=HostStatus.OFFLINE), make_host("coruscant", vms=[make_vm()])]
    )
    async with console(tmp_path, fleet, settings=make_settings(hosts=("alderaan", "coruscant"))) as (opened, pilot):
        text = screen_text(opened)
        assert any("alderaan" in line and "x OFFLINE" in line for line in text)
        assert any("web" in line and "RUN" in line for line in text)
        assert "1 of 2 hosts away" in text[0]

        await press(pilot, "shift+tab")
        await press(pilot, "j")
        assert any("no route to host" in line for line in screen_text(opened))


async def test_another_host_shows_its_vms_only(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet()) as (opened, pilot):
        await press(pilot, "shift+tab", "j", "j")

        assert table(opened, "vms").keys == (uuid_of("build"),)
        assert "VMS on coruscant (1)" in said(opened, "rule-vms")


async def test_a_filter_is_applied_while_it_is_typed_and_cleared_by_escape(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet()) as (opened, pilot):
        await press(pilot, "slash", "m", "a", "i")
        assert table(opened, "vms").keys == (uuid_of("mail"),)

        await press(pilot, "enter")
        assert table(opened, "vms").has_focus
        assert "filter: mai" in said(opened, "rule-vms")

        await press(pilot, "escape")
        assert len(table(opened, "vms").keys) == 4


async def test_letters_in_the_filter_are_text_and_not_keys(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet()) as (opened, pilot):
        await press(pilot, "slash", "q", "B", "R")

        assert front(opened).place.value == "Fleet"
        assert opened.is_running


async def test_faults_only_and_everything_again(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet()) as (opened, pilot):
        await press(pilot, "f")
        assert set(table(opened, "vms").keys) == {uuid_of("build"), uuid_of("db")}

        await press(pilot, "f")
        assert len(table(opened, "vms").keys) == 4


async def test_settings_without_hosts_say_what_to_do(tmp_path: Path) -> None:
    empty = make_settings(hosts=(), repositories=(), levels=())
    async with console(tmp_path, make_fleet(hosts=(), repositories=()), settings=empty) as (opened, pilot):
        assert "newhope init" in "\n".join(screen_text(opened))

        await press(pilot, "B", "R", "enter", "3", "2", "1")
        assert front(opened).place.value == "Fleet"


async def test_the_first_paint_is_what_was_remembered_and_says_so(tmp_path: Path) -> None:
    from datetime import UTC, datetime

    save_cache(tmp_path, shifted(busy_fleet(), datetime.now(UTC)))

    async with console(tmp_path) as (opened, pilot):
        await pilot.pause()

        assert "REMEMBERED" in screen_text(opened)[0]
        assert any("web" in line for line in screen_text(opened))


async def test_nothing_known_yet_is_loading(tmp_path: Path) -> None:
    async with console(tmp_path) as (opened, pilot):
        await pilot.pause()

        assert "LOADING" in screen_text(opened)[0]
        assert any("? ASKING" in line for line in screen_text(opened))


async def test_a_key_that_cannot_be_used_now_says_why(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet()) as (opened, pilot):
        await press(pilot, "R")

        assert front(opened).place.value == "Fleet"
        assert "build has no recovery point" in said(opened, "notice")
        assert "R restore" not in said(opened, "keys").replace("(R restore)", "")


async def test_a_paused_picture_stands_still_and_says_so(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet()) as (opened, pilot):
        await press(pilot, "p")
        await tell_fleet(opened, pilot, make_fleet(hosts=[make_host("alderaan")]))
        assert "PAUSED" in said(opened, "title")
        assert len(table(opened, "vms").keys) == 4

        await press(pilot, "p")
        assert "PAUSED" not in said(opened, "title")
        assert len(table(opened, "vms").keys) == 0


async def test_a_wide_terminal_shows_the_vm_under_the_cursor_and_the_repositories(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet(), size=(140, 40)) as (opened, pilot):
        assert "build has no recovery point" in said(opened, "glance")
        assert table(opened, "repositories").keys == ("vault",)

        await press(pilot, "j")
        assert "gold: lose at most 1h" in said(opened, "glance")


async def test_a_smaller_window_is_laid_out_anew(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet(), size=(140, 40)) as (opened, pilot):
        await pilot.resize_terminal(60, 20)
        await pilot.pause(0.3)

        assert all(len(line) == 60 for line in screen_text(opened))
        assert any("build" in line for line in screen_text(opened))
