"""A table whose cursor belongs to a thing, not to a place.

1. Every row has a key. When rows come, go or change, the cursor stays on its key; if that row is gone it goes to the
   one that took its place. So a key that is pressed while the fleet changes never meets another VM.
2. Rows keep the order they were shown in while the operator is among them: new ones are added below, and the order is
   taken over anew only by `show(..., in_order=True)` (first paint, another filter, a sort).
3. A cell that changed is the only one written to the terminal: about a hundred bytes over a slow line.
"""

from __future__ import annotations

from typing import ClassVar

from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from tui.viewmodels.text import Column, Line, Row, Span, Table, Tone
from tui.widgets.paint import CURSOR, CURSOR_ELSEWHERE, Relaid, changed_runs, fitted, padded, segments

_MARGIN = 1


class KeyedTable(ScrollView, can_focus=True):
    """Rows with a cursor that is anchored by key; its header stays in sight."""

    DEFAULT_CSS = """
    KeyedTable { scrollbar-size: 0 0; overflow-x: hidden; overflow-y: auto; height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "by(1)", show=False),
        Binding("up", "by(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
    ]

    class Moved(Message):
        """The cursor is on another row now."""

        def __init__(self, table: KeyedTable, key: str | None) -> None:
            super().__init__()
            self.table = table
            self.key = key

        @property
        def control(self) -> KeyedTable:
            """The table it happened in."""
            return self.table

    class Clicked(Message):
        """The row under the cursor was clicked once more."""

        def __init__(self, table: KeyedTable) -> None:
            super().__init__()
            self.table = table

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002 - Textual's name for it
        super().__init__(id=id)
        self._table = Table((), ())
        self._rows: list[Row] = []
        self._key: str | None = None
        self._widths: tuple[int, ...] = ()

    # ------------------------------------------------------------------ what it shows

    @property
    def key(self) -> str | None:
        """The key of the row under the cursor."""
        return self._key

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of all rows, from the top."""
        return tuple(row.key for row in self._rows)

    @property
    def cursor(self) -> int:
        """The cursor's row, from 0; -1 when there is none."""
        return next((number for number, row in enumerate(self._rows) if row.key == self._key), -1)

    def show(self, table: Table, *, in_order: bool = False) -> None:
        """Show this table instead. Without `in_order`, rows that are already there keep their places."""
        old_lines = [self._body_line(number) for number in range(len(self._rows))]
        old_header, old_cursor, old_key = self._header_line(), self.cursor, self._key
        kept = {row.key: row for row in table.rows}
        if in_order or not self._rows:
            self._rows = list(table.rows)
        else:
            placed = [kept.pop(row.key) for row in self._rows if row.key in kept]
            self._rows = [*placed, *kept.values()]
        relaid = table.columns != self._table.columns or bool(self._rows) != bool(old_lines)
        self._table = table
        if relaid:
            self._widths = self._column_widths()
        self._anchor(old_cursor)
        self._fit_virtual_size()
        if relaid:
            self.refresh()
        else:
            self._refresh_changes(old_header, old_lines, old_cursor)
        if self._key != old_key:
            self.post_message(self.Moved(self, self._key))

    def _anchor(self, old_cursor: int) -> None:
        if not self._rows:
            self._key = None
        elif self.cursor < 0:
            self._key = self._rows[min(max(0, old_cursor), len(self._rows) - 1)].key
        place = self.cursor
        if place >= 0 and place != old_cursor:
            self._keep_in_sight(place)

    def _refresh_changes(self, old_header: Line, old_lines: list[Line], old_cursor: int) -> None:
        top, height = self.scroll_offset.y, self.size.height
        self._refresh_line(0, old_header, self._header_line())
        for number in range(max(len(old_lines), len(self._rows))):
            y = number - top + 1
            if not 1 <= y < height:
                continue
            before = old_lines[number] if number < len(old_lines) else ()
            after = self._body_line(number)
            if (number == old_cursor) != (number == self.cursor):
                self.refresh(Region(0, y, self.size.width, 1))
            else:
                self._refresh_line(y, before, after)

    def _refresh_line(self, y: int, before: Line, after: Line) -> None:
        if before != after:
            for first, end in changed_runs(before, after):
                self.refresh(Region(first, y, end - first, 1))

    # ------------------------------------------------------------------ moving

    def move(self, rows: int) -> None:
        """Move the cursor by rows, as far as there are any."""
        self.move_to(self.cursor + rows)

    def move_to(self, row: int) -> None:
        """Move the cursor to a row; beyond the ends, to the end."""
        if not self._rows:
            return
        before, header = self.cursor, self._header_line()
        place = min(max(0, row), len(self._rows) - 1)
        if place == before:
            return
        self._key = self._rows[place].key
        scrolled = self._keep_in_sight(place)
        if not scrolled:
            for number in (before, place):
                self.refresh(Region(0, number - self.scroll_offset.y + 1, self.size.width, 1))
            self._refresh_line(0, header, self._header_line())
        self.post_message(self.Moved(self, self._key))

    def move_to_key(self, key: str) -> bool:
        """Move the cursor to the row of that key; False if there is none."""
        place = next((number for number, row in enumerate(self._rows) if row.key == key), -1)
        if place >= 0:
            self.move_to(place)
        return place >= 0

    def move_to_end(self, *, last: bool) -> None:
        """Move the cursor to the first or the last row."""
        self.move_to(len(self._rows) - 1 if last else 0)

    def action_by(self, rows: int) -> None:
        """Move the cursor by rows."""
        self.move(rows)

    def action_page(self, pages: int) -> None:
        """Move the cursor by pages."""
        self.move(pages * max(1, self.size.height - 2))

    def _keep_in_sight(self, place: int) -> bool:
        room = self.size.height - 1
        if room <= 0:
            return False
        top = self.scroll_offset.y
        wanted = min(max(top, place - room + 1), place)
        if wanted == top:
            return False
        self.scroll_to(y=wanted, animate=False, force=True)
        return True

    # ------------------------------------------------------------------ painting

    def render_line(self, y: int) -> Strip:
        """One line of the terminal."""
        over: Style | None = None
        number = y - 1 + self.scroll_offset.y
        if not self._rows:
            shown: Line = self._table.empty[y - 1] if 0 < y <= len(self._table.empty) else ()
            shown = (Span(" " * _MARGIN), *shown)
        elif y == 0:
            shown = self._header_line()
        else:
            shown = self._body_line(number)
            if number == self.cursor and self.can_focus:
                over = CURSOR if self.has_focus else CURSOR_ELSEWHERE
        return Strip(segments(shown, Style(), over)).adjust_cell_length(self.size.width, Style()).simplify()

    def _header_line(self) -> Line:
        if not self._rows:
            return ()
        titles = tuple(Span(column.title, Tone.QUIET) for column in self._table.columns)
        line = self._laid_out(titles)
        if len(self._rows) <= self.size.height - 1:
            return line
        # With no scroll bar, the place among the rows is told in words.
        place = f" {self.cursor + 1}/{len(self._rows)}"
        room = self.size.width - len(place)
        *head, _ = titles
        short = _text_of(line) if len(_text_of(line)) <= room else _text_of(self._laid_out((*head, Span(""))))
        return (Span(fitted(short, room), Tone.QUIET), Span(place, Tone.STRONG))

    def _body_line(self, number: int) -> Line:
        return self._laid_out(self._rows[number].cells) if 0 <= number < len(self._rows) else ()

    def _laid_out(self, cells: tuple[Span, ...]) -> Line:
        parts = [Span(" " * _MARGIN)]
        gap = " " * self._gap
        for column, width, cell in zip(self._table.columns, self._widths, cells, strict=False):
            parts.append(Span(fitted(cell.text, width, right=column.right), cell.tone))
            parts.append(Span(gap))
        return padded(parts[:-1], self.size.width)

    @property
    def _gap(self) -> int:
        columns = self._table.columns
        used = sum(column.width for column in columns) + _MARGIN
        return 2 if self.size.width - used >= 2 * len(columns) else 1

    def _column_widths(self) -> tuple[int, ...]:
        columns: tuple[Column, ...] = self._table.columns
        used = sum(column.width for column in columns) + _MARGIN + self._gap * max(0, len(columns) - 1)
        spare = self.size.width - used
        growing = [number for number, column in enumerate(columns) if column.grows]
        widths = [column.width for column in columns]
        for number in growing:
            widths[number] = max(4, widths[number] + spare // len(growing))
        return tuple(widths)

    def _fit_virtual_size(self) -> None:
        wanted = Size(self.size.width, len(self._rows) + 1)
        if self.virtual_size != wanted:
            self.virtual_size = wanted

    # ------------------------------------------------------------------ what happens to it

    def on_resize(self) -> None:
        """Lay the columns out for the new width and keep the cursor in sight."""
        self._widths = self._column_widths()
        self._fit_virtual_size()
        self._keep_in_sight(max(0, self.cursor))
        self.refresh()
        self.post_message(Relaid())

    def on_focus(self) -> None:
        """The cursor is painted differently where the keys go."""
        self._refresh_cursor()

    def on_blur(self) -> None:
        """The cursor is painted differently where the keys do not go."""
        self._refresh_cursor()

    def _refresh_cursor(self) -> None:
        self.refresh(Region(0, self.cursor - self.scroll_offset.y + 1, self.size.width, 1))

    def on_click(self, event: events.Click) -> None:
        """A click moves the cursor; one on the cursor's row opens it."""
        row = event.y - 1 + self.scroll_offset.y
        if event.y == 0 or not 0 <= row < len(self._rows):
            return
        if row == self.cursor:
            self.post_message(self.Clicked(self))
        else:
            self.move_to(row)


def _text_of(header: Line) -> str:
    return "".join(span.text for span in header).rstrip()
