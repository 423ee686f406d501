"""`newhope prove`: boot a recovery point where it reaches nobody, ask it, keep the answer, and take everything away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from engine.cli.commands import Command
from engine.cli.invocation import Invocation
from engine.errors import ExitCode

if TYPE_CHECKING:
    from engine.jobs import Job, Journal
    from engine.repository import Proof
    from engine.restore import RestorePlan

KEPT = "1h"
"""How long the VM of a proof may stay whose removal failed, before `newhope restores due` tries again."""


@click.command("prove", cls=Command)
@click.argument("point_name", metavar="VM@SELECTOR")
@click.option("--to", "to_host", default="", metavar="HOST", help="Host to boot it on. [default: the fittest]")
@click.option("--pool", default="", metavar="POOL", help="Where its disks are written meanwhile.")
@click.option("--watch", default="", metavar="TIME", help="How long to watch a guest without an agent. [default: 1m]")
@click.option("--repository", metavar="NAME", help="Take the point from this one.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask. Failed checks of the plan still stop it.")
@click.option("--dry-run", is_flag=True, help="Show plan and checks and do nothing.")
@click.pass_obj
def prove(
    invocation: Invocation,
    point_name: str,
    to_host: str,
    pool: str,
    watch: str,
    repository: str | None,
    yes: bool,
    dry_run: bool,
) -> ExitCode:
    """Prove a recovery point: boot it where it reaches no network, ask its guest agent, run its level's checks.

    What came of it, and the time to boot, is kept with the point in its repository, and `newhope points` shows it. Then
    the VM and its disks are taken away. If this is killed with its job, the next proof, or `newhope restores undo`,
    takes them away.

    The exit status is 0 if the point is proven, or nobody can tell (a guest without an agent); 10 if its guest was
    silent, went off, or failed a check.

    \b
    Examples:
      newhope prove web@latest
      newhope prove web@-1 --to yavin --yes
    """
    from engine.cli.following import see_to_end, tell_end
    from engine.cli.launching import launch_restore
    from engine.cli.overdue import settle_overdue
    from engine.cli.restore import looked_at, planned
    from engine.cli.restore_choices import Choices

    if not dry_run:
        settle_overdue(invocation)
    choices = Choices(
        point_name,
        to_host=to_host,
        mode="test",
        pools=(pool,) if pool else (),
        repository=repository,
        keep_for=KEPT,
        then="undo",
        reason="proof",
        watch=watch,
        proves=True,
    )
    plan = planned(invocation, choices)
    refused = looked_at(invocation, plan, yes=yes, dry_run=dry_run)
    if refused is not None:
        return refused
    with invocation.journal() as journal:
        job = see_to_end(invocation, journal, launch_restore(invocation.settings, journal, plan).id)
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
