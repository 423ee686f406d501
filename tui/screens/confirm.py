"""The last question before something is started.

`E` starts it; Enter never does, and the key that led here does not either. What takes a service away asks for the
VM's name as well. Esc, Enter and every other way out mean no.
"""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Input

from tui.actions import Place
from tui.keys import bindings_of
from tui.screens.base import ConsoleScreen
from tui.viewmodels.picture import Picture
from tui.viewmodels.text import BLANK, Block, Line, Span, Tone, line, quiet, strong
from tui.widgets.lines_view import LinesView, PaneView

_FRAME_LINES = 6
_LINES_BELOW = 6
"""The question for a name, the key and the way out, with the blank lines between them."""
_WAY_OUT = quiet("  Enter or Esc goes back; nothing is started")


class Cancel(LinesView):
    """Where the focus is to begin with: a key pressed by mistake starts nothing."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "screen.keep", show=False),
        Binding("down", "screen.down", show=False),
        Binding("up", "screen.up", show=False),
    ]

    def __init__(self) -> None:
        super().__init__(id="cancel", focusable=True)

    def on_focus(self) -> None:
        """Show that the keys go here."""
        self.show_line(line("  ", Span("[ Cancel ]", Tone.HERE), _WAY_OUT))

    def on_blur(self) -> None:
        """Show that they do not."""
        self.show_line(line("  ", quiet("[ Cancel ]"), _WAY_OUT))


class ConfirmScreen(ConsoleScreen[bool]):
    """Shows what is about to happen and answers whether it shall."""

    place = Place.CONFIRM
    CSS_PATH = "confirm.tcss"
    BINDINGS: ClassVar[list[BindingType]] = bindings_of(Place.CONFIRM)

    def __init__(self, title: str, lines: Block, *, verb: str, typed: str = "") -> None:
        super().__init__()
        self._title = title
        self._lines = lines
        self._verb = verb
        self._typed = typed

    def body(self) -> ComposeResult:
        """What it is, perhaps the name, and the way out."""
        yield PaneView(id="what")
        yield LinesView(id="ask")
        yield Input(id="name", placeholder="the VM's name", select_on_focus=False)
        yield LinesView(id="how")
        yield Cancel()

    def on_mount(self) -> None:
        """The focus is on the way out."""
        self.pane("what").can_focus = False
        self.pane("what").reached_by = "j"
        field = self.query_one(Input)
        field.cursor_blink = False
        field.display = bool(self._typed)
        self.query_one(Cancel).focus()

    def main_pane(self) -> PaneView:
        """What is about to happen, which may need more lines than there are."""
        return self.pane("what")

    def crumbs(self, picture: Picture) -> str:
        """What is to be confirmed."""
        return self._title

    def summary(self, picture: Picture) -> Line:
        """What this screen is for."""
        return line(strong("Confirm"), quiet("  Nothing has been started yet."))

    def paint(self, picture: Picture) -> None:
        """The sentences, and how to go on."""
        what, lines = self.pane("what"), (BLANK, *self._lines)
        room = self.size.height - _FRAME_LINES - _LINES_BELOW - bool(self._typed)
        what.styles.height = min(len(lines), max(3, room))
        what.show(tuple((*line(" "), *one) for one in lines))
        ask = line(" Tab, then type ", strong(self._typed), " to show that you mean this VM:") if self._typed else BLANK
        self.line("ask").show_line(ask)
        ready = self.why_not("execute") is None
        key = Span("E", Tone.HERE if ready else Tone.QUIET)
        rest = f" {self._verb}" if ready else f" {self._verb}, once the name is there"
        self.line("how").show_line(line("  ", key, rest))

    def why_not(self, action: str) -> str | None:
        """Executing may need the name first."""
        if action == "execute" and self._typed and self.query_one(Input).value.strip() != self._typed:
            return f"Type {self._typed} first, then leave the field with Enter or Tab and press E."
        return None

    def on_input_changed(self, event: Input.Changed) -> None:
        """The name may be complete now."""
        self.repaint()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter leaves the field, and starts nothing."""
        self.query_one(Cancel).focus()

    def action_execute(self) -> None:
        """Yes."""
        self.dismiss(True)

    def action_keep(self) -> None:
        """No."""
        self.dismiss(False)
