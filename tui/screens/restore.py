"""The restore flow: point, target, mapping, checks, plan, confirm; then a job, whose end is the report.

Every step has safe values already, `P` shows the plan from any of them, and only the confirmation can start it.
"""

from __future__ import annotations

from typing import ClassVar

from msgspec import structs
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.widgets import Input

from engine.fleet import FitnessCheck, Verdict
from engine.repository.model import Point
from engine.restore import RestorePlan, open_warnings, with_accepted
from tui.actions import Place
from tui.keys import bindings_of
from tui.screens.base import ConsoleScreen
from tui.screens.confirm import ConfirmScreen
from tui.viewmodels import restore_flow as flow
from tui.viewmodels.picture import Picture, VmView, find_view
from tui.viewmodels.problems import from_error, problem_lines
from tui.viewmodels.restore_flow import Draft, Stage
from tui.viewmodels.restore_plan import check_lines, check_table, confirm_lines, plan_block
from tui.viewmodels.text import BLANK, Block, Line, Table, Tone, line, quiet, rule, strong, wrapped
from tui.viewmodels.vm_page import point_key, point_lines, point_table
from tui.widgets.keyed_table import KeyedTable
from tui.widgets.lines_view import LinesView, PaneView

_ROOM_FOR_RAIL = 30
_TITLES = {
    Stage.POINT: ("WHICH MOMENT", "newest first"),
    Stage.TARGET: ("WHICH HOST", "the fittest first"),
    Stage.MAPPING: ("UNDER WHICH NAME, CONNECTED TO WHAT", "Space changes, Enter goes on"),
    Stage.CHECKS: ("WHAT STANDS IN THE WAY", "failures first"),
    Stage.PLAN: ("WHAT WILL BE DONE", "nothing has been started"),
}


