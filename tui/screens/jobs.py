"""Jobs: what runs and what ran. They live on their own; the console looks at them, from whenever it was opened."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container, Vertical
from textual.widgets import Input

from engine.jobs import Job, Knobs, in_words
from tui.actions import Place
from tui.keys import bindings_of
from tui.screens.base import ConsoleScreen
from tui.screens.confirm import ConfirmScreen
from tui.screens.filtered import FilteredScreen
from tui.viewmodels.job_lines import cancel_lines, counts_line, job_page, job_table
from tui.viewmodels.knob_steps import pause_or_go_on, why_not_set
from tui.viewmodels.picture import Picture
from tui.viewmodels.text import Line, line, rule
from tui.widgets.keyed_table import KeyedTable
from tui.widgets.lines_view import LinesView, PaneView


class JobsScreen(FilteredScreen):
    """The list of jobs and the one under the cursor."""

    place = Place.JOBS
    CSS_PATH = "jobs.tcss"
    BINDINGS: ClassVar[list[BindingType]] = bindings_of(Place.JOBS)

    def body(self) -> ComposeResult:
        """The list, and the job under the cursor."""
        with Container(id="panes"):
            with Vertical(id="list"):
                yield Input(id="filter", placeholder="words to look for", select_on_focus=False)
                yield KeyedTable(id="jobs")
            with Vertical(id="one"):
                yield LinesView(id="rule-job")
                yield PaneView(id="job")

    def on_mount(self) -> None:
        """Begin with the newest job, or the one that was asked for."""
        super().on_mount()
        wanted = self.console.destination
        if wanted.screen == "job" and wanted.argument.isdigit():
            from tui.screens.job import JobScreen

            self.console.push_screen(JobScreen(int(wanted.argument)))

    def main_pane(self) -> KeyedTable:
        """The list."""
        return self.table("jobs")

    def summary(self, picture: Picture) -> Line:
        """How many in which state."""
        return counts_line(picture)

    def paint(self, picture: Picture) -> None:
        """The list and the job under the cursor."""
        jobs = self.table("jobs")
        table = job_table(
            picture, self.console.meters, jobs.size.width, wanted=self._wanted, faults_only=self._faults_only
        )
        # Newest first is an order in time: a new job comes on top, and the cursor stays with its own.
        jobs.show(table, in_order=True)
        self._paint_job(picture)

    def _paint_job(self, picture: Picture) -> None:
        job, pane = self.selected(), self.pane("job")
        self.console.gateway.watch(job.id if job else None)
        self.line("rule-job").show_line(rule(f"job {job.id}: {job.kind} {job.subject}" if job else "", pane.size.width))
        page = job_page(job, self.console.log_of(job.id), picture, pane.size.width - 2) if job else ()
        pane.show(tuple((*line(" "), *one) for one in page))

    def selected(self) -> Job | None:
        """The job under the cursor."""
        key = self.table("jobs").key
        return next((job for job in self.console.picture.jobs if str(job.id) == key), None)

    def why_not(self, action: str) -> str | None:
        """Only a job that runs can be cancelled."""
        job = self.selected()
        if action in ("open", "copy_id", "copy_command", "cancel_job", "pause_job") and job is None:
            return "There is no job under the cursor."
        if action == "pause_job":
            return why_not_set(job)
        return why_no_cancel(job) if action == "cancel_job" else None

    def on_keyed_table_moved(self, event: KeyedTable.Moved) -> None:
        """Show the job under the cursor."""
        self.pane("job").move_to_end(last=False)
        self._paint_job(self.console.picture)
        self.paint_keys()

    def on_keyed_table_clicked(self, event: KeyedTable.Clicked) -> None:
        """A second click opens."""
        self.action_open()

    def action_open(self) -> None:
        """Open the job in full."""
        from tui.screens.job import JobScreen

        job = self.selected()
        if job is not None:
            self.console.push_screen(JobScreen(job.id))

    def action_cancel_job(self) -> None:
        """Ask whether to cancel."""
        job = self.selected()
        if job is not None:
            ask_to_cancel(self, job)

    def action_pause_job(self) -> None:
        """Let the job under the cursor stand still, or go on."""
        job = self.selected()
        if job is not None:
            turn_knobs(self, job, pause_or_go_on)

    def action_copy_id(self) -> None:
        """Copy the job's number."""
        job = self.selected()
        if job is not None:
            self.offer(str(job.id))

    def action_copy_command(self) -> None:
        """Copy the command that follows it."""
        job = self.selected()
        if job is not None:
            self.offer(f"newhope jobs follow {job.id}")


def why_no_cancel(job: Job | None) -> str | None:
    """Why a job cannot be cancelled; None if it can."""
    if job is None:
        return "There is no such job."
    if job.state.over:
        return f"Job {job.id} is over already ({job.state.value})."
    return f"Job {job.id} has been asked to stop; it does at its next safe place." if job.cancel_asked else None


def turn_knobs(screen: ConsoleScreen[None], job: Job, change: Callable[[Knobs], Knobs]) -> None:
    """Let a job run otherwise from now on, and say how."""

    async def turn() -> None:
        try:
            turned = await screen.console.gateway.turn_knobs(job.id, change)
        except Exception as error:
            screen.console.keep_error(error, f"knobs-{job.id}")
            screen.say("It could not be set; ! has the reason.")
        else:
            screen.say(f"Job {job.id}: {in_words(turned.knobs or Knobs())}.")

    screen.in_background(turn(), "knobs")


def ask_to_cancel(screen: ConsoleScreen[None], job: Job) -> None:
    """Show what cancelling means and do it if that is confirmed."""

    async def cancel() -> None:
        try:
            await screen.console.gateway.cancel(job.id)
        except Exception as error:
            screen.console.keep_error(error, f"cancel-{job.id}")
            screen.say("It could not be asked to stop; ! has the reason.")
        else:
            screen.say(f"Job {job.id} is asked to stop; it does at its next safe place.")

    screen.console.push_screen(
        ConfirmScreen(f"CANCEL job {job.id}", cancel_lines(job), verb=f"cancels job {job.id}"),
        lambda confirmed: screen.in_background(cancel(), "cancel") if confirmed else None,
    )
