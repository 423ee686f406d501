"""One VM: what it is, how it is protected, its recovery points on a timeline and in a table."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, Vertical

from engine.repository.model import Point, PointKind
from tui.actions import Place
from tui.keys import bindings_of
from tui.screens.base import ConsoleScreen
from tui.screens.fleet import why_no_backup
from tui.viewmodels.picture import Picture, VmView, find_view
from tui.viewmodels.text import Line, line, rule
from tui.viewmodels.timeline import timeline_lines
from tui.viewmodels.vm_page import facts_line, point_key, point_lines, point_table, proof_line, protection_line
from tui.widgets.keyed_table import KeyedTable
from tui.widgets.lines_view import LinesView, PaneView

_FRAME_LINES = 6
_POINTS_FIRST = 3
"""Recovery points that are in sight, below their rule and the head of their table, before there is room for one."""
_LEAST_SIDE_LINES, _MOST_SIDE_LINES = 4, 9


class VmScreen(ConsoleScreen[None]):
    """The page of one VM."""

    place = Place.VM
    CSS_PATH = "vm.tcss"
    BINDINGS: ClassVar[list[BindingType]] = bindings_of(Place.VM)

    def __init__(self, vm_uuid: str) -> None:
        super().__init__()
        self.vm_uuid = vm_uuid

    def body(self) -> ComposeResult:
        """Protection, timeline, recovery points, the one under the cursor."""
        yield LinesView(id="timeline")
        with Container(id="lower"):
            with Vertical(id="points-side"):
                yield LinesView(id="rule-points")
                yield KeyedTable(id="points")
            with Vertical(id="point-side"):
                yield LinesView(id="rule-point")
                yield PaneView(id="point")

    def main_pane(self) -> KeyedTable:
        """The recovery points."""
        return self.table("points")

    @property
    def view(self) -> VmView | None:
        """The VM as it is known now."""
        return find_view(self.console.picture, self.vm_uuid)

    def crumbs(self, picture: Picture) -> str:
        """Where the operator is."""
        view = self.view
        return f"Fleet > {view.host} > {view.name}" if view else f"Fleet > {self.vm_uuid}"

    def summary(self, picture: Picture) -> Line:
        """What the machine is."""
        view = self.view
        return facts_line(view) if view else line("No host and no repository knows this VM any more. Esc goes back.")

    def paint(self, picture: Picture) -> None:
        """Everything below the facts."""
        view, width = self.view, self.size.width
        if view is None:
            return
        rpo_s = view.level.rpo_s if view.level else None
        jobs = tuple(job for job in picture.jobs if job.subject == view.name)
        strips = timeline_lines(
            view.points_of_every_kind, jobs, picture.now, width - 1, rpo_s=rpo_s, proofs=view.proofs
        )
        told = [one for one in (protection_line(view, picture), proof_line(view, picture)) if one]
        above = tuple((*line(" "), *one) for one in (*told, *strips))
        self.line("timeline").styles.height = len(above)
        self.line("timeline").show(above)
        self._share_room(len(above), len(view.points_of_every_kind))
        points = self.table("points")
        files = f", {len(view.guest_points)} of files" if view.guest_points else ""
        count = f"{len(view.points)}{files}"
        self.line("rule-points").show_line(
            rule(f"RECOVERY POINTS ({count})", points.size.width, "newest first, each complete by itself")
        )
        # New points come on top; that is no reason for the cursor to leave its own.
        points.show(point_table(view, picture, points.size.width), in_order=True)
        self._paint_point(picture)

    def _share_room(self, above: int, points: int) -> None:
        """Below each other, three recovery points come first, and the one under the cursor gets what is left."""
        side = self.query_one("#point-side")
        if self.has_class("-wide"):
            side.display, side.styles.height = True, "1fr"
            return
        left = self.size.height - _FRAME_LINES - above - 2 - min(max(points, 1), _POINTS_FIRST)
        side.display, side.styles.height = left >= _LEAST_SIDE_LINES, max(1, min(left, _MOST_SIDE_LINES))

    def _paint_point(self, picture: Picture) -> None:
        view, point, pane = self.view, self.selected(), self.pane("point")
        if view is None:
            return
        name = f"{view.name}@{point.id[:8]}" if point else ""
        lines = point_lines(point, view, picture, pane.size.width - 2, pane.size.height)
        self.line("rule-point").show_line(rule(name, pane.size.width))
        pane.show(tuple((*line(" "), *one) for one in lines))

    def selected(self) -> Point | None:
        """The recovery point under the cursor."""
        view, key = self.view, self.table("points").key
        if view is None:
            return None
        return next((point for point in view.points_of_every_kind if point_key(point) == key), None)

    def why_not(self, action: str) -> str | None:
        """Backup and restore need what they need."""
        view = self.view
        if view is None:
            return "This VM is not known any more." if action in ("backup", "restore", "files") else None
        if action == "backup":
            return why_no_backup(view, self.console.picture)
        if action in ("restore", "files", "copy_id") and self.selected() is None:
            return f"{view.name} has no recovery point yet; B makes one."
        return self._why_no_restore(view) if action == "restore" else None

    def _why_no_restore(self, view: VmView) -> str | None:
        point = self.selected()
        if point is None or point.manifest.kind is PointKind.VM:
            return None
        return "It holds files from inside the guest, no VM; f shows them."

    def on_keyed_table_moved(self, event: KeyedTable.Moved) -> None:
        """Show the point under the cursor."""
        self._paint_point(self.console.picture)

    def on_keyed_table_clicked(self, event: KeyedTable.Clicked) -> None:
        """A second click opens nothing: a recovery point is already in full below."""

    def action_backup(self) -> None:
        """Plan a backup."""
        from tui.screens.backup import BackupScreen

        self.console.push_screen(BackupScreen(self.vm_uuid))

    def action_restore(self) -> None:
        """Plan a restore of the point under the cursor."""
        from tui.screens.restore import RestoreScreen

        point = self.selected()
        self.console.push_screen(RestoreScreen(self.vm_uuid, point_key(point) if point else ""))

    def action_files(self) -> None:
        """Look into the point under the cursor."""
        from tui.screens.files import FilesScreen

        point = self.selected()
        if point is not None:
            self.console.push_screen(FilesScreen(self.vm_uuid, point))

    def action_copy_id(self) -> None:
        """Copy the recovery point's name."""
        view, point = self.view, self.selected()
        if view is not None and point is not None:
            self.offer(f"{view.name}@{point.id}")

    def action_copy_command(self) -> None:
        """Copy the command that shows the recovery point."""
        view, point = self.view, self.selected()
        if view is not None:
            self.offer(f"newhope points show {view.name}@{point.id}" if point else f"newhope points {view.name}")
