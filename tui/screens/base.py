"""The frame of every screen: title with the age of what is shown, a summary, a body, the newest problem, the keys."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine
from typing import ClassVar, Generic, cast

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.screen import Screen, ScreenResultType

from engine.hosts.model import HostStatus
from engine.jobs import Job
from tui import clipboard
from tui.actions import Place
from tui.app import Console
from tui.keys import footer_line
from tui.viewmodels.figures import age, moment
from tui.viewmodels.picture import Picture
from tui.viewmodels.problems import problem_line
from tui.viewmodels.text import BLANK, Line, Span, Tone, between, clipped, line, quiet, strong
from tui.widgets.keyed_table import KeyedTable
from tui.widgets.lines_view import LinesView, PaneView
from tui.widgets.paint import Relaid

_SAID_FOR_S = 6.0
_STALE_AFTER_S = 60.0


class ConsoleScreen(Screen[ScreenResultType], Generic[ScreenResultType]):
    """A screen of the console. A screen has its `place`, a `body`, and `paint`s it from a picture."""

    place: ClassVar[Place]
    # None would mean the app's own, "*": a key that comes before the style sheet would be typed into the hidden filter.
    AUTO_FOCUS = ""

    def __init__(self) -> None:
        super().__init__()
        self._said = ""
        self._laid_out = False

    @property
    def console(self) -> Console:
        """The app, as what it is."""
        return cast(Console, self.app)  # pyright: ignore[reportUnknownMemberType]

    def compose(self) -> ComposeResult:
        """The frame."""
        yield LinesView(id="title")
        yield LinesView(id="summary")
        yield LinesView(id="rule")
        with Vertical(id="body"):
            yield from self.body()
        yield LinesView(id="notice")
        yield LinesView(id="foot")
        yield LinesView(id="keys")

    # ------------------------------------------------------------------ what a screen says

    def body(self) -> ComposeResult:
        """The widgets between the rules."""
        yield from ()

    def crumbs(self, picture: Picture) -> str:
        """Where the operator is."""
        return self.place.value

    def summary(self, picture: Picture) -> Line:
        """The second line."""
        return BLANK

    def paint(self, picture: Picture) -> None:
        """Show the picture in the body."""

    def why_not(self, action: str) -> str | None:
        """Why an action is not possible now; None if it is."""
        return None

    def main_pane(self) -> KeyedTable | PaneView | None:
        """What the keys move in when nothing has the focus."""
        return None

    # ------------------------------------------------------------------ the frame

    def on_mount(self) -> None:
        """Give the keys to the main pane."""
        pane = self.main_pane()
        if pane is not None:
            pane.focus()

    def on_screen_resume(self) -> None:
        """Show what has changed while another screen was in front."""
        self._laid_out = True
        self.call_after_refresh(self.repaint)

    def on_resize(self) -> None:
        """Lay everything out for the new size."""
        self.call_after_refresh(self.repaint)

    def on_relaid(self, message: Relaid) -> None:
        """A part of the screen has another size now."""
        message.stop()
        self.repaint()

    def repaint(self) -> None:
        """Show what is known now."""
        if not self.is_mounted or not self._laid_out:
            return
        picture = self.console.picture
        width = self.size.width
        name = (
            line(strong(" newhope  "), self.crumbs(picture))
            if width >= 78
            else line(strong(f" {self.crumbs(picture)}"))
        )
        self.line("title").show_line(between(name, _as_of(picture), width - 1))
        self.line("summary").show_line(clipped(line(" ", *self.summary(picture)), width))
        self.line("rule").show_line((Span("─" * width, Tone.QUIET),))
        self.paint(picture)
        self.paint_notice()
        self.line("foot").show_line((Span("─" * width, Tone.QUIET),))
        self.paint_keys()

    def paint_keys(self) -> None:
        """The footer; what is possible may change with the cursor."""
        self.line("keys").show_line(footer_line(self.place, self.size.width, self.why_not))

    def line(self, name: str) -> LinesView:
        """One of the frame's lines."""
        return self.query_one(f"#{name}", LinesView)

    def table(self, name: str) -> KeyedTable:
        """One of the screen's tables."""
        return self.query_one(f"#{name}", KeyedTable)

    def pane(self, name: str) -> PaneView:
        """One of the screen's panes of text."""
        return self.query_one(f"#{name}", PaneView)

    def paint_notice(self) -> None:
        """What was just said, or the newest problem."""
        picture = self.console.picture
        width = self.size.width
        if self._said:
            self.line("notice").show_line(clipped(line(" ", Span(self._said, Tone.NOTE)), width))
            return
        text = problem_line(picture.problems, picture.now)
        if not text:
            self.line("notice").show_line(BLANK)
            return
        *head, tail = text
        self.line("notice").show_line(between((Span(" "), *head), (tail,), width - 1))

    def say(self, text: str) -> None:
        """Tell the operator something that need not be kept."""
        self._said = text
        self.paint_notice()
        self.set_timer(_SAID_FOR_S, lambda: self._unsay(text))

    def _unsay(self, text: str) -> None:
        if self._said == text:
            self._said = ""
            self.paint_notice()

    def in_background(self, work: Coroutine[object, object, None], group: str) -> None:
        """Wait for an answer of the gateway without holding anything up; a newer question replaces an older one."""
        self.run_worker(work, group=group, exclusive=True, exit_on_error=False)

    async def screen_of(self, starting: Awaitable[Job], source: str) -> ConsoleScreen[None] | None:
        """The screen of a job that is being started; None if it was not, with the reason kept and told."""
        from tui.screens.job import JobScreen

        try:
            job = await starting
        except Exception as error:
            self.console.keep_error(error, source)
            self.say("It was not started; ! has the reason.")
            return None
        return JobScreen(job.id)

    # ------------------------------------------------------------------ actions

    async def action_perform(self, name: str) -> None:
        """Do what a key asks for, or say why not."""
        reason = self.why_not(name)
        if reason:
            self.say(reason)
        else:
            await self.console.run_action(name, self)

    def perform_later(self, name: str) -> None:
        """Do it once the palette has closed."""
        self.call_later(self.action_perform, name)

    def current_pane(self) -> KeyedTable | PaneView | None:
        """What the keys move in."""
        focused = self.focused
        return focused if isinstance(focused, (KeyedTable, PaneView)) else self.main_pane()

    def action_down(self) -> None:
        """Down a row."""
        self._move(1)

    def action_up(self) -> None:
        """Up a row."""
        self._move(-1)

    def action_half_down(self) -> None:
        """Half a page down."""
        self._move(max(1, self.size.height // 3))

    def action_half_up(self) -> None:
        """Half a page up."""
        self._move(-max(1, self.size.height // 3))

    def action_first(self) -> None:
        """To the first row."""
        pane = self.current_pane()
        if pane is not None:
            pane.move_to_end(last=False)

    def action_last(self) -> None:
        """To the last row."""
        pane = self.current_pane()
        if pane is not None:
            pane.move_to_end(last=True)

    def _move(self, rows: int) -> None:
        pane = self.current_pane()
        if pane is not None:
            pane.move(rows)

    def action_other_pane(self) -> None:
        """Give the keys to the next pane."""
        self.focus_next()

    def action_go_back(self) -> None:
        """Back to where the operator came from."""
        if len(self.console.screen_stack) > 1:
            self.dismiss()

    def action_mode_fleet(self) -> None:
        """The fleet."""
        self.console.show_mode("fleet")

    def action_mode_jobs(self) -> None:
        """The jobs."""
        self.console.show_mode("jobs")

    def action_mode_checks(self) -> None:
        """The checks."""
        self.console.show_mode("checks")

    def action_mode_restores(self) -> None:
        """The restores."""
        self.console.show_mode("restores")

    def action_problems(self) -> None:
        """The list of problems."""
        from tui.screens.problems import ProblemsScreen

        self.console.push_screen(ProblemsScreen())

    def action_help(self) -> None:
        """The sheet of keys."""
        from tui.screens.help import HelpScreen

        self.console.push_screen(HelpScreen(self.place, self.why_not))

    def action_refetch(self) -> None:
        """Ask everyone again."""
        self.console.gateway.refetch()
        self.say("Asking the hosts and repositories again.")

    def action_pause(self) -> None:
        """Hold the picture still, or let it go on."""
        paused = self.console.toggle_pause()
        self.say("Paused: nothing on the screen changes until p." if paused else "Going on.")

    def action_mouse(self) -> None:
        """Mouse on or off."""
        self.console.mouse_on = not self.console.mouse_on
        self.console.set_mouse(on=self.console.mouse_on)
        self.say("The mouse is on." if self.console.mouse_on else "The mouse is off: select text as usual.")

    def action_palette(self) -> None:
        """Find an action by its words."""
        self.console.action_command_palette()

    def action_quit_console(self) -> None:
        """Leave; jobs go on."""
        self.console.leave()

    def show_instead(self, screen: ConsoleScreen[None]) -> None:
        """Put another screen in this one's place, unless the operator has gone elsewhere meanwhile."""
        if self.console.screen is self:
            self.console.switch_screen(screen)  # pyright: ignore[reportUnknownMemberType]

    def offer(self, text: str) -> None:
        """Put a text where the operator can paste it from."""
        self.say(clipboard.offer(self.console, text, self.console.settings.state))


def _as_of(picture: Picture) -> Line:
    paused = (Span("PAUSED  ", Tone.WARN),) if picture.paused else ()
    if picture.fleet is None:
        return (*paused, quiet("LOADING"))
    old_s = (picture.now - picture.fleet.taken_at).total_seconds()
    at = moment(picture.fleet.taken_at, picture.now)
    if not picture.live:
        return (*paused, Span("REMEMBERED ", Tone.WARN), quiet(f"from {at}, asking"))
    if old_s > _STALE_AFTER_S:
        return (*paused, Span(f"STALE {age(old_s)} ", Tone.WARN), quiet(f"as of {at}"))
    return (*paused, *_away(picture), quiet(f"as of {at}"))


def _away(picture: Picture) -> Line:
    seen = picture.fleet
    if seen is None:
        return ()
    hosts = sum(snapshot.status is not HostStatus.ONLINE for snapshot in seen.snapshots)
    repositories = sum(not view.reachable for view in seen.repositories)
    parts: list[str] = []
    if hosts:
        parts.append(f"{hosts} of {len(seen.snapshots)} hosts")
    if repositories:
        parts.append(f"{repositories} of {len(seen.repositories)} repos")
    return (Span(f"{', '.join(parts)} away  ", Tone.WARN),) if parts else ()
