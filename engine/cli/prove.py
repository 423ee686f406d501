"""`newhope prove`: boot a recovery point where it reaches nobody, ask it, keep the answer, and take everything away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from engine.cli.commands import Command
from engine.cli.failures import Usage
from engine.cli.invocation import Invocation
from engine.errors import ExitCode

if TYPE_CHECKING:
    from engine.cli.restore_choices import Choices
    from engine.jobs import Job, Journal
    from engine.repository import Proof
    from engine.restore import RestorePlan


@click.command("prove", cls=Command)
@click.argument("point_name", required=False, metavar="VM@SELECTOR")
@click.option("--due", is_flag=True, help="The newest points of VMs whose level asks for a proof by now.")
@click.option("--at-most", default=0, type=click.IntRange(0), metavar="N", help="With --due: only the N worst.")
@click.option("--to", "to_host", default="", metavar="HOST", help="Host to boot it on. [default: the fittest]")
@click.option("--pool", default="", metavar="POOL", help="Where its disks are written meanwhile.")
@click.option("--watch", default="", metavar="TIME", help="How long to watch a guest without an agent. [default: 1m]")
@click.option("--repository", metavar="NAME", help="Take the point from this one.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask. Failed checks of the plan still stop it.")
@click.option("--follow/--detach", "follow", default=True, help="Watch the job to its end, or leave at once.")
@click.option("--dry-run", is_flag=True, help="Show plan and checks and do nothing.")
@click.pass_obj
def prove(
    invocation: Invocation,
    point_name: str | None,
    due: bool,
    at_most: int,
    yes: bool,
    follow: bool,
    dry_run: bool,
    **options: str | None,
) -> ExitCode:
    """Prove a recovery point: boot it where it reaches no network, ask its guest agent, run its level's checks.

    What came of it, and the time to boot, is kept with the point in its repository, and `newhope points` shows it. Then
    the VM and its disks are taken away. If this is killed with its job, the next proof, or `newhope restores undo`,
    takes them away.

    With --due, levels that say `prove_every = "7d"` have the newest points of their VMs proven, one after the other,
    each on the fittest host with the memory for it; what failed is tried again later, after a longer wait each time.

    The exit status is 0 if the point is proven, or nobody can tell (a guest without an agent); 10 if its guest was
    silent, went off, or failed a check; with --due also while a VM waits because its last proofs failed.

    \b
    Examples:
      newhope prove web@latest
      newhope prove web@-1 --to yavin --yes
      newhope prove --due --dry-run
    """
    if due == (point_name is not None):
        raise Usage(
            "Name one recovery point, or say --due." if not due else "A point was named, and --due chooses the points.",
            next_step="`newhope prove web@latest`, or `newhope prove --due`.",
        )
    if point_name is None:
        given = [name for name, value in options.items() if value]
        if given:
            option = given[0].replace("to_host", "to")
            raise Usage(f"--{option} goes with one point.", next_step="leave it out, or name a point instead of --due.")
        from engine.cli.prove_due import DueChoices, prove_due

        return prove_due(invocation, DueChoices(at_most, yes=yes, detach=not follow, dry_run=dry_run))
    return _prove_one(invocation, _choices(point_name, options), yes=yes, follow=follow, dry_run=dry_run)


def _choices(point_name: str, options: dict[str, str | None]) -> Choices:
    from engine.cli.restore_choices import Choices

    pool = options["pool"]
    return Choices(
        point_name,
        to_host=options["to_host"] or "",
        pools=(pool,) if pool else (),
        repository=options["repository"],
        watch=options["watch"] or "",
        proves=True,
    )


def _prove_one(invocation: Invocation, choices: Choices, *, yes: bool, follow: bool, dry_run: bool) -> ExitCode:
    from engine.cli.following import see_to_end, tell_end, tell_launched
    from engine.cli.launching import launch_restore
    from engine.cli.overdue import settle_overdue
    from engine.cli.restore import looked_at, planned

    if not dry_run:
        settle_overdue(invocation)
    plan = looked_at(invocation, planned(invocation, choices), yes=yes, dry_run=dry_run)
    if isinstance(plan, ExitCode):
        return plan
    with invocation.journal() as journal:
        launched = launch_restore(invocation.settings, journal, plan)
        if not follow:
            return tell_launched(invocation, journal, launched)
        job = see_to_end(invocation, journal, launched.id)
        if job is None:
            return ExitCode.INTERRUPTED
        proof = _proof(invocation, plan)
        if invocation.json and proof is not None:
            return _document(journal, job, proof)
        if proof is not None:
            _show_checks(proof)
        return tell_end(invocation, journal, job)


def _proof(invocation: Invocation, plan: RestorePlan) -> Proof | None:
    """As it is kept in the repository; None where the work did not come so far."""
    from engine.cli.opened_repository import open_named
    from engine.repository import proof_marks, read_proof

    with open_named(lambda: invocation.settings, plan.request.repository) as opened:
        for mark in proof_marks(opened):
            if mark.name.endswith(f".{plan.request.id}"):
                return read_proof(opened, mark)
    return None


def _document(journal: Journal, job: Job, proof: Proof) -> ExitCode:
    from engine.cli import printing
    from engine.cli.documents import of_job, plain

    document = {"proof": plain(proof) | {"outcome": proof.verdict.outcome.value}}
    if job.failure is not None and ExitCode(job.failure.exit_code) is not ExitCode.GUEST:
        # What it proved is kept, and something else went wrong: it could not be taken away, say.
        document["job"] = of_job(job, journal)
    printing.show_json(document)
    return ExitCode(job.failure.exit_code) if job.failure is not None else ExitCode.OK


def _show_checks(proof: Proof) -> None:
    from engine.cli import printing, states
    from engine.cli.table import Column

    if proof.checks:
        columns = (Column("IN THE GUEST"), Column("OF", gives_way=True), Column("EVIDENCE", gives_way=True))
        rows = [(states.GUEST_CHECK[check.state], check.name, check.evidence) for check in proof.checks]
        printing.show_table(columns, rows)
