"""Everything that went wrong and was not dismissed: what happened, what is untouched, what to do."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from tui.actions import Place
from tui.keys import bindings_of
from tui.screens.base import ConsoleScreen
from tui.viewmodels.picture import Picture
from tui.viewmodels.problems import problem_lines, problem_table
from tui.viewmodels.text import Line, line, quiet, rule
from tui.widgets.keyed_table import KeyedTable
from tui.widgets.lines_view import LinesView, PaneView


class ProblemsScreen(ConsoleScreen[None]):
    """The list of problems."""

    place = Place.PROBLEMS
    CSS_PATH = "problems.tcss"
    BINDINGS: ClassVar[list[BindingType]] = bindings_of(Place.PROBLEMS)

    def body(self) -> ComposeResult:
        """The list, and the one under the cursor."""
        yield KeyedTable(id="problems")
        yield LinesView(id="rule-problem")
        yield PaneView(id="problem")

    def main_pane(self) -> KeyedTable:
        """The list."""
        return self.table("problems")

    def summary(self, picture: Picture) -> Line:
        """How many."""
        return line(f"{len(picture.problems)}", quiet(" not dismissed; they stay until you do"))

    def paint(self, picture: Picture) -> None:
        """The list and the one under the cursor."""
        self.table("problems").show(problem_table(picture.problems, picture.now))
        self._paint_problem()

    def _paint_problem(self) -> None:
        key, pane = self.table("problems").key, self.pane("problem")
        found = next((problem for problem in self.console.picture.problems if problem.key == key), None)
        self.line("rule-problem").show_line(rule("IN FULL", self.size.width))
        lines = problem_lines(found, pane.size.width - 2) if found else ()
        pane.show(tuple((*line(" "), *one) for one in lines))

    def on_keyed_table_moved(self, event: KeyedTable.Moved) -> None:
        """Show the problem under the cursor."""
        self._paint_problem()

    def why_not(self, action: str) -> str | None:
        """There must be one."""
        if action in ("dismiss_problem", "dismiss_all") and not self.console.picture.problems:
            return "There is nothing to dismiss."
        return None

    def action_dismiss_problem(self) -> None:
        """Take the one under the cursor off the list."""
        key = self.table("problems").key
        if key is not None:
            self.console.dismiss_problems([key])

    def action_dismiss_all(self) -> None:
        """Empty the list."""
        self.console.dismiss_problems(problem.key for problem in self.console.picture.problems)
