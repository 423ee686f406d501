"""What now? Asked of whoever watches a cold backup whose guest did not shut down, as `newhope backup` asks.

`E` does what is under the cursor, which is on `stop` to begin with; Esc and every other way out mean that, too.
"""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from engine.backup import Request, WayOn, WhatNow
from engine.jobs import Job
from tui.actions import Place
from tui.keys import bindings_of
from tui.screens.base import ConsoleScreen
from tui.viewmodels.picture import Picture
from tui.viewmodels.text import BLANK, Line, Span, Tone, line, quiet, strong
from tui.viewmodels.what_now import failure_lines, way_lines, way_table, ways_of
from tui.widgets.keyed_table import KeyedTable
from tui.widgets.lines_view import LinesView, PaneView


class WhatNowScreen(ConsoleScreen[Request | None]):
    """Answers with the backup to start; None for none."""

    place = Place.WHAT_NOW
    CSS_PATH = "what_now.tcss"
    BINDINGS: ClassVar[list[BindingType]] = bindings_of(Place.WHAT_NOW)

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job
        self._ways = ways_of(job)

    def body(self) -> ComposeResult:
        """What happened, the answers, the one under the cursor."""
        yield PaneView(id="what")
        yield KeyedTable(id="ways")
        yield PaneView(id="way")
        yield LinesView(id="how")

    def on_mount(self) -> None:
        """The cursor is on the answer that starts nothing."""
        super().on_mount()
        self.pane("what").can_focus = self.pane("way").can_focus = False

    def main_pane(self) -> KeyedTable:
        """The answers."""
        return self.table("ways")

    def crumbs(self, picture: Picture) -> str:
        """Which backup."""
        return f"WHAT NOW? Job {self._job.id}, cold backup of {self._job.subject}{self._job.place}"

    def summary(self, picture: Picture) -> Line:
        """What this screen is for."""
        return line(strong(f"{self._job.subject} did not shut down."), quiet("  It runs; it is never switched off."))

    def paint(self, picture: Picture) -> None:
        """The answers, and how to give one."""
        width, ways = self.size.width, self.table("ways")
        self.pane("what").show(tuple((*line(" "), *one) for one in (BLANK, *failure_lines(self._job, width - 4))))
        begins = not ways.keys
        ways.styles.height = len(self._ways) + 1
        ways.show(way_table(self._ways, width))
        if begins:
            ways.move_to_key(WhatNow.STOP.value)
        self.pane("way").show(tuple((*line("  "), *one) for one in way_lines(self._selected(), width - 5)))
        does = quiet(" does what is under the cursor; Esc makes no recovery point")
        self.line("how").show_line(line("  ", Span("E", Tone.HERE), does))

    def _selected(self) -> WayOn | None:
        key = self.table("ways").key
        return next((way for way in self._ways if way.answer.value == key), None)

    def on_keyed_table_moved(self, event: KeyedTable.Moved) -> None:
        """Show the answer in full."""
        self.repaint()

    def action_execute(self) -> None:
        """What is under the cursor."""
        way = self._selected()
        self.dismiss(way.request if way is not None else None)

    def action_keep(self) -> None:
        """Stop."""
        self.dismiss(None)
