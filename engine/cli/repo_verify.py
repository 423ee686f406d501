"""`newhope repo verify`: whether everything in a repository is as it was written, and what is lost if it is not."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from engine.cli.commands import Command
from engine.cli.failures import Usage
from engine.cli.invocation import Invocation
from engine.errors import ExitCode

if TYPE_CHECKING:
    from engine.repository import DiskLoss, Finding, Repository, Verification, VerifyPlan, VerifyProgress, VerifyRequest
    from engine.settings import Settings

PLAIN_EVERY_S = 30.0
REDRAWN_EVERY_S = 0.2
RANGES_SHOWN = 4
POINTS_SHOWN = 6
NOTES_SHOWN = 5


@click.command(cls=Command)
@click.argument("name", required=False, metavar="[NAME]")
@click.option("--quick", is_flag=True, help="Small objects, maps, and that every pack is there (the default).")
@click.option(
    "--sample",
    type=click.FloatRange(0, 100, min_open=True),
    metavar="PERCENT",
    help="And read so many of the packs, those first that were found sound longest ago.",
)
@click.option("--full", is_flag=True, help="And read every pack to its last byte.")
@click.option("--anew", is_flag=True, help="With --full: do not go on where an interrupted one stopped.")
@click.option("--follow/--detach", "follow", default=True, help="Watch the job to its end, or leave at once.")
@click.option("--dry-run", is_flag=True, help="Show what would be read, and stop.")
@click.pass_obj
def verify(
    invocation: Invocation,
    name: str | None,
    quick: bool,
    sample: float | None,
    full: bool,
    anew: bool,
    follow: bool,
    dry_run: bool,
) -> ExitCode:
    """Look whether everything in a repository is as it was written.

    Each finding names the recovery points that it hurts, and the ranges of their disks that are lost: everything else
    can be restored. The exit status is 6 if anything is damaged, so that a timer can tell. What was found sound, and
    when, is kept in the repository; an interrupted --full goes on where it stopped. Backups may run meanwhile.

    The work runs as a job that goes on when this terminal dies. NAME may also be the path or s3:// address of a
    repository that is in no settings file; where there is no settings file at all, there is no journal of jobs either,
    and the work ends with this terminal.

    \b
    Examples:
      newhope repo verify                     seconds: is everything there?
      newhope repo verify vault --sample 3    for a timer: every pack once a month or so
      newhope repo verify /mnt/usb --full     every byte
    """
    from engine.cli import printing
    from engine.cli.documents import plain
    from engine.cli.opened_repository import open_named

    request = _request(quick, sample, full, anew)
    with open_named(lambda: invocation.settings, name) as repository:
        if dry_run:
            plan = repository.verifier(request).plan()
            if invocation.json:
                printing.show_json({"plan": plain(plan)})
            else:
                _show_plan(repository.name, plan)
            return ExitCode.OK
        settings = _settings(invocation, name)
        if settings is None:
            return _verify_here(invocation, repository, request)
        return _verify_as_job(invocation, settings, repository, name, request, follow=follow)


def _settings(invocation: Invocation, name: str | None) -> Settings | None:
    """The settings; None for a repository that is named by its place where there are none that can be read."""
    from engine.cli.opened_repository import is_place
    from engine.settings import SettingsError

    try:
        return invocation.settings
    except SettingsError:
        if not is_place(name):
            raise
        return None


def _verify_as_job(
    invocation: Invocation,
    settings: Settings,
    repository: Repository,
    name: str | None,
    request: VerifyRequest,
    *,
    follow: bool,
) -> ExitCode:
    import msgspec

    from engine.cli.following import see_to_end, tell_end, tell_launched
    from engine.cli.opened_repository import wherever
    from engine.cli.verify_job import VerifyJob, launch_verify
    from engine.repository import Verification

    with invocation.journal() as journal:
        spec = VerifyJob(wherever(name) if name else repository.name, request)
        job = launch_verify(settings, journal, repository, spec)
        if not follow:
            return tell_launched(invocation, journal, job)
        over = see_to_end(invocation, journal, job.id)
        if over is None:
            return ExitCode.INTERRUPTED
        report = journal.report(job.id)
        if report is None:
            return tell_end(invocation, journal, over)
    return _tell(invocation, msgspec.json.decode(report, type=Verification))


def _verify_here(invocation: Invocation, repository: Repository, request: VerifyRequest) -> ExitCode:
    view = _ProgressView(invocation)
    try:
        found = repository.verifier(request).run(view.tell)
    finally:
        view.clear()
    return _tell(invocation, found)


def _tell(invocation: Invocation, found: Verification) -> ExitCode:
    from engine.cli import printing
    from engine.cli.documents import plain

    if invocation.json:
        printing.show_json({"verification": {"sound": found.sound, **plain(found)}})
    else:
        _show(found)
    return ExitCode.OK if found.sound else ExitCode.REPOSITORY


def _request(quick: bool, sample: float | None, full: bool, anew: bool) -> VerifyRequest:
    from engine.repository import Extent, VerifyRequest

    if quick + full + (sample is not None) > 1:
        raise Usage("Only one of --quick, --sample and --full can be meant.", next_step="Choose one of them.")
    if anew and not full:
        raise Usage("--anew goes with --full only.", next_step="Add --full, or leave --anew out.")
    if full:
        return VerifyRequest(Extent.FULL, anew=anew)
    return VerifyRequest(Extent.QUICK) if sample is None else VerifyRequest(Extent.SAMPLE, sample)


class _ProgressView:
    """One line that is redrawn, or a plain line at every tenth or half minute."""

    def __init__(self, invocation: Invocation) -> None:
        from engine.jobs import RateMeter

        self._moves_cursor = invocation.moves_cursor
        self._silent = invocation.json
        self._meter = RateMeter()
        self._shown_at = 0.0
        self._tenth = 0
        self._stage = ""

    def tell(self, progress: VerifyProgress) -> None:
        """Show how far it is, if it is time to."""
        from engine.repository import Stage

        now = time.monotonic()
        if progress.stage is Stage.PACKS:
            self._meter = self._meter.seen(now, progress.done)
        if self._silent or not self._due(progress, now):
            return
        self._shown_at = now
        line = self._line(progress)
        if self._moves_cursor:
            import shutil

            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{line[:width]}", end="", flush=True)  # noqa: T201
        else:
            from engine.cli import printing

            printing.say(line)
            sys.stdout.flush()

    def clear(self) -> None:
        """Take the redrawn line away."""
        if self._moves_cursor:
            print("\r\x1b[K", end="", flush=True)  # noqa: T201

    def _due(self, progress: VerifyProgress, now: float) -> bool:
        if self._moves_cursor:
            return now - self._shown_at >= REDRAWN_EVERY_S
        if self._stage != progress.stage.value:
            self._stage, self._tenth = progress.stage.value, 0
            return progress.total > 0
        tenth = progress.done * 10 // progress.total if progress.total else 0
        due = tenth > self._tenth or now - self._shown_at >= PLAIN_EVERY_S
        self._tenth = max(self._tenth, tenth)
        return due

    def _line(self, progress: VerifyProgress) -> str:
        from engine.cli.wording import age, size
        from engine.repository import Stage

        packs = progress.stage is Stage.PACKS
        shown: Callable[[float], str] = "{:.0f}".format if progress.stage is Stage.OBJECTS else size
        line = f"verifying {progress.stage.value}  "
        if progress.total:
            line += f"{progress.done * 100 // progress.total} %  {shown(progress.done)} of {shown(progress.total)}"
        else:
            line += shown(progress.done)
        rate, left = self._meter.bytes_per_s, self._meter.seconds_left(progress.total)
        if packs and rate:
            line += f"  {size(rate)}/s"
        if packs and left is not None:
            line += f"  {age(left)} left"
        return f"{line}  {progress.damaged} damaged" if progress.damaged else line


def _show_plan(repository: str, plan: VerifyPlan) -> None:
    from engine.cli import printing
    from engine.cli.wording import count, local, since, size

    facts = [
        ("repository", repository),
        ("looks at", f"{count(plan.points, 'recovery point')} with all maps, {count(plan.packs, 'pack')}"),
        ("reads", f"{count(plan.packs_to_read, 'pack')}, {size(plan.bytes_to_read)}"),
        ("never read", count(plan.never_read, "pack")),
    ]
    if plan.oldest is not None:
        facts.append(("oldest", f"{local(plan.oldest)}, {since(plan.oldest)} ago"))
    if plan.resumes is not None:
        facts.append(("goes on with", f"the full verification that began {local(plan.resumes)}"))
    printing.show_facts(facts)


def _show(found: Verification) -> None:
    from engine.cli import printing
    from engine.cli.table import bad, good
    from engine.cli.wording import count, size, took
    from engine.repository import Severity

    notes = [finding for finding in found.findings if finding.severity is Severity.NOTE]
    for finding in found.findings:
        if finding.severity is not Severity.NOTE:
            _show_finding(finding)
    for finding in notes[:NOTES_SHOWN]:
        _show_finding(finding)
    if len(notes) > NOTES_SHOWN:
        printing.say(f"and {len(notes) - NOTES_SHOWN} more notes; --json lists them all.")
    if found.losses:
        printing.say("\nLost is this, and nothing else:")
        for loss in found.losses:
            printing.say(f"  {_loss(loss)}")
        printing.say("")
    if found.unrecorded:
        printing.say(f"The results could not be kept in the repository: {found.unrecorded}")
    state = good("SOUND") if found.sound else bad("DAMAGED")
    read = f"{count(found.packs_read, 'pack')} of {found.packs} read ({size(found.bytes_read)})"
    duration = took((found.finished - found.began).total_seconds())
    printing.say(f"{state.text}  {found.repository}: {count(found.points, 'recovery point')}, {read} in {duration}.")
    if not found.sound:
        printing.say(
            "Next: look at the disk below the repository (dmesg, smartctl), then newhope repo repair --dry-run: it "
            "says what can be healed, also from other repositories, and keeps the damaged objects."
        )


def _show_finding(finding: Finding) -> None:
    from engine.cli import printing
    from engine.cli.table import bad, doubtful, idle

    states = {"loss": bad("LOSS"), "damage": doubtful("DAMAGE")}
    state = states.get(finding.severity.value, idle("NOTE"))
    printing.say(f"{state.text:<8} {finding.object}: {finding.what}")
    for point in finding.points[:POINTS_SHOWN]:
        printing.say(f"         hurts {point}")
    if len(finding.points) > POINTS_SHOWN:
        printing.say(f"         and {len(finding.points) - POINTS_SHOWN} more")


def _loss(loss: DiskLoss) -> str:
    from engine.cli.wording import count, size

    ranges = ", ".join(f"{run.offset}+{run.length}" for run in loss.ranges[:RANGES_SHOWN])
    if len(loss.ranges) > RANGES_SHOWN:
        ranges += f" and {len(loss.ranges) - RANGES_SHOWN} more (--json lists them all)"
    lost = f"{size(loss.lost_bytes)} of {size(loss.size_bytes)}"
    return f"{loss.point}  {loss.name}: {lost} in {count(len(loss.ranges), 'range')}: {ranges}"
