"""`newhope prove --due`: the VMs whose level asks for a new proof by now, the worst first."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from engine.cli.invocation import Invocation
from engine.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.jobs import Job
    from engine.requirements import Attempts, ProofPlan


class DueChoices(Struct, frozen=True):
    """What the options say."""

    at_most: int
    yes: bool
    detach: bool
    dry_run: bool


def prove_due(invocation: Invocation, choices: DueChoices) -> ExitCode:
    """Show who is due and why, and prove those as one job."""
    from engine.cli import printing
    from engine.cli.attempts import JOBS_LOOKED_AT
    from engine.cli.confirmation import confirm
    from engine.cli.documents import plain
    from engine.cli.due_table import show_due
    from engine.cli.following import tell_launched, watch
    from engine.cli.launching import launch_proofs
    from engine.cli.overdue import settle_overdue
    from engine.cli.proofs_job import LOCK
    from engine.cli.vms import tell_silent
    from engine.cli.wording import count
    from engine.requirements import plan_proofs

    if not choices.dry_run:
        settle_overdue(invocation)
    fleet = invocation.fleet()
    now = datetime.now(UTC)
    with invocation.journal() as journal:
        jobs = journal.jobs(limit=JOBS_LOOKED_AT)
    plan = plan_proofs(invocation.settings, fleet, attempts_of(jobs), now)
    if choices.at_most:
        plan = replace(plan, due=plan.due[: choices.at_most])
    busy = _at_work(jobs)
    nothing = choices.dry_run or not plan.due or busy is not None
    if not invocation.json:
        show_due([(found.vm, found.host, found.level, found.why) for found in plan.due], plan.later, plan.left_out, now)
        tell_silent(fleet)
    elif nothing:
        printing.show_json(plain(plan))
    if choices.dry_run:
        if not invocation.json and not plan.due:
            printing.say(_nothing(plan))
        return ExitCode.OK
    # A timer must hear of proofs that failed and wait, although all that could be done was done.
    done = ExitCode.GUEST if any(found.failed for found in plan.later) else ExitCode.OK
    if nothing:
        if not invocation.json:
            printing.say(_nothing(plan) if busy is None else f"Job {busy.id} is proving; what is due waits for it.")
        return done
    if not choices.yes and not confirm(invocation, f"Boot and ask {count(len(plan.due), 'VM')}, one after the other?"):
        printing.say("Nothing was done.")
        return ExitCode.CANCELLED
    with invocation.journal() as journal:
        job = launch_proofs(invocation.settings, journal, plan.due, lock=LOCK)
        code = tell_launched(invocation, journal, job) if choices.detach else watch(invocation, journal, job.id)
    return done if code is ExitCode.OK else code


def attempts_of(jobs: Sequence[Job]) -> dict[str, Attempts]:
    """What came of the last proofs, by the UUID of their VM; `jobs` are the newest first."""
    import msgspec

    from engine.cli.attempts import still_on_list, tally
    from engine.cli.launching import PROOFS, RESTORE
    from engine.requirements import ProofDue
    from engine.restore import Request

    def proven_vm(job: Job) -> str | None:
        if job.kind != RESTORE:
            return None
        request = msgspec.json.decode(job.spec, type=Request)
        return request.vm_uuid if request.proves else None

    seen_to: dict[str, int] = {}
    for job in jobs:
        if job.kind == PROOFS and not job.state.over:
            wanted = msgspec.json.decode(job.spec, type=tuple[ProofDue, ...])
            seen_to |= dict.fromkeys(still_on_list(job, (due.vm_uuid for due in wanted)), job.id)
    return tally(jobs, proven_vm, seen_to)


def _nothing(plan: ProofPlan) -> str:
    if plan.later or plan.left_out:
        return "Nothing is due that can be proven now."
    return 'No level asks for proofs of any VM: prove_every = "7d" in a level does.'


def _at_work(jobs: Sequence[Job]) -> Job | None:
    from engine.cli.launching import PROOFS

    return next((job for job in jobs if job.kind == PROOFS and not job.state.over), None)