class RestoreScreen(ConsoleScreen[None]):
    """Bring one VM back, one decision a screen."""

    place = Place.RESTORE
    CSS_PATH = "restore.tcss"
    BINDINGS: ClassVar[list[BindingType]] = bindings_of(Place.RESTORE)

    def __init__(self, vm_uuid: str, point: str = "") -> None:
        super().__init__()
        self.vm_uuid = vm_uuid
        self.stage = Stage.POINT
        self._wanted_point = point
        self._draft = Draft(vm_uuid, vm_uuid)
        self._plan: RestorePlan | None = None
        self._planned: Draft | None = None
        self._refusal: Block = ()
        self._typing = ""
        """The field of the mapping that is being typed."""

    def body(self) -> ComposeResult:
        """The steps, the choice of this step, and what the cursor is on."""
        yield LinesView(id="rail")
        yield LinesView(id="rule-step")
        yield KeyedTable(id="choice")
        yield LinesView(id="asked")
        yield Input(id="typed", select_on_focus=True)
        yield PaneView(id="detail")

    def on_mount(self) -> None:
        """Begin with the newest point, or the one that was asked for."""
        self.query_one(Input).cursor_blink = False
        super().on_mount()
        view = self.view
        if view is None:
            return
        self._draft = Draft(view.uuid, view.name)
        self.repaint()
        wanted = next((point for point in view.points if _is_wanted(point, self._wanted_point)), None)
        if wanted is not None:
            self.table("choice").move_to_key(point_key(wanted))

    def main_pane(self) -> KeyedTable:
        """The choice of this step."""
        return self.table("choice")

    @property
    def view(self) -> VmView | None:
        """The VM as it is known now."""
        return find_view(self.console.picture, self.vm_uuid)

    def crumbs(self, picture: Picture) -> str:
        """Act, VM, moment, target."""
        return flow.title(self._draft, picture)

    def summary(self, picture: Picture) -> Line:
        """Which step."""
        if self._is_low():
            return flow.rail_line(self.stage)
        return line(
            strong(f"step {self.stage.value} of {len(Stage)}  {self.stage.name}"),
            quiet("   nothing is touched and nothing starts before you confirm"),
        )

    def _is_low(self) -> bool:
        return self.size.height < _ROOM_FOR_RAIL

    # ------------------------------------------------------------------ painting

    def paint(self, picture: Picture) -> None:
        """The rail, the table of this step and its detail."""
        width = self.size.width
        self.line("rail").display = not self._is_low()
        self.line("rail").show(flow.rail(self._draft, self._plan, self.stage, picture, width - 1))
        title, note = _TITLES[self.stage]
        self.line("rule-step").show_line(rule(title, width, note))
        table, choice = self._choice_table(picture), self.table("choice")
        choice.display = self.stage is not Stage.PLAN
        room = max(4, (self.size.height - (6 if self._is_low() else 12)) // 2)
        choice.styles.height = min(max(len(table.rows), len(table.empty)) + 1, room)
        choice.show(table)
        self._paint_detail(picture)

    def _choice_table(self, picture: Picture) -> Table:
        view, width, plan = self.view, self.size.width, self._plan
        if self.stage is Stage.POINT and view is not None:
            return point_table(view, picture, width)
        if self.stage is Stage.TARGET and self._draft.point is not None:
            return flow.target_table(picture, self._draft.point, width)
        if plan is None:
            return Table((), (), (line(strong("PLANNING"), quiet("  every open question is being decided...")),))
        if self.stage is Stage.MAPPING:
            return flow.mapping_table(self._draft, plan, picture, width)
        return check_table(plan, self._draft.accepted, width) if self.stage is Stage.CHECKS else Table((), ())

    def _paint_detail(self, picture: Picture) -> None:
        pane = self.pane("detail")
        lines = self._refusal or self._detail_lines(picture, pane.size.width - 2, pane.size.height - 1)
        pane.show(tuple((*line(" "), *one) for one in ((BLANK, *lines) if self.stage is not Stage.PLAN else lines)))

    def _detail_lines(self, picture: Picture, width: int, height: int) -> Block:
        view, plan, key = self.view, self._plan, self.table("choice").key
        if self.stage is Stage.POINT and view is not None:
            return point_lines(self._point_at_cursor(), view, picture, width, height)
        if self.stage is Stage.TARGET and self._draft.point is not None:
            ranked = flow.ranked_hosts(picture, self._draft.point)
            return flow.target_lines(next((fit for fit in ranked if fit.host == key), None), picture, width)
        if plan is None:
            return (line(strong("PLANNING")),) if self.stage is Stage.PLAN else ()
        if self.stage is Stage.CHECKS:
            return check_lines(self._check_at_cursor(), plan, self._draft.accepted, width)
        return plan_block(plan, width) if self.stage is Stage.PLAN else _mapping_help(key, width)

    def _check_at_cursor(self) -> FitnessCheck | None:
        place, checks = self.table("choice").cursor, self._plan.checks if self._plan else ()
        return checks[place] if 0 <= place < len(checks) else None

    def _point_at_cursor(self) -> Point | None:
        view, key = self.view, self.table("choice").key
        return next((point for point in view.points if point_key(point) == key), None) if view else None

    # ------------------------------------------------------------------ moving on

    def why_not(self, action: str) -> str | None:
        """What this step still needs."""
        if action in ("onward", "to_plan"):
            return self._why_not_onward(action)
        if action == "previous" and self.stage is Stage.POINT:
            return "This is the first step; Esc leaves."
        if action == "change" and self.stage is Stage.CHECKS:
            check = self._check_at_cursor()
            if check is None or not check.by_name:
                return "Only a warning marked OPEN is accepted by name; the others are by going on."
        elif action == "change" and self.stage is not Stage.MAPPING:
            return "There is nothing to change in this step; Enter chooses what is under the cursor."
        if action == "copy_command" and self._plan is None:
            return "The command is known once there is a plan; P shows it."
        return None

    def _why_not_onward(self, action: str) -> str | None:
        if self.stage is Stage.POINT and self._point_at_cursor() is None:
            return "There is no recovery point to choose."
        if self.stage is Stage.TARGET and self.table("choice").key is None:
            return "There is no host to choose."
        if action == "onward" and self.stage is Stage.TARGET and self._fit_at_cursor() is Verdict.DOES_NOT_FIT:
            return "It cannot run there; the reason is below. Choose another host."
        if action == "onward" and self.stage in (Stage.CHECKS, Stage.PLAN):
            if self._plan is None:
                return "The plan is not there yet."
            if self._plan.blocked:
                return "A check has failed, and nothing is started before it passes. h goes back to change something."
            left = open_warnings(self._plan.checks, self._draft.accepted)
            if left:
                where = "" if self.stage is Stage.CHECKS else " of the step before (h)"
                return f"Accept first, with Space on its line{where}: {', '.join(check.name for check in left)}."
        return None

    def _fit_at_cursor(self) -> Verdict | None:
        key, point = self.table("choice").key, self._draft.point
        if point is None:
            return None
        ranked = flow.ranked_hosts(self.console.picture, point)
        return next((fit.verdict for fit in ranked if fit.host == key), None)

    def action_onward(self) -> None:
        """Take what is under the cursor and go to the next step; the last one asks."""
        if self.stage is Stage.PLAN:
            self._confirm()
            return
        self._take()
        self._go(Stage(self.stage + 1))

    def action_to_plan(self) -> None:
        """Take what is under the cursor, leave the rest as suggested, show the plan."""
        self._take()
        if self._draft.point is not None and not self._draft.to_host:
            ranked = flow.ranked_hosts(self.console.picture, self._draft.point)
            if not ranked or ranked[0].verdict is Verdict.DOES_NOT_FIT:
                self._go(Stage.TARGET)
                self.say("No host passes; choose one and see why.")
                return
            self._draft = flow.with_host(self._draft, ranked[0].host)
        self._go(Stage.PLAN)

    def _take(self) -> None:
        point, key = self._point_at_cursor(), self.table("choice").key
        if self.stage is Stage.POINT and point is not None:
            self._draft = structs.replace(self._draft, point=point)
        elif self.stage is Stage.TARGET and key:
            self._draft = flow.with_host(self._draft, key)

    def action_previous(self) -> None:
        """One step back."""
        self._go(Stage(self.stage - 1))

    def _go(self, stage: Stage) -> None:
        self.stage = stage
        self._close_field()
        if stage >= Stage.MAPPING:
            self._ask_for_plan()
        self.repaint()
        choice = self.table("choice")
        if stage is Stage.PLAN:
            self.pane("detail").move_to_end(last=False)
            self.pane("detail").focus()
            return
        choice.focus()
        if stage is Stage.POINT and self._draft.point is not None:
            choice.move_to_key(point_key(self._draft.point))
        elif stage is Stage.TARGET and self._draft.to_host:
            choice.move_to_key(self._draft.to_host)
        elif stage is not Stage.POINT:
            choice.move_to(0)
        self.call_after_refresh(self.repaint)

    def _ask_for_plan(self, *, anew: bool = False) -> None:
        if not anew and self._planned == self._draft and self._plan is not None:
            return
        self._plan = None
        self._refusal = ()
        self.in_background(self._make_plan(self._draft), "plan")

    async def _make_plan(self, draft: Draft) -> None:
        picture, request = self.console.picture, draft.request()
        if picture.fleet is None or request is None:
            return
        try:
            self._plan = await self.console.gateway.plan_restore(picture.fleet, request)
            self._planned = draft
        except Exception as error:
            self._refusal = problem_lines(from_error(error, "plan", picture.now), self.size.width - 2)
        self.repaint()

    # ------------------------------------------------------------------ fields

    def action_change(self) -> None:
        """The next value of a field; some are typed. Of a warning: it is accepted, or no longer."""
        if self.stage is Stage.CHECKS:
            self._accept()
            return
        field, plan = self.table("choice").key, self._plan
        if field is None or plan is None:
            return
        if field in flow.TYPED:
            self._type(field, plan)
            return
        self._change(flow.next_choice(field, self._draft, plan, self.console.picture))

    def _type(self, field: str, plan: RestorePlan) -> None:
        self._typing = field
        how = quiet("  Enter takes it, Esc leaves it as it was")
        self.line("asked").show_line(line(" ", strong(f"{field}:"), f" {flow.TYPED[field]}", how))
        self.line("asked").add_class("open")
        entry = self.query_one(Input)
        entry.value = flow.typed_so_far(field, plan)
        entry.add_class("open")
        entry.focus()

    def _accept(self) -> None:
        """It changes nothing of what is done, so the plan stays the one that was looked at."""
        check, plan = self._check_at_cursor(), self._plan
        if check is None or plan is None or self._planned != self._draft:
            self.say("The plan is being made anew; look at it first.")
            return
        self._draft = self._planned = flow.with_accepted(self._draft, check)
        self._plan = with_accepted(plan, self._draft.accepted)
        self.repaint()

    def _change(self, draft: Draft) -> None:
        if draft == self._draft:
            self.say("There is no other value to choose.")
            return
        self._draft = draft
        # The old plan stays on the screen for the instant the new one takes; it cannot be started.
        old, self._plan = self._plan, None
        self._ask_for_plan()
        self._plan = old
        self.repaint()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """The field is typed. Without a name the suggested one stays; a reason or ticket may be taken away."""
        field, value = self._typing, event.value.strip()
        self._close_field()
        self.table("choice").focus()
        if field and (value or field != "name"):
            changed = flow.with_value(field, value, self._draft)
            if changed != self._draft:
                self._change(changed)

    def _close_field(self) -> None:
        self._typing = ""
        self.line("asked").remove_class("open")
        self.query_one(Input).remove_class("open")

    def action_go_back(self) -> None:
        """Out of the field, or out of the flow."""
        if self.query_one(Input).has_class("open"):
            self._close_field()
            self.table("choice").focus()
        else:
            self.dismiss()

    def action_refetch(self) -> None:
        """Ask the hosts again, and plan anew with what they answer."""
        super().action_refetch()
        # What was accepted was what the hosts said before.
        self._draft = structs.replace(self._draft, accepted=())
        if self.stage >= Stage.MAPPING:
            self._ask_for_plan(anew=True)
            self.repaint()

    def on_keyed_table_moved(self, event: KeyedTable.Moved) -> None:
        """Show what is under the cursor."""
        self._paint_detail(self.console.picture)
        self.paint_keys()

    async def on_keyed_table_clicked(self, event: KeyedTable.Clicked) -> None:
        """A second click goes on."""
        await self.action_perform("onward")

    # ------------------------------------------------------------------ the end

    def _confirm(self) -> None:
        plan = self._plan
        if plan is None or self._planned != self._draft:
            self.say("The plan is being made anew; look at it first.")
            return
        title = self.crumbs(self.console.picture)
        lines = confirm_lines(plan, self.console.picture, self.size.width - 4)
        self.console.push_screen(
            ConfirmScreen(
                title,
                lines,
                verb=f"starts the restore of {plan.vm} on {plan.request.to_host}",
                typed=plan.vm if plan.interrupts else "",
            ),
            lambda confirmed: self._confirmed(plan) if confirmed else None,
        )

    def _confirmed(self, plan: RestorePlan) -> None:
        self.in_background(self._launch(plan), "launch")

    async def _launch(self, plan: RestorePlan) -> None:
        screen = await self.screen_of(self.console.gateway.launch_restore(plan), f"launch-{self.vm_uuid}")
        if screen is not None:
            self.show_instead(screen)

    def action_copy_command(self) -> None:
        """Copy the same from the shell."""
        if self._plan is not None:
            self.offer(self._plan.command)


def _is_wanted(point: Point, wanted: str) -> bool:
    return bool(wanted) and (point_key(point) == wanted or point.id.startswith(wanted))


def _mapping_help(field: str | None, width: int) -> Block:
    texts = {
        "name": "Space opens the field. The original keeps its own name; two VMs of one name cannot be on one host.",
        "pool": "Space goes through the pools of the target host. All disks go to one pool.",
        "MACs": "auto: kept when the original cannot be running, new otherwise. Space changes.",
        "mode": "beside, replace (the original is switched off and kept aside until you commit), disks, test.",
        "machine": "Space takes the nearest that the host has; the guest finds other hardware then.",
        "CPU": "Space takes what the host can give; without a choice a restore does the same where a model is missing.",
        "start": "yes: when its disks are written. at once: it runs on the point as this machine serves it, and its"
        " disks move under it; until then it needs this machine and the repository. Space changes.",
        "reason": "Space opens the field. It is kept in the report, with your name and the time.",
        "ticket": "Space opens the field. It is kept in the report, and found by / among the restores (4).",
    }
    if field is None:
        return ()
    text = texts.get(field, "Space goes through the networks of the target host; none leaves the card unplugged.")
    return wrapped(text, width, tone=Tone.QUIET)
