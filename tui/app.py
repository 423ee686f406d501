"""The console's wiring: modes, what is known, who is told, and how it ends. It decides nothing about VMs."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, ClassVar

from msgspec import structs
from textual import constants
from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.message import Message
from textual.screen import Screen

from engine.jobs import Job, LogLine, RateMeter
from engine.restore import Entry
from engine.settings.model import Settings
from tui.actions import actions_of
from tui.destination import Destination
from tui.gateway import FleetArrived, Gateway, JobsArrived, ProblemArose, ProblemEnded
from tui.terminal import Terminal
from tui.viewmodels.picture import Picture, complete
from tui.viewmodels.problems import Problem, from_error, from_jobs

_LAST_WORD_S = 0.8
"""How long an orderly end may take before the process ends anyway: a terminal that is gone takes no bytes."""
_REPAINT_EVERY_S = 15.0


def _fleet() -> Screen[None]:
    from tui.screens.fleet import FleetScreen

    return FleetScreen()


def _jobs() -> Screen[None]:
    from tui.screens.jobs import JobsScreen

    return JobsScreen()


def _checks() -> Screen[None]:
    from tui.screens.checks import ChecksScreen

    return ChecksScreen()


def _restores() -> Screen[None]:
    from tui.screens.restores import RestoresScreen

    return RestoresScreen()


class Console(App[int]):
    """newhope's console."""

    TITLE = "newhope"
    CSS_PATH = "app.tcss"
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {
        "fleet": _fleet,
        "jobs": _jobs,
        "checks": _checks,
        "restores": _restores,
    }
    BINDINGS: ClassVar[list[BindingType]] = []
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - Textual's own declaration is not a ClassVar
        (0, "-narrow"),
        (78, "-normal"),
        (120, "-wide"),
    ]
    ENABLE_COMMAND_PALETTE = True

    def __init__(
        self,
        settings: Settings,
        terminal: Terminal,
        destination: Destination | None = None,
        gateway: Callable[[Settings, Callable[[Message], object]], Gateway] = Gateway,
    ) -> None:
        # Textual takes NO_COLOR="" for a wish, which it is not (no-color.org), and takes the variable away from the
        # jobs that are started here, which should have it.
        wish = os.environ.pop("NO_COLOR", None)
        if not terminal.colour:
            os.environ["NO_COLOR"] = "1"
        super().__init__(ansi_color=True)
        if wish is not None:
            os.environ["NO_COLOR"] = wish
        self.theme = "ansi-dark"
        if terminal.remote or constants.TEXTUAL_ANIMATIONS == "none":
            self.animation_level = "none"
        self.settings = settings
        self.terminal = terminal
        self.destination = destination or Destination()
        self.gateway = gateway(settings, self.post_message)
        self.mouse_on = not terminal.remote
        self._fleet: FleetArrived | None = None
        self._jobs: tuple[Job, ...] = ()
        self._restores: tuple[Entry, ...] = ()
        self._watched_log: tuple[int | None, tuple[LogLine, ...]] = (None, ())
        self._meters: dict[int, RateMeter] = {}
        self._problems: dict[str, Problem] = {}
        self._dismissed: set[str] = set()
        self._held: Picture | None = None
        self._picture = complete(Picture(settings, datetime.now(UTC)))

    # ------------------------------------------------------------------ what is known

    @property
    def picture(self) -> Picture:
        """All that is known now; while paused, all that was known then."""
        return self._held or self._picture

    @property
    def meters(self) -> dict[int, RateMeter]:
        """How fast each running job moves."""
        return self._meters

    def log_of(self, job_id: int) -> tuple[LogLine, ...]:
        """The log of a job that the gateway was told to watch."""
        return self._watched_log[1] if self._watched_log[0] == job_id else ()

    def _look_again(self) -> None:
        now = datetime.now(UTC)
        raised = {**{problem.key: problem for problem in from_jobs(self._jobs, now)}, **self._problems}
        seen = self._fleet
        self._picture = complete(
            Picture(
                settings=self.settings,
                now=now,
                fleet=seen.fleet if seen else None,
                exposures=seen.exposures if seen else (),
                findings=seen.findings if seen else (),
                jobs=self._jobs,
                restores=self._restores,
                problems=tuple(problem for key, problem in raised.items() if key not in self._dismissed),
                live=seen.live if seen else False,
            )
        )
        self.repaint()

    def repaint(self) -> None:
        """Show what is known on the screen in front; the others do it when they come forward."""
        from tui.screens.base import ConsoleScreen

        if self.is_running and isinstance(self.screen, ConsoleScreen):
            self.screen.repaint()

    def on_fleet_arrived(self, message: FleetArrived) -> None:
        """Hosts and repositories have answered."""
        self._fleet = message
        self._look_again()

    def on_jobs_arrived(self, message: JobsArrived) -> None:
        """The journal has something new."""
        now_s = asyncio.get_running_loop().time()
        self._jobs = message.jobs
        self._restores = message.restores
        self._watched_log = (message.watched, message.log)
        self._meters = {
            job.id: self._meters.get(job.id, RateMeter()).seen(now_s, job.done_bytes)
            for job in message.jobs
            if not job.state.over
        }
        self._look_again()

    def on_problem_arose(self, message: ProblemArose) -> None:
        """Something could not be asked."""
        self.keep_problem(message.problem)

    def on_problem_ended(self, message: ProblemEnded) -> None:
        """It is answered again."""
        if self._problems.pop(message.key, None) is not None:
            self._look_again()

    def keep_problem(self, problem: Problem) -> None:
        """Keep a problem on the list until it is dismissed."""
        known = self._problems.get(problem.key)
        if known is None or known.what != problem.what:
            self._dismissed.discard(problem.key)
            self._problems[problem.key] = problem
            self._look_again()

    def keep_error(self, error: BaseException, key: str) -> None:
        """Keep an error on the list of problems."""
        self.keep_problem(from_error(error, key, datetime.now(UTC)))

    def dismiss_problems(self, keys: Iterable[str]) -> None:
        """Take problems off the list."""
        for key in keys:
            self._problems.pop(key, None)
            self._dismissed.add(key)
        self._look_again()

    def toggle_pause(self) -> bool:
        """Hold the picture still, or let it go on."""
        self._held = None if self._held else structs.replace(self._picture, paused=True)
        self.repaint()
        return self._held is not None

    # ------------------------------------------------------------------ beginning and end

    def on_mount(self) -> None:
        """Show what is remembered, then ask everyone."""
        self._hear_the_end()
        try:
            self._fleet = self.gateway.remembered()
        except Exception as error:
            self.keep_error(error, "remembered")
        self._look_again()
        modes = {"jobs": "jobs", "job": "jobs", "checks": "checks", "restores": "restores"}
        self.switch_mode(modes.get(self.destination.screen, "fleet"))
        self.gateway.start()
        self.set_interval(_REPAINT_EVERY_S, self._look_again)

    def _hear_the_end(self) -> None:
        # Textual hears neither: a terminal that goes away would end the process in the middle of a line, and one that
        # ignores the hang-up would spin on a dead terminal.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGHUP, signal.SIGTERM):
            try:
                loop.add_signal_handler(number, self._end, number)
            except (ValueError, RuntimeError):
                return  # not in the main thread: whoever runs us there hears the signals

    def _end(self, number: int) -> None:
        code = 128 + number
        guard = threading.Timer(_LAST_WORD_S, os._exit, [code])
        guard.daemon = True
        guard.start()
        self.gateway.stop()
        self.exit(code)

    def running_jobs(self) -> tuple[str, ...]:
        """The jobs that go on without the console, in words."""
        return tuple(f"{job.id} ({job.kind} {job.subject})" for job in self._jobs if not job.state.over)

    def leave(self) -> None:
        """Close the console; jobs go on."""
        self.gateway.stop()
        if self.mouse_on and self.terminal.remote:
            self.set_mouse(on=False)
        self.exit(0)

    def set_mouse(self, *, on: bool) -> None:
        """Whether the terminal reports its mouse to us, or keeps it for selecting text."""
        if self._driver is not None:
            self._driver.write("".join(f"\x1b[?{mode}{'h' if on else 'l'}" for mode in (1000, 1003, 1015, 1006)))

    def show_mode(self, mode: str) -> None:
        """Go to a mode; who is in it already comes back to its first screen."""
        if mode != self.current_mode:
            self.switch_mode(mode)
            return
        while len(self.screen_stack) > 1:
            self.pop_screen()

    # ------------------------------------------------------------------ palette

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The command palette offers what the keys offer, in the same words."""
        from tui.screens.base import ConsoleScreen

        if not isinstance(screen, ConsoleScreen):
            return
        for action in actions_of(screen.place):
            if action.id not in ("palette", "execute"):
                reason = screen.why_not(action.id)
                text = f"{action.help} Not now: {reason}" if reason else action.help
                yield SystemCommand(
                    f"{action.label} ({action.shown})", text, lambda chosen=action.id: screen.perform_later(chosen)
                )
