"""The guided backup: hot or cold and where to, what each does to this VM, the plan; then a question, then a job."""

from __future__ import annotations

from typing import ClassVar

from msgspec import structs
from textual.app import ComposeResult
from textual.binding import BindingType

from engine import backup
from engine.hosts.model import VmState
from engine.settings.model import Method
from tui.actions import Place
from tui.keys import bindings_of
from tui.screens.base import ConsoleScreen
from tui.screens.confirm import ConfirmScreen
from tui.screens.fleet import why_no_backup
from tui.viewmodels.backup_guide import Option, candidates, command, confirm_lines, option_table, plan_block
from tui.viewmodels.picture import Picture, VmView, find_view
from tui.viewmodels.problems import from_error, problem_lines
from tui.viewmodels.text import Line, line, quiet
from tui.viewmodels.vm_page import protection_line
from tui.widgets.keyed_table import KeyedTable
from tui.widgets.lines_view import PaneView


class BackupScreen(ConsoleScreen[None]):
    """Choose how; see what that means."""

    place = Place.BACKUP
    CSS_PATH = "backup.tcss"
    BINDINGS: ClassVar[list[BindingType]] = bindings_of(Place.BACKUP)

    def __init__(self, vm_uuid: str) -> None:
        super().__init__()
        self.vm_uuid = vm_uuid
        self._options: tuple[Option, ...] = ()

    def body(self) -> ComposeResult:
        """The choices, and the plan of the one under the cursor."""
        yield KeyedTable(id="options")
        yield PaneView(id="plan")

    def on_mount(self) -> None:
        """Plan every choice at once: each is quick, and the operator compares."""
        super().on_mount()
        view = self.view
        if view is not None:
            self._options = candidates(self.console.picture, view)
            self.in_background(self._plan_all(view), "plan")

    async def _plan_all(self, view: VmView) -> None:
        for option in self._options:
            planned = await self._planned(view, option)
            self._options = tuple(planned if other.key == option.key else other for other in self._options)
            self.repaint()

    async def _planned(self, view: VmView, option: Option) -> Option:
        picture = self.console.picture
        if picture.fleet is None:
            return option
        try:
            plan = await self.console.gateway.plan_backup(picture.fleet, _request(view, option))
        except Exception as error:
            return structs.replace(
                option, refusal=problem_lines(from_error(error, "plan", picture.now), self.size.width - 2)
            )
        return structs.replace(option, plan=plan, refusal=())

    def main_pane(self) -> KeyedTable:
        """The choices."""
        return self.table("options")

    @property
    def view(self) -> VmView | None:
        """The VM as it is known now."""
        return find_view(self.console.picture, self.vm_uuid)

    def crumbs(self, picture: Picture) -> str:
        """Act, VM, host, target."""
        view, option = self.view, self.selected()
        if view is None:
            return "BACK UP"
        return f"BACK UP {view.name} on {view.host}" + (f" → {option.repository}" if option else "")

    def summary(self, picture: Picture) -> Line:
        """How it is protected so far."""
        view = self.view
        return protection_line(view, picture) if view else line(quiet("This VM is not known any more. Esc goes back."))

    def paint(self, picture: Picture) -> None:
        """The choices and the plan."""
        view, options, pane = self.view, self.table("options"), self.pane("plan")
        if view is None:
            return
        options.styles.height = min(len(self._options), 6) + 1
        options.show(option_table(self._options, picture, view))
        block = plan_block(self.selected(), view, pane.size.width - 2, self._options)
        pane.show(tuple((*line(" "), *one) for one in block))

    def selected(self) -> Option | None:
        """The choice under the cursor."""
        key = self.table("options").key
        return next((option for option in self._options if option.key == key), None)

    def why_not(self, action: str) -> str | None:
        """There must be a plan to go on with."""
        if action not in ("onward", "copy_command"):
            return None
        view, option = self.view, self.selected()
        if view is None or option is None:
            return "There is nothing to plan."
        if action == "onward" and option.refusal:
            return f"A {option.method.value} backup is not possible now; the reason is below."
        if action == "onward" and option.plan is None:
            return "The plan is not there yet."
        return why_no_backup(view, self.console.picture) if action == "onward" else None

    def on_keyed_table_moved(self, event: KeyedTable.Moved) -> None:
        """Show what this choice means."""
        self.pane("plan").move_to_end(last=False)
        self.repaint()

    async def on_keyed_table_clicked(self, event: KeyedTable.Clicked) -> None:
        """A second click goes on."""
        await self.action_perform("onward")

    def action_onward(self) -> None:
        """Ask for the confirmation."""
        view, option = self.view, self.selected()
        if view is None or option is None:
            return
        running = view.vm is not None and view.vm.state is VmState.RUNNING
        self.console.push_screen(
            ConfirmScreen(
                self.crumbs(self.console.picture),
                confirm_lines(option, view, self.size.width - 4),
                verb=f"starts the {option.method.value} backup",
                # Only what takes the service away is worth typing for.
                typed=view.name if option.method is Method.COLD and running else "",
            ),
            lambda confirmed: self._confirmed(view, option) if confirmed else None,
        )

    def _confirmed(self, view: VmView, option: Option) -> None:
        self.in_background(self._launch(view, option), "launch")

    async def _launch(self, view: VmView, option: Option) -> None:
        starting = self.console.gateway.launch_backup(_request(view, option))
        screen = await self.screen_of(starting, f"launch-{self.vm_uuid}")
        if screen is not None:
            self.show_instead(screen)

    def action_copy_command(self) -> None:
        """Copy the same from the shell."""
        view, option = self.view, self.selected()
        if view is not None and option is not None:
            self.offer(command(view, option))


def _request(view: VmView, option: Option) -> backup.Request:
    request = backup.Request(
        vm_uuid=view.uuid, vm=view.name, host=view.host, repository=option.repository, method=option.method
    )
    if view.level is None:
        return request
    return structs.replace(
        request, shutdown_timeout_s=view.level.shutdown_timeout_s, hot_if_ignored=view.level.hot_if_ignored
    )
