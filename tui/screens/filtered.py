"""What the screens with a filter field share: words that are looked for, and a view of the faults alone."""

from __future__ import annotations

from textual.widgets import Input

from tui.screens.base import ConsoleScreen


class FilteredScreen(ConsoleScreen[None]):
    """A screen whose body holds an `Input` named `filter`, and whose rows follow `_wanted` and `_faults_only`."""

    def __init__(self, *, faults_only: bool = False) -> None:
        super().__init__()
        self._wanted = ""
        self._faults_only = faults_only

    def on_mount(self) -> None:
        """A cursor that blinks would write to the terminal all the time."""
        self.query_one("#filter", Input).cursor_blink = False
        super().on_mount()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while it is typed."""
        if event.input.id == "filter":
            self._wanted = event.value
            self.repaint()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """The filter stays."""
        if event.input.id == "filter":
            self._close_filter()

    def action_filter(self) -> None:
        """Type a filter."""
        field = self.query_one("#filter", Input)
        field.add_class("open")
        field.focus()

    def action_faults(self) -> None:
        """Only what needs somebody, or everything."""
        self._faults_only = not self._faults_only
        self.repaint()

    def action_go_back(self) -> None:
        """Clear the filter, then show everything again, then back: to the screen below, or to the fleet."""
        if self.clear_filter():
            return
        if self._faults_only:
            self.action_faults()
        elif len(self.console.screen_stack) > 1:
            super().action_go_back()
        else:
            self.console.switch_mode("fleet")

    def clear_filter(self) -> bool:
        """Take the filter away; whether there was one."""
        field = self.query_one("#filter", Input)
        if not self._wanted and not field.has_class("open"):
            return False
        field.value = ""
        self._close_filter()
        return True

    def _close_filter(self) -> None:
        self.query_one("#filter", Input).remove_class("open")
        pane = self.main_pane()
        if pane is not None:
            pane.focus()
