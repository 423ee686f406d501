"""Lines of text that scroll, of which only what changed is written to the terminal."""

from __future__ import annotations

from typing import ClassVar

from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.viewmodels.text import Block, Line, line, quiet
from tui.widgets.paint import Relaid, changed_runs, segments

_LEAST_LINES_TO_TELL = 3
"""A pane that is lower has no line to spare."""


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
    """A block of lines that takes the focus and scrolls by keys. Where it is cut off below, its last line says so."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "by(1)", show=False),
        Binding("up", "by(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name for it
        super().__init__(id=id, classes="pane", focusable=True)
        self.reached_by = "Tab, then j"
        """How an operator gets to see the rest, while the keys go elsewhere."""

    def show(self, lines: Block) -> None:
        """Show these lines instead; what is below the last that has room is counted."""
        before = self._cut_off
        super().show(lines)
        if self._cut_off != before:
            self._refresh_last_line()

    @property
    def _cut_off(self) -> Line:
        below = len(self.lines) - self.scroll_offset.y - self.size.height
        if below <= 0 or self.size.height < _LEAST_LINES_TO_TELL:
            return ()
        return line(quiet(f" … {below + 1} more lines: {'j' if self.has_focus else self.reached_by}"))

    def render_line(self, y: int) -> Strip:
        """One line of the terminal."""
        cut_off = self._cut_off if y == self.size.height - 1 else ()
        if not cut_off:
            return super().render_line(y)
        return Strip(segments(cut_off, Style())).adjust_cell_length(self.size.width, Style()).simplify()

    def on_focus(self) -> None:
        """The keys go here now."""
        self._refresh_last_line()

    def on_blur(self) -> None:
        """The keys go elsewhere now."""
        self._refresh_last_line()

    def _refresh_last_line(self) -> None:
        self.refresh(Region(0, max(0, self.size.height - 1), self.size.width, 1))

    def action_by(self, rows: int) -> None:
        """Scroll by rows."""
        self.move(rows)

    def action_page(self, pages: int) -> None:
        """Scroll by pages."""
        self.move(pages * max(1, self.size.height - 1))
