"""Lines of text that scroll, of which only what changed is written to the terminal."""

from __future__ import annotations

from typing import ClassVar

from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.viewmodels.text import Block, Line
from tui.widgets.paint import Relaid, changed_runs, segments


class LinesView(ScrollView):
    """Shows a block of lines. It takes the focus only where it is told to."""

    DEFAULT_CSS = """
    LinesView { height: 1; scrollbar-size: 0 0; overflow: hidden; }
    LinesView.pane { height: 1fr; overflow-y: auto; overflow-x: hidden; }
    """

    def __init__(self, *, id: str | None = None, classes: str | None = None, focusable: bool = False) -> None:  # noqa: A002
        super().__init__(id=id, classes=classes)
        self.can_focus = focusable
        self._lines: Block = ()

    @property
    def lines(self) -> Block:
        """What is shown now."""
        return self._lines

    def show(self, lines: Block) -> None:
        """Show these lines instead; cells that stay the same are not written again."""
        old, self._lines = self._lines, lines
        if len(old) != len(lines):
            self.virtual_size = Size(self.size.width, len(lines))
        top = self.scroll_offset.y
        for number in range(max(len(old), len(lines))):
            before = old[number] if number < len(old) else ()
            after = lines[number] if number < len(lines) else ()
            if before != after and top <= number < top + max(1, self.size.height):
                for first, end in changed_runs(before, after):
                    self.refresh(Region(first, number - top, end - first, 1))

    def show_line(self, one: Line) -> None:
        """Show a single line."""
        self.show((one,))

    def on_resize(self) -> None:
        """Tell that the lines may have to be broken anew."""
        self.post_message(Relaid())

    def render_line(self, y: int) -> Strip:
        """One line of the terminal."""
        number = y + self.scroll_offset.y
        one: Line = self._lines[number] if 0 <= number < len(self._lines) else ()
        return Strip(segments(one, Style())).adjust_cell_length(self.size.width, Style()).simplify()

    def move(self, rows: int) -> None:
        """Scroll by rows."""
        self.scroll_to(y=self.scroll_offset.y + rows, animate=False, force=True)

    def move_to_end(self, *, last: bool) -> None:
        """Scroll to the first or the last line."""
        self.scroll_to(y=max(0, len(self._lines) - self.size.height) if last else 0, animate=False, force=True)


class PaneView(LinesView):
    """A block of lines that takes the focus and scrolls by keys."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "by(1)", show=False),
        Binding("up", "by(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name for it
        super().__init__(id=id, classes="pane", focusable=True)

    def action_by(self, rows: int) -> None:
        """Scroll by rows."""
        self.move(rows)

    def action_page(self, pages: int) -> None:
        """Scroll by pages."""
        self.move(pages * max(1, self.size.height - 1))
