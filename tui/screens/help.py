"""The sheet of keys: what can be done on the screen it was opened from, and what cannot be done now, with why."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from tui.actions import Place
from tui.keys import bindings_of
from tui.screens.base import ConsoleScreen
from tui.viewmodels.help_sheet import help_sheet
from tui.viewmodels.picture import Picture
from tui.viewmodels.text import Line, line, quiet
from tui.widgets.lines_view import PaneView


class HelpScreen(ConsoleScreen[None]):
    """All keys of a place."""

    place = Place.HELP
    CSS_PATH = "help.tcss"
    BINDINGS: ClassVar[list[BindingType]] = bindings_of(Place.HELP)

    def __init__(self, about: Place, why_not: Callable[[str], str | None]) -> None:
        super().__init__()
        self._about = about
        self._reasons = why_not

    def body(self) -> ComposeResult:
        """The sheet."""
        yield PaneView(id="sheet")

    def main_pane(self) -> PaneView:
        """The sheet."""
        return self.pane("sheet")

    def crumbs(self, picture: Picture) -> str:
        """What it is about."""
        return f"Keys > {self._about.value}"

    def summary(self, picture: Picture) -> Line:
        """The rule behind the keys."""
        return line("Capitals open a plan, Enter goes on, ", quiet("only E in a confirmation starts anything"))

    def paint(self, picture: Picture) -> None:
        """The sheet."""
        pane = self.pane("sheet")
        pane.show(help_sheet(self._about, pane.size.width - 2, self._reasons))
