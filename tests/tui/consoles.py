"""A console for tests: the real one, with a gateway that asks nobody by itself and does everything else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from msgspec.structs import replace
from textual.pilot import Pilot

from engine import restore
from engine.fleet import Fleet
from engine.jobs import Job
from engine.requirements import exposures
from engine.resilience import find
from engine.restore import Entry
from engine.settings import Settings
from tests.builders import NOW, make_settings
from tui.app import Console
from tui.destination import Destination
from tui.gateway import FleetArrived, Gateway, JobsArrived
from tui.screens.base import ConsoleScreen
from tui.terminal import Terminal
from tui.viewmodels.text import plain_text
from tui.widgets.keyed_table import KeyedTable
from tui.widgets.lines_view import LinesView


class QuietGateway(Gateway):
    """Does not follow hosts and journal, so that a test decides what is known when; these hosts are imaginary."""

    def start(self) -> None:
        """Follow nothing."""

    def examine(self, seen: Fleet, request: restore.Request) -> restore.RestorePlan:
        """From what was told alone."""
        return restore.plan(self.settings, seen, request)


def terminal_of(columns: int, lines: int, *, colour: bool = True, remote: bool = False) -> Terminal:
    return Terminal(True, "xterm-256color", columns, lines, remote, colour)


@asynccontextmanager
async def console(
    state: Path,
    fleet: Fleet | None = None,
    *,
    settings: Settings | None = None,
    size: tuple[int, int] = (80, 24),
    jobs: Iterable[Job] = (),
    destination: Destination | None = None,
) -> AsyncIterator[tuple[Console, Pilot[int]]]:
    """An open console that knows this fleet and these jobs."""
    chosen = replace(settings or make_settings(), state=state)
    opened = Console(chosen, terminal_of(*size), destination, QuietGateway)
    async with opened.run_test(size=size) as pilot:
        if fleet is not None:
            await tell_fleet(opened, pilot, fleet)
        if jobs:
            await tell_jobs(opened, pilot, jobs)
        yield opened, pilot


async def tell_fleet(opened: Console, pilot: Pilot[int], fleet: Fleet) -> None:
    """Let the console know a fleet, as if all hosts had just answered. Ages are counted from now."""
    settings, now = opened.settings, datetime.now(UTC)
    moved = shifted(fleet, now)
    opened.post_message(FleetArrived(moved, exposures(settings, moved, now), find(settings, moved, now), live=True))
    await settled(pilot)


async def tell_jobs(
    opened: Console, pilot: Pilot[int], jobs: Iterable[Job] = (), restores: Iterable[Entry] = ()
) -> None:
    """Let the console know these jobs and restores, as if the journals had just been read."""
    opened.post_message(JobsArrived(tuple(jobs), None, (), tuple(restores)))
    await settled(pilot)


def shifted(fleet: Fleet, now: datetime) -> Fleet:
    """The fleet with its moments counted back from `now`."""
    move = now - NOW
    return replace(
        fleet,
        taken_at=fleet.taken_at + move,
        snapshots=tuple(replace(seen, taken_at=seen.taken_at + move) for seen in fleet.snapshots),
        points=tuple(
            replace(
                point,
                manifest=replace(
                    point.manifest, moment=point.manifest.moment + move, finished=point.manifest.finished + move
                ),
            )
            for point in fleet.points
        ),
    )


async def settled(pilot: Pilot[int]) -> None:
    """Wait until everything that was posted is painted and every question is answered."""
    await pilot.pause()
    await pilot.app.workers.wait_for_complete()
    await pilot.pause()
    await pilot.pause()


async def press(pilot: Pilot[int], *keys: str) -> None:
    """Press keys, and wait after each until the console has settled."""
    for key in keys:
        await pilot.press(key)
        await settled(pilot)


def front(opened: Console) -> ConsoleScreen:
    """The screen in front."""
    screen = opened.screen
    assert isinstance(screen, ConsoleScreen)
    return screen


def table(opened: Console, name: str) -> KeyedTable:
    """A table of the screen in front."""
    return front(opened).query_one(f"#{name}", KeyedTable)


def said(opened: Console, name: str) -> str:
    """What a line or pane of the screen in front says."""
    return "\n".join(plain_text(one) for one in front(opened).query_one(f"#{name}", LinesView).lines)


def sentence(opened: Console, name: str) -> str:
    """What a line or pane says, however its lines are broken."""
    return " ".join(said(opened, name).split())


def screen_text(opened: Console) -> list[str]:
    """The whole screen as text, as a terminal would show it."""
    return ["".join(segment.text for segment in strip) for strip in opened.screen._compositor.render_strips()]
