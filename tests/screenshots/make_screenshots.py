"""Take a picture of every screen, at 80x24 and at 140x40, of the console on real hosts.

The console is the real one; it is driven by keys, as an operator would. It restores a VM on the way, once a size, and
shows that job while it runs and when it is done.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace
from textual.pilot import Pilot

from engine.settings import Method, Settings
from tui.actions import Place
from tui.app import Console
from tui.screens.base import ConsoleScreen
from tui.screens.job import JobScreen
from tui.terminal import Terminal
from tui.viewmodels.picture import VmView

SIZES = ((80, 24), (140, 40))
_PATIENCE_S = 300.0
_CELL_WIDTH = 12.2
"""Width of a character in the SVG that Textual writes."""


class Photographer:
    """One console of one size, and the folder its pictures go to."""

    def __init__(self, settings: Settings, folder: Path, size: tuple[int, int]) -> None:
        self.size = size
        self.folder = folder
        self.console = Console(settings, Terminal(True, "xterm-256color", *size, remote=False, colour=True))
        self.taken: list[Path] = []

    async def take_all(self) -> list[Path]:
        """Walk through every screen."""
        async with self.console.run_test(size=self.size) as pilot:
            await self._until(pilot, lambda: self.console.picture.live, "the hosts to answer")
            await self._press(pilot)
            self._take("fleet")
            await self._press(pilot, "question_mark")
            self._take("help")
            await self._press(pilot, "escape", "3")
            self._take("checks")
            await self._press(pilot, "1")
            view = self._choose()
            await self._to_vm(pilot, view)
            await self._restore(pilot)
            await self._press(pilot, "2")
            self._take("jobs")
            await self._press(pilot, "4")
            self._take("restores")
        return self.taken

    async def take_question(self, name: str) -> list[Path]:
        """A cold backup of a VM whose guest does not shut down: what is asked then, and the problem that it is."""
        async with self.console.run_test(size=self.size) as pilot:
            await self._until(pilot, lambda: self.console.picture.live, "the hosts to answer")
            view = next(view for view in self.console.picture.views if view.name == name)
            self._front().table("vms").move_to_key(view.uuid)
            await self._press(pilot, "B")
            options = self._front().table("options")
            options.move_to_key(next(key for key in options.keys if key.startswith(Method.COLD.value)))
            await self._press(pilot, "enter", "shift+tab", *name, "enter", "E")
            await self._until(pilot, lambda: self._front().place is Place.WHAT_NOW, "the question")
            await self._press(pilot, "k")
            self._take("what-now")
            await self._press(pilot, "escape", "exclamation_mark")
            self._take("problems")
        return self.taken

    def _choose(self) -> VmView:
        """The VM with the most to show: running, with an agent, and with recovery points."""
        views = [view for view in self.console.picture.views if view.vm is not None]
        return max(views, key=lambda view: (view.name == "web", len(view.points)))

    async def _to_vm(self, pilot: Pilot[int], view: VmView) -> None:
        self._front().table("vms").move_to_key(view.uuid)
        await self._press(pilot, "enter")
        self._take("vm")
        await self._press(pilot, "B")
        self._take("backup")
        await self._press(pilot, "escape")
        await self._files(pilot)

    async def _files(self, pilot: Pilot[int]) -> None:
        await self._press(pilot, "f")
        await self._until(pilot, lambda: len(self._front().table("tree").keys) > 2, "the files of the point")
        await self._press(pilot, "j", "j", "j")
        self._take("files")
        await self._press(pilot, "escape")

    async def _restore(self, pilot: Pilot[int]) -> None:
        await self._press(pilot, "R")
        self._take("restore-1-point")
        await self._press(pilot, "enter", "j")
        self._take("restore-2-target")
        await self._press(pilot, "enter")
        self._take("restore-3-mapping")
        await self._press(pilot, "enter")
        self._take("restore-4-checks")
        await self._press(pilot, "enter")
        self._take("restore-5-plan")
        await self._press(pilot, "enter")
        self._take("restore-6-confirm")
        await self._press(pilot, "E")
        await self._until(pilot, lambda: self._front().place is Place.JOB, "the job to start")
        await self._until(pilot, self._is_writing, "the job to write")
        self._take("restore-7-running")
        await self._until(pilot, self._is_over, "the job to end")
        await self._press(pilot)
        self._take("restore-8-report")

    def _is_writing(self) -> bool:
        job = self._job_screen().job
        return job is not None and (job.done_bytes > 0 or job.state.over)

    def _is_over(self) -> bool:
        job = self._job_screen().job
        return job is not None and job.state.over

    def _job_screen(self) -> JobScreen:
        screen = self.console.screen
        assert isinstance(screen, JobScreen)
        return screen

    def _front(self) -> ConsoleScreen[None]:
        screen = self.console.screen
        assert isinstance(screen, ConsoleScreen)
        return screen

    def _take(self, name: str) -> None:
        self.console.repaint()
        file = self.folder / f"{name}-{self.size[0]}x{self.size[1]}.svg"
        file.write_text(self_contained(self.console.export_screenshot(title="newhope")), encoding="utf-8")
        self.taken.append(file)

    async def _press(self, pilot: Pilot[int], *keys: str) -> None:
        for key in keys:
            await pilot.press(key)
            await pilot.pause(0.1)
        await pilot.app.workers.wait_for_complete()
        await pilot.pause(0.6)

    async def _until(self, pilot: Pilot[int], condition: Callable[[], bool], waiting_for: str) -> None:
        end = time.monotonic() + _PATIENCE_S
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError(f"waited {_PATIENCE_S:.0f} s for {waiting_for}")
            await pilot.pause(0.2)


def self_contained(svg: str) -> str:
    """The picture without its link to a font server, and with blanks that every renderer keeps."""
    svg = re.sub(r"@font-face\s*\{.*?\}", "", svg, flags=re.DOTALL)
    svg = svg.replace(
        "font-family: Fira Code, monospace", "font-family: 'DejaVu Sans Mono', Menlo, Consolas, monospace"
    )
    return re.sub(r'(<text [^>]*?)x="([0-9.]+)"([^>]*?)textLength="([0-9.]+)"([^>]*)>((?:&#160;)+)', _moved, svg)


def _moved(match: re.Match[str]) -> str:
    # Leading blanks are dropped by some renderers, which then pull the text to the left: begin where the text begins.
    before, x, between, length, after, blanks = match.groups()
    shift = len(blanks) // len("&#160;") * _CELL_WIDTH
    left = round(float(length) - shift, 1)
    return f'{before}x="{round(float(x) + shift, 1):g}"{between}textLength="{max(left, 0):g}"{after}>'


def make_pictures_of_a_question(settings: Settings, folder: Path, name: str) -> list[Path]:
    """The same of what is asked about `name`, whose guest must ignore its shutdown; its backups wait three seconds."""
    hasty = tuple(replace(level, shutdown_timeout_s=3) for level in settings.levels)
    taken: list[Path] = []
    for size in SIZES:
        taken += asyncio.run(Photographer(replace(settings, levels=hasty), folder, size).take_question(name))
    return taken


def make_screenshots(settings: Settings, folder: Path) -> list[Path]:
    """Write `SCREEN-80x24.svg` and `SCREEN-140x40.svg` of every screen into `folder`; answers what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    taken: list[Path] = []
    for size in SIZES:
        taken += asyncio.run(Photographer(settings, folder, size).take_all())
    return taken
