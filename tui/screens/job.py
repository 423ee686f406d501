"""One job in full: its steps, its log, and at the end what came of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType

from engine.backup import Request
from engine.jobs import Job, Knobs
from tui.actions import Place
from tui.keys import bindings_of
from tui.screens.base import ConsoleScreen
from tui.screens.jobs import ask_to_cancel, turn_knobs, why_no_cancel
from tui.viewmodels import knob_steps
from tui.viewmodels.job_lines import headline, line_of_active, log_lines, outcome_lines, step_lines
from tui.viewmodels.picture import Picture
from tui.viewmodels.text import BLANK, Line, Tone, labelled, line, quiet, rule
from tui.viewmodels.what_now import why_no_question
from tui.widgets.lines_view import LinesView, PaneView


class JobScreen(ConsoleScreen[None]):
    """The page of one job."""

    place = Place.JOB
    CSS_PATH = "job.tcss"
    BINDINGS: ClassVar[list[BindingType]] = bindings_of(Place.JOB)

    def __init__(self, job_id: int) -> None:
        super().__init__()
        self.job_id = job_id
        self._followed_to = 0
        self._seen_alive = False

    def body(self) -> ComposeResult:
        """Steps, outcome, log."""
        yield PaneView(id="steps")
        yield LinesView(id="outcome")
        yield LinesView(id="rule-log")
        yield PaneView(id="log")

    def on_screen_resume(self) -> None:
        """Follow this job's log while it is in front."""
        self.console.gateway.watch(self.job_id)
        super().on_screen_resume()

    def main_pane(self) -> PaneView:
        """The log."""
        return self.pane("log")

    @property
    def job(self) -> Job | None:
        """The job as the journal had it last."""
        return next((job for job in self.console.picture.jobs if job.id == self.job_id), None)

    def crumbs(self, picture: Picture) -> str:
        """Where the operator is."""
        job = self.job
        return f"Jobs > {job.id}  {job.kind} {job.subject}{job.place}" if job else f"Jobs > {self.job_id}"

    def summary(self, picture: Picture) -> Line:
        """How far it is."""
        job = self.job
        if job is None:
            return line(quiet("The journal has no such job yet."))
        return headline(job, self.console.meters.get(job.id), picture)

    def paint(self, picture: Picture) -> None:
        """Steps, outcome and log; the log follows its end unless the operator reads further up."""
        job, width = self.job, self.size.width
        if job is None:
            return
        outcome = (BLANK, *outcome_lines(job, picture, width - 3))
        if why_no_question(job, picture.jobs) is None:
            asks = "asks what now: wait for its shutdown once more, take it hot, or stop"
            outcome += labelled("A", asks, width - 3, tone=Tone.STRONG, label_width=11)
        self._paint_steps(job, picture, self.size.height - 6 - len(outcome) - 4)
        self.line("outcome").styles.height = len(outcome)
        self.line("outcome").show(tuple((*line(" "), *one) for one in outcome))
        entries = self.console.log_of(job.id)
        lines = log_lines(entries, width - 3, over=job.state.over)
        log = self.pane("log")
        # Only who scrolls stops following: a pane that became smaller says nothing.
        at_end = log.scroll_offset.y in (self._followed_to, log.max_scroll_y)
        log.show(tuple((*line(" "), *one) for one in lines))
        pending = "" if at_end else "paused; G goes to the newest line"
        self.line("rule-log").show_line(rule("LOG", width, pending))
        if at_end:
            log.move_to_end(last=True)
            self._followed_to = max(0, len(lines) - log.size.height)
        self._ask_who_watched(job, picture)

    def _paint_steps(self, job: Job, picture: Picture, room: int) -> None:
        """All steps, as many as there is room for; the one that runs stays in sight unless the keys go to them."""
        steps, pane = step_lines(job, picture, self.size.width - 2), self.pane("steps")
        height = min(len(steps), max(3, room))
        pane.styles.height = height
        pane.show(steps)
        if not pane.has_focus:
            place = line_of_active(job, picture, self.size.width - 2)
            top = max(0, min(place - height // 2, len(steps) - height))
            pane.scroll_to(y=top, animate=False, force=True)

    def _ask_who_watched(self, job: Job, picture: Picture) -> None:
        """Who saw it run and fail is asked; who opens it later asks for the question."""
        if not job.state.over:
            self._seen_alive = True
        elif self._seen_alive:
            self._seen_alive = False
            if why_no_question(job, picture.jobs) is None:
                self.action_what_now()

    def why_not(self, action: str) -> str | None:
        """Only a job that runs can be cancelled or set, and only one that has knobs can be set."""
        if action == "cancel_job":
            return why_no_cancel(self.job)
        if action == "what_now":
            return why_no_question(self.job, self.console.picture.jobs)
        if action in ("fewer_streams", "more_streams"):
            return knob_steps.why_no_streams(self.job)
        if action in ("pause_job", "slower", "faster", "priority"):
            return knob_steps.why_not_set(self.job)
        return None

    def action_pause_job(self) -> None:
        """Let it stand still, or go on."""
        self._turn(knob_steps.pause_or_go_on)

    def action_slower(self) -> None:
        """A lower limit."""
        self._turn(knob_steps.slower)

    def action_faster(self) -> None:
        """A higher limit, or none."""
        self._turn(knob_steps.faster)

    def action_fewer_streams(self) -> None:
        """One piece less at once."""
        self._turn(knob_steps.fewer_streams)

    def action_more_streams(self) -> None:
        """One piece more at once."""
        self._turn(knob_steps.more_streams)

    def action_priority(self) -> None:
        """The next priority."""
        self._turn(knob_steps.next_priority)

    def _turn(self, change: Callable[[Knobs], Knobs]) -> None:
        job = self.job
        if job is not None:
            turn_knobs(self, job, change)

    def action_cancel_job(self) -> None:
        """Ask whether to cancel."""
        job = self.job
        if job is not None:
            ask_to_cancel(self, job)

    def action_what_now(self) -> None:
        """Ask what is done with a guest that did not shut down."""
        from tui.screens.what_now import WhatNowScreen

        job = self.job
        if job is not None:
            self.console.push_screen(WhatNowScreen(job), self._answered)

    def _answered(self, chosen: Request | None) -> None:
        if chosen is not None:
            self.in_background(self._launch(chosen), "launch")

    async def _launch(self, chosen: Request) -> None:
        screen = await self.screen_of(self.console.gateway.launch_backup(chosen), f"launch-{chosen.vm_uuid}")
        if screen is not None:
            # Whoever answered has dealt with it.
            self.console.dismiss_problems([f"job-{self.job_id}"])
            self.show_instead(screen)

    def action_copy_id(self) -> None:
        """Copy the job's number."""
        self.offer(str(self.job_id))

    def action_copy_command(self) -> None:
        """Copy the command that follows it."""
        self.offer(f"newhope jobs follow {self.job_id}")
