"""Restores of this machine: what waits for a decision, what each has made, and the three ways on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, Vertical
from textual.widgets import Input

from engine.jobs import Job
from engine.restore import AtEnd, Entry
from tui.actions import Place
from tui.keys import bindings_of
from tui.screens.confirm import ConfirmScreen
from tui.screens.filtered import FilteredScreen
from tui.viewmodels.picture import Picture
from tui.viewmodels.restore_rows import (
    commit_lines,
    counts_line,
    restore_page,
    restore_table,
    resume_lines,
    stands,
    undo_lines,
)
from tui.viewmodels.text import Block, Line, line, rule
from tui.widgets.keyed_table import KeyedTable
from tui.widgets.lines_view import LinesView, PaneView

_VERBS = {"UNDO": "takes back", "COMMIT": "commits", "RESUME": "goes on with"}


class RestoresScreen(FilteredScreen):
    """The list of restores and the one under the cursor."""

    place = Place.RESTORES
    CSS_PATH = "restores.tcss"
    BINDINGS: ClassVar[list[BindingType]] = bindings_of(Place.RESTORES)

    def body(self) -> ComposeResult:
        """The list, and the restore under the cursor."""
        with Container(id="panes"):
            with Vertical(id="list"):
                yield Input(id="filter", placeholder="words to look for", select_on_focus=False)
                yield KeyedTable(id="restores")
            with Vertical(id="one"):
                yield LinesView(id="rule-restore")
                yield PaneView(id="restore")

    def main_pane(self) -> KeyedTable:
        """The list."""
        return self.table("restores")

    def summary(self, picture: Picture) -> Line:
        """How many wait."""
        return counts_line(picture)

    def paint(self, picture: Picture) -> None:
        """The list and the restore under the cursor."""
        listed = self.table("restores")
        table = restore_table(picture, listed.size.width, wanted=self._wanted, faults_only=self._faults_only)
        # What waits for somebody comes on top when it does; the cursor stays with its own.
        listed.show(table, in_order=True)
        self._paint_one()

    def _paint_one(self) -> None:
        entry, pane = self.selected(), self.pane("restore")
        title = f"{entry.id}: {entry.vm} as {entry.request.name} on {entry.request.to_host}" if entry else ""
        self.line("rule-restore").show_line(rule(title, pane.size.width))
        page = restore_page(entry, self.console.picture, pane.size.width - 2)
        pane.show(tuple((*line(" "), *one) for one in page))

    def selected(self) -> Entry | None:
        """The restore under the cursor."""
        key = self.table("restores").key
        return next((entry for entry in self.console.picture.restores if entry.id == key), None)

    def why_not(self, action: str) -> str | None:
        """What can be done depends on where the restore stands."""
        entry = self.selected()
        if action not in ("open", "copy_id", "copy_command", "undo_restore", "commit_restore", "resume_restore"):
            return None
        if entry is None:
            return "There is no restore under the cursor."
        found = stands(entry, self.console.picture)
        possible = {
            "undo_restore": found.undoes,
            "commit_restore": found.commits,
            "resume_restore": found.resumes,
        }
        if possible.get(action, True):
            return None
        return f"Restore {entry.id} is {found.word}; its page says what can be done with it."

    def on_keyed_table_moved(self, event: KeyedTable.Moved) -> None:
        """Show the restore under the cursor."""
        self.pane("restore").move_to_end(last=False)
        self._paint_one()
        self.paint_keys()

    def on_keyed_table_clicked(self, event: KeyedTable.Clicked) -> None:
        """A second click opens."""
        self.action_open()

    def action_open(self) -> None:
        """The job that worked on it last."""
        from tui.screens.job import JobScreen

        entry = self.selected()
        if entry is not None:
            self.console.push_screen(JobScreen(entry.job_id))

    def action_undo_restore(self) -> None:
        """Ask whether to take it back."""
        entry = self.selected()
        if entry is not None:
            lines, name = undo_lines(entry, self.size.width - 4), entry.request.name
            self._ask(entry, "UNDO", lines, lambda: self.console.gateway.settle_restore(entry, AtEnd.UNDO), typed=name)

    def action_commit_restore(self) -> None:
        """Ask whether to keep it for good."""
        entry = self.selected()
        if entry is not None:
            lines = commit_lines(entry, self.size.width - 4)
            self._ask(entry, "COMMIT", lines, lambda: self.console.gateway.settle_restore(entry, AtEnd.COMMIT))

    def action_resume_restore(self) -> None:
        """Ask whether to go on."""
        entry = self.selected()
        if entry is not None:
            lines = resume_lines(entry, self.size.width - 4)
            self._ask(entry, "RESUME", lines, lambda: self.console.gateway.resume_restore(entry))

    def _ask(
        self, entry: Entry, act: str, lines: Block, start: Callable[[], Awaitable[Job]], *, typed: str = ""
    ) -> None:
        async def launch() -> None:
            screen = await self.screen_of(start(), f"{act}-{entry.id}")
            if screen is not None:
                self.console.push_screen(screen)

        self.console.push_screen(
            ConfirmScreen(f"{act} restore {entry.id}", lines, verb=f"{_VERBS[act]} restore {entry.id}", typed=typed),
            lambda confirmed: self.in_background(launch(), "launch") if confirmed else None,
        )

    def action_copy_id(self) -> None:
        """Copy the restore's id."""
        entry = self.selected()
        if entry is not None:
            self.offer(entry.id)

    def action_copy_command(self) -> None:
        """Copy the command that goes on with it, or that shows it."""
        entry = self.selected()
        if entry is not None:
            self.offer(stands(entry, self.console.picture).next_step or f"newhope restores show {entry.id}")
