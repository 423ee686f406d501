"""The fleet: hosts above, VMs below, the worst protected first. On a wide terminal the VM in full beside them."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, Vertical
from textual.widgets import Input

from tui.actions import Place
from tui.keys import bindings_of
from tui.screens.filtered import FilteredScreen
from tui.viewmodels.fleet_rows import ALL_HOSTS, host_table, repository_table, summary_line, vm_glance, vm_table
from tui.viewmodels.picture import Picture, VmView, find_view
from tui.viewmodels.text import Line, rule
from tui.widgets.keyed_table import KeyedTable
from tui.widgets.lines_view import LinesView, PaneView


class FleetScreen(FilteredScreen):
    """Hosts and VMs with the age of their newest recovery point."""

    place = Place.FLEET
    CSS_PATH = "fleet.tcss"
    BINDINGS: ClassVar[list[BindingType]] = bindings_of(Place.FLEET)

    def __init__(self) -> None:
        super().__init__()
        self._shown: tuple[object, ...] = ()
        self._touched = False
        self._arrived = False
        self._on_the_way = False

    def body(self) -> ComposeResult:
        """Hosts, VMs, and the panes that only a wide terminal has room for."""
        with Container(id="panes"):
            with Vertical(id="left"):
                yield KeyedTable(id="hosts")
                yield LinesView(id="rule-repositories")
                yield KeyedTable(id="repositories")
            with Vertical(id="center"):
                yield LinesView(id="rule-vms")
                yield Input(id="filter", placeholder="words to look for, !word to leave out", select_on_focus=False)
                yield KeyedTable(id="vms")
            with Vertical(id="right"):
                yield LinesView(id="rule-vm")
                yield PaneView(id="glance")

    def on_mount(self) -> None:
        """Begin among the VMs; the list of repositories is only looked at."""
        self.table("repositories").can_focus = False
        self.pane("glance").can_focus = False
        self.pane("glance").reached_by = "Enter opens it"
        super().on_mount()
        self._on_the_way = self.console.destination.screen in ("vm", "restore")

    def main_pane(self) -> KeyedTable:
        """The VMs."""
        return self.table("vms")

    def crumbs(self, picture: Picture) -> str:
        """Where the operator is."""
        return "Fleet"

    def summary(self, picture: Picture) -> Line:
        """The fleet in one line."""
        return summary_line(picture)

    def paint(self, picture: Picture) -> None:
        """Hosts, VMs, repositories, and the VM under the cursor."""
        wide = self.size.width >= 120
        hosts, vms = self.table("hosts"), self.table("vms")
        table = host_table(picture, hosts.size.width)
        most = self.size.height if wide else max(4, self.size.height // 3)
        spare = 1 if self.size.height >= 24 else 0
        hosts.styles.height = min((len(table.rows) or len(table.empty)) + 1 + spare, most)
        hosts.show(table, in_order=not self._arrived)
        if wide:
            self.line("rule-repositories").show_line(rule("REPOSITORIES", self.table("repositories").size.width))
            self.table("repositories").show(repository_table(picture, self.table("repositories").size.width))
        self._paint_vms(picture, vms)
        self._paint_glance(picture)
        self._arrived = self._arrived or picture.live
        if self._on_the_way:
            self._go_to_destination(picture)

    def _paint_vms(self, picture: Picture, vms: KeyedTable) -> None:
        host = self.table("hosts").key or ALL_HOSTS
        table = vm_table(picture, vms.size.width, host=host, wanted=self._wanted, faults_only=self._faults_only)
        # Rows never move under the cursor by themselves: not before the operator asks for other rows, or for order.
        asked = (host, self._wanted, self._faults_only)
        vms.show(table, in_order=asked != self._shown or not self._touched)
        if not self._touched and table.rows:
            vms.move_to(0)
        self._shown = asked
        note = " ".join(
            part
            for part in (f"filter: {self._wanted}" if self._wanted else "", "faults only" if self._faults_only else "")
            if part
        )
        where = f" on {host}" if host else ""
        self.line("rule-vms").show_line(rule(f"VMS{where} ({len(table.rows)})", vms.size.width, note or "worst first"))

    def _paint_glance(self, picture: Picture) -> None:
        if self.size.width < 120:
            return
        view, pane = self.selected(), self.pane("glance")
        self.line("rule-vm").show_line(rule(view.name if view else "", pane.size.width))
        pane.show(vm_glance(picture, view, pane.size.width - 1))

    def selected(self) -> VmView | None:
        """The VM under the cursor."""
        key = self.table("vms").key
        return find_view(self.console.picture, key) if key else None

    def why_not(self, action: str) -> str | None:
        """Backup and restore need a VM, and what it takes."""
        view = self.selected()
        if action in ("backup", "restore", "open", "copy_id", "copy_command") and view is None:
            return "There is no VM under the cursor."
        if view is not None and action == "backup":
            return why_no_backup(view, self.console.picture)
        if view is not None and action == "restore" and not view.points:
            return f"{view.name} has no recovery point to restore from; B makes one."
        return None

    # ------------------------------------------------------------------ what happens

    def on_keyed_table_moved(self, event: KeyedTable.Moved) -> None:
        """Another host shows other VMs; another VM shows another glance."""
        if event.table.id == "hosts":
            self._paint_vms(self.console.picture, self.table("vms"))
        elif event.table.has_focus:
            self._touched = self._touched or event.table.cursor > 0
        self._paint_glance(self.console.picture)
        self.paint_keys()

    def on_keyed_table_clicked(self, event: KeyedTable.Clicked) -> None:
        """A second click opens."""
        self.action_open()

    # ------------------------------------------------------------------ actions

    def action_open(self) -> None:
        """Open the VM; on a host, go to its VMs."""
        if self.focused is self.table("hosts"):
            self.table("vms").focus()
            return
        view = self.selected()
        if view is not None:
            from tui.screens.vm import VmScreen

            self.console.push_screen(VmScreen(view.uuid))

    def action_backup(self) -> None:
        """Plan a backup of the VM under the cursor."""
        view = self.selected()
        if view is not None:
            from tui.screens.backup import BackupScreen

            self.console.push_screen(BackupScreen(view.uuid))

    def action_restore(self) -> None:
        """Plan a restore of the VM under the cursor."""
        view = self.selected()
        if view is not None:
            from tui.screens.restore import RestoreScreen

            self.console.push_screen(RestoreScreen(view.uuid))

    def action_sort(self) -> None:
        """Put the rows in order again."""
        self._shown = ()
        self.repaint()
        self.say("Sorted again, worst first.")

    def action_go_back(self) -> None:
        """Clear the filter, then the host."""
        if self.clear_filter():
            return
        if self._faults_only:
            self.action_faults()
        elif self.table("hosts").key:
            self.table("hosts").move_to(0)

    def action_copy_id(self) -> None:
        """Copy the VM's UUID."""
        view = self.selected()
        if view is not None:
            self.offer(view.uuid)

    def action_copy_command(self) -> None:
        """Copy the command that lists its recovery points."""
        view = self.selected()
        if view is not None:
            self.offer(f"newhope points {view.name}")

    def _go_to_destination(self, picture: Picture) -> None:
        wanted = self.console.destination
        name, _, selector = wanted.argument.partition("@")
        view = find_view(picture, name)
        # What was remembered may not know the VM yet; the hosts' own answer is the last word.
        self._on_the_way = view is None and not picture.live
        if view is None:
            if picture.live:
                self.say(f"No host and no repository knows a VM {name}.")
        elif wanted.screen == "vm":
            from tui.screens.vm import VmScreen

            self.console.push_screen(VmScreen(view.uuid))
        else:
            from tui.screens.restore import RestoreScreen

            self.console.push_screen(RestoreScreen(view.uuid, selector))


def why_no_backup(view: VmView, picture: Picture) -> str | None:
    """Why a VM cannot be backed up now; None if it can be planned."""
    if view.vm is None:
        return f"{view.name} is on no host that answers; R brings it back from a recovery point."
    if view.job is not None:
        return f"Job {view.job.id} ({view.job.kind}) is at work on {view.name}; 2 shows it."
    if not picture.settings.repositories:
        return "There is no repository to keep it in: newhope repo init PATH."
    snapshot = picture.snapshot(view.host)
    if snapshot is not None and snapshot.reason:
        return f"{view.host} does not answer: {snapshot.reason}"
    return None
