"""The checks: what would hurt when something dies, each with why, evidence and the way out."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, Vertical
from textual.widgets import Input

from engine.resilience import Finding
from tui.actions import Place
from tui.keys import bindings_of
from tui.screens.filtered import FilteredScreen
from tui.viewmodels.check_rows import counts_line, finding_key, finding_lines, finding_table
from tui.viewmodels.picture import Picture
from tui.viewmodels.text import Line, line, rule
from tui.widgets.keyed_table import KeyedTable
from tui.widgets.lines_view import LinesView, PaneView


class ChecksScreen(FilteredScreen):
    """Findings, worst first, and the one under the cursor in full."""

    place = Place.CHECKS
    CSS_PATH = "checks.tcss"
    BINDINGS: ClassVar[list[BindingType]] = bindings_of(Place.CHECKS)

    def __init__(self) -> None:
        super().__init__(faults_only=True)
        self._shown: tuple[object, ...] = ()

    def body(self) -> ComposeResult:
        """The findings and the one under the cursor."""
        with Container(id="panes"):
            with Vertical(id="list"):
                yield Input(id="filter", placeholder="words to look for", select_on_focus=False)
                yield KeyedTable(id="findings")
            with Vertical(id="one"):
                yield LinesView(id="rule-finding")
                yield PaneView(id="finding")

    def main_pane(self) -> KeyedTable:
        """The findings."""
        return self.table("findings")

    def crumbs(self, picture: Picture) -> str:
        """Where the operator is."""
        return "Checks"

    def summary(self, picture: Picture) -> Line:
        """How many of each."""
        return counts_line(picture)

    def paint(self, picture: Picture) -> None:
        """The findings and the one under the cursor."""
        findings = self.table("findings")
        asked = (self._wanted, self._faults_only, picture.live)
        table = finding_table(picture, findings.size.width, wanted=self._wanted, faults_only=self._faults_only)
        findings.show(table, in_order=asked != self._shown)
        self._shown = asked
        self._paint_finding()

    def _paint_finding(self) -> None:
        finding, pane = self.selected(), self.pane("finding")
        self.line("rule-finding").show_line(rule("WHY, AND WHAT TO DO", pane.size.width))
        lines = finding_lines(finding, pane.size.width - 2)
        pane.show(tuple((*line(" "), *one) for one in lines))

    def selected(self) -> Finding | None:
        """The finding under the cursor."""
        key = self.table("findings").key
        return next((finding for finding in self.console.picture.findings if finding_key(finding) == key), None)

    def why_not(self, action: str) -> str | None:
        """Copying needs a finding."""
        if action in ("copy_id", "copy_command") and self.selected() is None:
            return "There is no finding under the cursor."
        return None

    def on_keyed_table_moved(self, event: KeyedTable.Moved) -> None:
        """Show the finding under the cursor."""
        self.pane("finding").move_to_end(last=False)
        self._paint_finding()

    def action_sort(self) -> None:
        """Put the rows in order again."""
        self._shown = ()
        self.repaint()

    def action_go_back(self) -> None:
        """Clear the filter, then back to the fleet."""
        if not self.clear_filter():
            self.console.switch_mode("fleet")

    def action_copy_id(self) -> None:
        """Copy what the finding is about."""
        finding = self.selected()
        if finding is not None:
            self.offer(f"{finding.check} {finding.subject}")

    def action_copy_command(self) -> None:
        """Copy the way out."""
        finding = self.selected()
        if finding is not None:
            self.offer("\n".join(finding.fix) or "newhope check")
