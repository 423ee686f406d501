from pathlib import Path

from engine.restore import Phase, RestoreJournal
from tests.tui.consoles import console, front, press, said, screen_text, settled, table, tell_jobs
from tests.tui.pictures import busy_fleet, make_restore
from tui.actions import Place
from tui.destination import Destination
from tui.screens.confirm import ConfirmScreen


async def test_restores_are_listed_with_what_can_be_done(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet()) as (opened, pilot):
        await tell_jobs(opened, pilot, restores=[make_restore("0000aaaa"), make_restore("0000bbbb", phase=Phase.KEPT)])
        await press(pilot, "4")

        assert front(opened).place is Place.RESTORES
        assert table(opened, "restores").keys == ("0000bbbb", "0000aaaa")
        assert "C keeps it for good; U takes it back" in said(opened, "restore")


async def test_what_cannot_be_done_says_why_and_asks_nothing(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet()) as (opened, pilot):
        await tell_jobs(opened, pilot, restores=[make_restore("0000aaaa")])
        await press(pilot, "4", "U")

        assert front(opened).place is Place.RESTORES
        assert "Restore 0000aaaa is committed" in said(opened, "notice")


async def test_taking_back_asks_for_the_name_and_enter_starts_nothing(tmp_path: Path) -> None:
    kept = make_restore("0000bbbb", phase=Phase.KEPT)
    async with console(tmp_path, busy_fleet()) as (opened, pilot):
        RestoreJournal(tmp_path).save(kept)
        await tell_jobs(opened, pilot, restores=[kept])
        await press(pilot, "4", "U")

        assert isinstance(opened.screen, ConfirmScreen)
        assert "is switched off and removed" in said(opened, "what")
        assert "type web-restored" in said(opened, "ask")

        await press(pilot, "E", "enter")
        assert front(opened).place is Place.RESTORES
        assert RestoreJournal(tmp_path).find("0000bbbb").phase is Phase.KEPT


async def test_the_console_can_be_opened_on_restores(tmp_path: Path) -> None:
    async with console(tmp_path, busy_fleet(), destination=Destination("restores")) as (opened, pilot):
        await settled(pilot)

        assert front(opened).place is Place.RESTORES
        assert any("Nothing was restored from here yet" in text for text in screen_text(opened))
