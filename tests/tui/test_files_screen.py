"""The files in a point, in the console: real disks in a real repository, read by the process that reads them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from msgspec.structs import replace
from textual.pilot import Pilot
from textual.widgets import Input

from engine.hosts.model import AgentState
from engine.jobs import JobState, Journal
from engine.repository import Point
from engine.settings import Repository as RepositorySettings
from engine.settings import save
from tests.builders import make_fleet, make_host, make_settings, make_vm
from tests.disk_files import images
from tests.tui.consoles import console, front, press, said, screen_text, sentence, settled, table
from tests.waiting import wait_for
from tui.actions import Place
from tui.app import Console


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Point]:
    """A point of a disk with a root file system, and one of nothing that can be read."""
    folder = tmp_path_factory.mktemp("files")
    image = images.ext(folder / "ext4", images.make_tree(folder / "tree", many=30), size="24M")
    contents = {"vda": image.read_bytes(), "vdb": b"LUKS\xba\xbe".ljust(1 << 20, b"x")}
    point = images.keep(folder / "vault", contents)
    return folder / "vault", replace(point, repository="vault")


@asynccontextmanager
async def opened_files(
    vault: tuple[Path, Point],
    state: Path,
    *,
    size: tuple[int, int] = (80, 24),
    agent: AgentState = AgentState.CONNECTED,
) -> AsyncIterator[tuple[Console, Pilot[int]]]:
    """The console on the files of the point."""
    place, point = vault
    fleet = make_fleet(hosts=[make_host("alderaan", vms=[make_vm("web", agent=agent)])], points=[point])
    state.mkdir(exist_ok=True)
    kept = [RepositorySettings(name="vault", path=place)]
    settings = make_settings(repositories=kept, state=state, file=state / "newhope.toml")
    save(settings, settings.file)
    async with console(state, fleet, settings=settings, size=size) as (opened, pilot):
        await press(pilot, "enter", "f")
        assert front(opened).place is Place.FILES
        yield opened, pilot


async def to(opened: Console, pilot: Pilot[int], key: str) -> None:
    table(opened, "tree").move_to_key(key)
    await settled(pilot)


async def test_the_root_file_system_is_open_and_folders_are_read_when_they_are(
    vault: tuple[Path, Point], tmp_path: Path
) -> None:
    async with opened_files(vault, tmp_path) as (opened, pilot):
        text = "\n".join(screen_text(opened))
        assert "- vda  ext4  system  root" in text
        assert "+ etc/" in text
        assert "bin@" in text
        assert r"odd \xff\x1b[31mname" in text
        assert "vdb  luks" in text
        assert "hosts" not in text

        await to(opened, pilot, "vda:etc")
        await press(pilot, "enter")
        assert "- etc/" in "\n".join(screen_text(opened))
        await to(opened, pilot, "vda:etc/hosts")
        assert "vda:/etc/hosts" in said(opened, "file")
        assert "20 B (20 bytes)" in sentence(opened, "file")

        await press(pilot, "h")
        assert table(opened, "tree").key == "vda:etc"
        assert "vda:etc/hosts" not in table(opened, "tree").keys


async def test_what_cannot_be_read_says_why(vault: tuple[Path, Point], tmp_path: Path) -> None:
    async with opened_files(vault, tmp_path) as (opened, pilot):
        await to(opened, pilot, "vdb:")
        await press(pilot, "enter")

        assert "encrypted by its guest" in said(opened, "file")
        assert "encrypted by its guest" in said(opened, "notice")


async def test_a_filter_finds_names_in_what_was_opened_and_escape_leaves_step_by_step(
    vault: tuple[Path, Point], tmp_path: Path
) -> None:
    async with opened_files(vault, tmp_path) as (opened, pilot):
        await to(opened, pilot, "vda:etc")
        await press(pilot, "enter", "slash", *"hosts", "enter")
        assert table(opened, "tree").keys == ("vda:", "vda:etc", "vda:etc/hosts")

        await press(pilot, "escape")
        assert "vda:usr" in table(opened, "tree").keys
        await press(pilot, "escape")
        assert front(opened).place is Place.VM


async def test_enter_in_the_filter_searches_all_folders_and_says_so(vault: tuple[Path, Point], tmp_path: Path) -> None:
    async with opened_files(vault, tmp_path) as (opened, pilot):
        await press(pilot, "slash", *"secret")
        assert table(opened, "tree").keys == ()
        assert "Only folders that were opened are looked through; Enter searches all." in said(opened, "searched")

        await press(pilot, "enter")
        assert table(opened, "tree").keys == (
            "vda:",
            "vda:etc",
            "vda:etc/deep",
            "vda:etc/deep/er",
            "vda:etc/deep/er/secret",
        )
        assert "SEARCHED  all 9 folders: 1 name." in said(opened, "searched")
        assert table(opened, "tree").key == "vda:etc/deep/er/secret"
        assert "2.9 KiB (3000 bytes)" in sentence(opened, "file")

        await press(pilot, "slash", "backspace")
        assert "Only folders that were opened" in said(opened, "searched")
        await press(pilot, "escape")
        assert "vda:etc/deep" not in table(opened, "tree").keys


async def test_what_was_found_stays_under_the_cursor_among_its_neighbours(
    vault: tuple[Path, Point], tmp_path: Path
) -> None:
    async with opened_files(vault, tmp_path) as (opened, pilot):
        await press(pilot, "slash", *"hosts", "enter", "escape")

        assert table(opened, "tree").key == "vda:etc/hosts"
        assert {"vda:etc/deep", "vda:etc/long", "vda:usr"} < set(table(opened, "tree").keys)
        await press(pilot, "escape")
        assert front(opened).place is Place.VM


async def test_a_file_is_written_by_a_job_after_where_and_plan(vault: tuple[Path, Point], tmp_path: Path) -> None:
    async with opened_files(vault, tmp_path / "state") as (opened, pilot):
        await to(opened, pilot, "vda:etc")
        await press(pilot, "S")
        field = front(opened).query_one("#where", Input)
        assert "newhope-files" in field.value
        text = "\n".join(screen_text(opened))
        assert "Write vda:/etc into which folder of this machine?" in text
        assert "newhope-files" in text
        field.value = str(tmp_path / "mine")
        await press(pilot, "enter")
        assert front(opened).place is Place.CONFIRM
        assert f"as{tmp_path / 'mine' / 'etc'}where" in "".join(said(opened, "what").split())
        assert "free there" in sentence(opened, "what")

        await press(pilot, "E")
        assert front(opened).place is Place.JOB
        with Journal(opened.settings.state) as journal:
            assert wait_for(lambda: journal.jobs()[0].state.over)
            [job] = journal.jobs()
    assert (job.kind, job.subject, job.state) == ("get-files", "web", JobState.DONE), job.failure
    assert "3 files, 2.9 KiB, 3 folders, 4 symlinks, written to" in job.result
    assert (tmp_path / "mine" / "etc" / "hosts").read_text() == "127.0.0.1 localhost\n"


async def test_a_name_that_is_taken_is_told_before_anything_starts(vault: tuple[Path, Point], tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    async with opened_files(vault, tmp_path / "state") as (opened, pilot):
        await to(opened, pilot, "vda:etc")
        await press(pilot, "S")
        front(opened).query_one("#where", Input).value = str(tmp_path)
        await press(pilot, "enter")

        assert front(opened).place is Place.FILES
        assert [problem.what for problem in opened.picture.problems] == [f"{tmp_path / 'etc'} is there already."]


async def test_putting_back_shows_its_plan_and_needs_an_agent(vault: tuple[Path, Point], tmp_path: Path) -> None:
    async with opened_files(vault, tmp_path) as (opened, pilot):
        await to(opened, pilot, "vda:etc")
        await press(pilot, "P")
        assert front(opened).query_one("#where", Input).value == "/etc"
        await press(pilot, "enter")
        assert front(opened).place is Place.CONFIRM
        assert "the running guest of web on alderaan, as /etc" in sentence(opened, "what")
        assert "move what has one of their names" in sentence(opened, "what")
        await press(pilot, "enter")
        assert front(opened).place is Place.FILES

    async with opened_files(vault, tmp_path, agent=AgentState.DISCONNECTED) as (opened, pilot):
        await to(opened, pilot, "vda:etc")
        await press(pilot, "P")
        assert "agent" in said(opened, "notice")


async def test_a_point_that_cannot_be_opened_says_what_to_do(vault: tuple[Path, Point], tmp_path: Path) -> None:
    gone = (tmp_path / "nowhere", vault[1])

    async with opened_files(gone, tmp_path) as (opened, _):
        text = "\n".join(screen_text(opened))
        assert "WHAT" in text
        assert "NEXT" in text


async def test_on_a_wide_screen_what_is_under_the_cursor_stands_beside(
    vault: tuple[Path, Point], tmp_path: Path
) -> None:
    async with opened_files(vault, tmp_path, size=(140, 40)) as (opened, pilot):
        await to(opened, pilot, "vda:usr")
        text = "\n".join(screen_text(opened))
        assert "OWNER" in text
        assert "drwxr-xr-x" in text
        assert "path     vda:/usr" in text
