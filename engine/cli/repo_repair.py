"""`newhope repo repair`: heal what can be healed, and name what stays lost."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import click

from engine.cli.commands import Command
from engine.cli.invocation import Invocation
from engine.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.repository import DiskLoss, LeftAlone, RepairPlan, RepairReport, Repository
    from engine.settings import Settings

RANGES_SHOWN = 8


@click.command("repair", cls=Command)
@click.argument("name", required=False, metavar="[NAME]")
@click.option(
    "--from",
    "sources",
    multiple=True,
    metavar="NAME|PATH",
    help="Heal from this repository too. Can be repeated; it may have other keys and blocks.",
)
@click.option("--full", is_flag=True, help="Read every pack first. Otherwise those that were found damaged before.")
@click.option(
    "--set-aside", is_flag=True, help="Also move away what cannot be read or healed; the plan says at what cost."
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--follow/--detach", "follow", default=True, help="Watch the job to its end, or leave at once.")
@click.option("--dry-run", is_flag=True, help="Show the plan and what stays lost, and repair nothing.")
@click.pass_obj
def repair(
    invocation: Invocation,
    name: str | None,
    sources: tuple[str, ...],
    full: bool,
    set_aside: bool,
    yes: bool,
    follow: bool,
    dry_run: bool,
) -> ExitCode:
    """Heal what is damaged in a repository, as far as its content is anywhere, and name what stays lost.

    It verifies first, and shows every step, with what becomes of the original: nothing is thrown away. Damaged packs
    are quarantined, so that the next backup stores again what it meets of them. The exit status is 6 if something
    stays lost. Backups may run meanwhile, prune may not. NAME may also be a path or s3:// address.

    Where the file newhope-repository is damaged or gone, that is put back first: from --from, which may then be a
    copy of the file too, or from what else tells what it said.

    \b
    Examples:
      newhope repo repair vault --dry-run                what is wrong, and what would be done
      newhope repo repair vault --full --from offsite    read everything, and fetch what is lost from offsite
      newhope repo repair vault --set-aside              give up what nobody can read any more
    """
    from engine.cli import printing
    from engine.cli.confirmation import confirm
    from engine.cli.documents import plain
    from engine.cli.opened_repository import open_named
    from engine.cli.repo_repair_identity import identity_in_need, put_back
    from engine.repository import Extent, RepairRequest

    request = RepairRequest(Extent.FULL if full else Extent.QUICK, set_aside)
    broken = identity_in_need(invocation, name)
    if broken is not None:
        return put_back(invocation, broken, sources, yes=yes, dry_run=dry_run)
    with ExitStack() as stack:
        repository = stack.enter_context(open_named(lambda: invocation.settings, name))
        others = [stack.enter_context(open_named(lambda: invocation.settings, source)) for source in sources]
        _refuse_itself(repository, others)
        with invocation.patience("looking what is damaged"):
            plan = repository.repairer("newhope repo repair", [each.source() for each in others]).plan(request)
        if not invocation.json:
            _show_plan(plan)
        if dry_run or not plan.steps:
            if invocation.json:
                printing.show_json({"repair": {"plan": plain(plan)}})
            return ExitCode.REPOSITORY if plan.losses or plan.left or plan.steps else ExitCode.OK
        if not yes and not confirm(invocation, f"Repair {plan.repository} so?"):
            printing.say("Nothing was done.")
            return ExitCode.CANCELLED
        return _carry_out(invocation, repository, others, plan, name, sources, follow=follow)


def _refuse_itself(repository: Repository, others: Iterable[Repository]) -> None:
    from engine.cli.failures import Usage

    places = {other.info().path for other in others}
    if repository.info().path in places:
        raise Usage("--from names the repository that is to be repaired.", next_step="Name another one, or a copy.")


def _carry_out(
    invocation: Invocation,
    repository: Repository,
    others: list[Repository],
    plan: RepairPlan,
    name: str | None,
    sources: tuple[str, ...],
    *,
    follow: bool,
) -> ExitCode:
    import msgspec

    from engine.cli.following import see_to_end, tell_end, tell_launched
    from engine.cli.opened_repository import wherever
    from engine.cli.repair_job import RepairJob, apply, launch_repair
    from engine.jobs import operator_name
    from engine.repository import RepairReport

    settings = _settings(invocation, name)
    if settings is None:
        with invocation.patience("repairing"):
            report = apply(repository, others, plan, operator_name(), lambda progress: None)
        return _tell(invocation, plan, report)
    with invocation.journal() as journal:
        wanted = tuple(wherever(source) for source in sources)
        spec = RepairJob(wherever(name) if name else repository.name, wanted, plan)
        job = launch_repair(settings, journal, repository, spec)
        if not follow:
            return tell_launched(invocation, journal, job)
        over = see_to_end(invocation, journal, job.id)
        if over is None:
            return ExitCode.INTERRUPTED
        left = journal.report(job.id)
        if left is None:
            return tell_end(invocation, journal, over)
    return _tell(invocation, plan, msgspec.json.decode(left, type=RepairReport))


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


def _show_plan(plan: RepairPlan) -> None:
    from engine.cli import printing
    from engine.cli.wording import count, size

    for number, step in enumerate(plan.steps, 1):
        printing.say(f"{number:>2}  {step.remedy.value}  {step.object}: {step.what}")
        printing.say(f"    {step.does}")
        printing.say(f"    original: {step.keeps}")
    _show_left(plan.left)
    _show_losses(plan.losses)
    if plan.steps:
        printing.say(f"{count(len(plan.steps), 'step')}, about {size(plan.size_bytes)} to store.")
    elif not plan.left and not plan.losses:
        printing.say(f"Nothing is damaged in {plan.repository}, as far as was looked.")
    else:
        printing.say("There is nothing that can be done with what is at hand.")


def _show_left(left: tuple[LeftAlone, ...]) -> None:
    from engine.cli import printing

    for each in left:
        printing.say(f"!   left as it is  {each.object}: {each.what}")
        printing.say(f"    {each.remedy}")


def _show_losses(losses: tuple[DiskLoss, ...]) -> None:
    from engine.cli import printing
    from engine.cli.wording import count, size

    if losses:
        printing.say("\nLost, and not to be healed with what is at hand, is this and nothing else:")
    for loss in losses:
        ranges = ", ".join(f"{run.offset}+{run.length}" for run in loss.ranges[:RANGES_SHOWN])
        if len(loss.ranges) > RANGES_SHOWN:
            ranges += f" and {len(loss.ranges) - RANGES_SHOWN} more (--json lists them all)"
        lost = f"{size(loss.lost_bytes)} of {size(loss.size_bytes)}"
        printing.say(f"  {loss.point}  {loss.name}: {lost} in {count(len(loss.ranges), 'range')}: {ranges}")
    if losses:
        printing.say(
            "The next backup that meets such a block stores it again. What is left: newhope restore --salvage\n"
        )


def _tell(invocation: Invocation, plan: RepairPlan, report: RepairReport) -> ExitCode:
    from engine.cli import printing
    from engine.cli.documents import plain
    from engine.cli.repair_job import sentence
    from engine.cli.table import bad, doubtful, good

    code = ExitCode.OK if report.whole and not report.left else ExitCode.REPOSITORY
    if invocation.json:
        printing.show_json({"repair": {"plan": plain(plan), "report": {"whole": report.whole, **plain(report)}}})
        return code
    for done in report.done:
        state = bad("FAILED") if done.failed else good("DONE")
        printing.say(f"{state.text}  {done.step.object}: {done.outcome}")
    _show_left(report.left)
    _show_losses(report.losses)
    state = good("WHOLE") if code is ExitCode.OK else doubtful("DAMAGED") if report.whole else bad("DAMAGED")
    printing.say(f"{state.text}  {report.repository}: {sentence(report)}")
    return code
