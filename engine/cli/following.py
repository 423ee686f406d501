"""Watch a job on a terminal, or in plain lines; leaving does not touch it.

A terminal gets a line a finished step and one line that is redrawn with bytes, rate and time left. Plain output gets a
line when a step begins or ends, and one at every tenth of a step or half minute: readable in a log, a pipe or a
screen reader.
"""

from __future__ import annotations

import sys
import time

from engine.cli import printing, states
from engine.cli.command_line import with_config
from engine.cli.documents import of_job
from engine.cli.failures import tell
from engine.cli.invocation import Invocation
from engine.cli.wording import age, size, took
from engine.errors import ExitCode
from engine.jobs import Job, Journal, RateMeter, Step, StepState, follow

QUIET_AFTER_S = 20.0
PLAIN_EVERY_S = 30.0


def watch(invocation: Invocation, journal: Journal, job_id: int, *, stream: bool = False) -> ExitCode:
    """Follow a job to its end; answers its exit status. `stream`: with --json, one document each time it changed."""
    job = see_to_end(invocation, journal, job_id, stream=stream)
    return ExitCode.INTERRUPTED if job is None else tell_end(invocation, journal, job, already_shown=stream)


def see_to_end(invocation: Invocation, journal: Journal, job_id: int, *, stream: bool = False) -> Job | None:
    """Show how a job goes on until it is over; None when the reader left before, which does not touch the job."""
    view = _View(invocation)
    job: Job | None = None
    try:
        for job in follow(journal, job_id):
            if not invocation.json:
                view.show(job)
            elif stream:
                printing.show_json_line({"job": of_job(job, journal)})
                sys.stdout.flush()
    except KeyboardInterrupt:
        view.clear()
        follow_it = with_config(invocation.settings.file, f"newhope jobs follow {job_id}")
        stop_it = with_config(invocation.settings.file, f"newhope jobs cancel {job_id}")
        print(  # noqa: T201
            f"Job {job_id} goes on. Follow it with `{follow_it}`, stop it with `{stop_it}`.", file=sys.stderr
        )
        return None
    except BrokenPipeError:
        # Whoever read has gone, the job has not: nothing is known of its end.
        return None
    view.clear()
    return job


def tell_launched(invocation: Invocation, journal: Journal, job: Job) -> ExitCode:
    """Say how to find a job again that is not watched."""
    if invocation.json:
        printing.show_json({"job": of_job(job, journal)})
    else:
        follow_it = with_config(invocation.settings.file, f"newhope jobs follow {job.id}")
        printing.say(f"Job {job.id} runs. Follow it with `{follow_it}`.")
    return ExitCode.OK


def tell_end(invocation: Invocation, journal: Journal, job: Job, *, already_shown: bool = False) -> ExitCode:
    """Say what came of a job that is over; answers its exit status."""
    if invocation.json:
        if not already_shown:
            printing.show_json({"job": of_job(job, journal)})
    elif job.failure is None:
        printing.show_facts([(states.JOB[job.state].text, job.result)])
    else:
        printing.say(f"{states.JOB[job.state].text}  job {job.id}")
        tell(job.failure.what, job.failure.untouched, job.failure.next_step, job.failure.exit_code, as_json=False)
    return ExitCode(job.failure.exit_code) if job.failure else ExitCode.OK


class _View:
    """What of a job was already shown."""

    def __init__(self, invocation: Invocation) -> None:
        self._moves_cursor = invocation.moves_cursor
        self._states: dict[int, StepState] = {}
        self._meter = RateMeter()
        self._step = 0
        self._plain_tenth = 0
        self._plain_time = 0.0

    def show(self, job: Job) -> None:
        """Show what changed."""
        for step in job.steps:
            before = self._states.get(step.number, StepState.WAIT)
            if step.state is not before:
                self._states[step.number] = step.state
                self._show_change(job, step)
        running = next((step for step in job.steps if step.state is StepState.RUN), None)
        if running is not None:
            self._show_progress(job, running)

    def clear(self) -> None:
        """Take the redrawn line away."""
        if self._moves_cursor:
            print("\r\x1b[K", end="", flush=True)  # noqa: T201

    def _show_change(self, job: Job, step: Step) -> None:
        if step.state is StepState.SKIP or (self._moves_cursor and step.state is StepState.RUN):
            return
        self.clear()
        duration = ""
        if step.started and step.finished:
            duration = f"  {took((step.finished - step.started).total_seconds())}"
        moved = f"  {size(step.done_bytes)}" if step.done_bytes else ""
        note = f"  {step.note}" if step.note else ""
        number = f"{step.number}/{len(job.steps)}"
        printing.say(f"{states.STEP[step.state].text:<7} {number:>5}  {step.title}{moved}{duration}{note}")

    def _show_progress(self, job: Job, step: Step) -> None:
        if step.number != self._step:
            self._step, self._meter, self._plain_tenth, self._plain_time = step.number, RateMeter(), 0, time.monotonic()
        now = time.monotonic()
        self._meter = self._meter.seen(now, step.done_bytes)
        word = states.PAUSED if job.paused else states.STEP[step.state]
        line = f"{word.text:<7} {f'{step.number}/{len(job.steps)}':>5}  {step.title}"
        line += self._figures(step, now, moves=not job.paused)
        if self._moves_cursor:
            import shutil

            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{line[:width]}", end="", flush=True)  # noqa: T201
            return
        tenth = step.done_bytes * 10 // step.total_bytes if step.total_bytes else 0
        if tenth > self._plain_tenth or now - self._plain_time >= PLAIN_EVERY_S:
            self._plain_tenth, self._plain_time = tenth, now
            printing.say(line)
            sys.stdout.flush()

    def _figures(self, step: Step, now: float, *, moves: bool) -> str:
        text = f"  {step.note}" if step.note else ""
        if not step.total_bytes:
            return text
        text += f"  {step.done_bytes * 100 // step.total_bytes} %  {size(step.done_bytes)} of {size(step.total_bytes)}"
        if not moves:
            return text
        rate, left = self._meter.bytes_per_s, self._meter.seconds_left(step.total_bytes)
        if self._meter.quiet_s(now) >= QUIET_AFTER_S:
            return f"{text}  no data for {age(self._meter.quiet_s(now))}"
        if rate:
            text += f"  {size(rate)}/s"
        if left is not None:
            text += f"  {age(left)} left"
        return text
