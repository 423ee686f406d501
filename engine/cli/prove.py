"""`newhope prove`: boot a recovery point where it reaches nobody, ask it, keep the answer, and take everything away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from engine.cli.commands import Command
from engine.cli.invocation import Invocation
from engine.errors import ExitCode, NewhopeError

if TYPE_CHECKING:
    from engine.jobs import Journal
    from engine.repository import Proof
    from engine.restore import Entry, RestorePlan

KEPT = "1h"
"""For how long a proof that was cut off stays before `newhope restores due` takes it away."""


class NotProven(NewhopeError):
    """The guest of a recovery point was started, and did not answer."""

    exit_code = ExitCode.GUEST


@click.command("prove", cls=Command)
@click.argument("point_name", metavar="VM@SELECTOR")
@click.option("--to", "to_host", default="", metavar="HOST", help="Host to boot it on. [default: the fittest]")
@click.option("--pool", default="", metavar="POOL", help="Where its disks are written meanwhile.")
@click.option("--repository", metavar="NAME", help="Take the point from this one.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask. Failed checks still stop it.")
@click.option("--dry-run", is_flag=True, help="Show plan and checks and do nothing.")
@click.pass_obj
def prove(
    invocation: Invocation,
    point_name: str,
    to_host: str,
    pool: str,
    repository: str | None,
    yes: bool,
    dry_run: bool,
) -> ExitCode:
    """Prove a recovery point: restore it as a test that reaches no network, boot it, ask its guest agent.

    What came of it, and the time to boot, is kept with the point in its repository, and `newhope points` shows it. Then
    the VM and its disks are taken away. A test that this command could not take away, because it was killed, is
    taken away by `newhope restores due` after an hour.

    The exit status is 0 if the guest answered, or has no agent that could be asked; 10 if it was silent.

    \b
    Examples:
      newhope prove web@latest
      newhope prove web@-1 --to yavin --yes
    """
    from engine.cli import printing
    from engine.cli.documents import plain
    from engine.cli.following import see_to_end, tell_end
    from engine.cli.launching import launch_restore
    from engine.cli.restore import confirmed, planned, refuse_blocked, show_plan
    from engine.cli.restore_choices import Choices
    from engine.restore import RestoreJournal

    plan = planned(
        invocation,
        Choices(
            point_name,
            to_host=to_host,
            mode="test",
            pools=(pool,) if pool else (),
            repository=repository,
            keep_for=KEPT,
            then="undo",
            reason="proof",
        ),
    )
    if invocation.json and dry_run:
        printing.show_json({"plan": plain(plan) | {"blocked": plan.blocked}})
        return ExitCode.PREFLIGHT if plan.blocked else ExitCode.OK
    if not invocation.json:
        show_plan(invocation, plan)
    refuse_blocked(plan)
    if dry_run:
        return ExitCode.OK
    if not yes and not confirmed(invocation, plan):
        printing.say("Nothing was done.")
        return ExitCode.CANCELLED
    with invocation.journal() as journal:
        job = see_to_end(invocation, journal, launch_restore(invocation.settings, journal, plan).id)
        if job is None:
            click.echo(f"Then take its VM away: newhope restores undo {plan.request.id}", err=True)
            return ExitCode.INTERRUPTED
        if job.failure is not None:
            return tell_end(invocation, journal, job)
        entry = RestoreJournal(invocation.settings.state).find(plan.request.id)
        return _take_away(invocation, journal, entry) or _tell(invocation, _proof(invocation, plan))


def _proof(invocation: Invocation, plan: RestorePlan) -> Proof:
    """As it is kept in the repository: what is not there was not proven."""
    from engine.cli.opened_repository import open_named
    from engine.repository import proof_marks, read_proof

    with open_named(lambda: invocation.settings, plan.request.repository) as opened:
        for mark in proof_marks(opened):
            if mark.name.endswith(f".{plan.request.id}"):
                return read_proof(opened, mark)
    raise NotProven(
        f"{plan.vm} was booted, and the proof is not in repository {plan.request.repository}.",
        untouched="The recovery point is as it was; the test VM was taken away.",
        next_step=f"see why it could not be kept: newhope restores show {plan.request.id}.",
    )


def _take_away(invocation: Invocation, journal: Journal, entry: Entry) -> ExitCode | None:
    """Undo the test; None if nothing of it is left."""
    from engine.cli.following import see_to_end, tell_end
    from engine.cli.launching import launch_settlement
    from engine.restore import AtEnd, Settlement

    job = launch_settlement(invocation.settings, journal, entry, Settlement(entry.id, AtEnd.UNDO))
    ended = see_to_end(invocation, journal, job.id)
    if ended is None:
        return ExitCode.INTERRUPTED
    return tell_end(invocation, journal, ended) if ended.failure is not None else None


def _tell(invocation: Invocation, proof: Proof) -> ExitCode:
    from engine.cli import printing
    from engine.cli.documents import plain
    from engine.repository import ProofVerdict

    named = f"{proof.vm}@{proof.point_id[:8]}"
    silent = proof.verdict is ProofVerdict.SILENT
    if invocation.json:
        printing.show_json({"proof": plain(proof)})
        return ExitCode.GUEST if silent else ExitCode.OK
    if silent:
        raise NotProven(
            f"{named} was started on {proof.host}, and its guest agent did not answer.",
            untouched="The recovery point is as it was; the test VM was taken away, and the proof kept as silent.",
            next_step=f"look at its screen while it boots: newhope restore {named} --mode test --to {proof.host}.",
        )
    if proof.verdict is ProofVerdict.ANSWERED:
        printing.say(f"PROVEN  {named} booted on {proof.host}: its guest agent answered after {proof.boot_s} s.")
    else:
        printing.say(f"STARTED  {named} ran on {proof.host}; it has no guest agent that could tell whether it booted.")
    return ExitCode.OK
