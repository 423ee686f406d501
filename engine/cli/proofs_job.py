"""The job that proves the points of several VMs, one after the other, so that no host gets two guests at once.

Each is a restore with a job of its own, on the host that is the fittest when its turn comes: hosts are asked anew for
each, because what is free there changes. One that fails, or finds no place, does not keep the others from their turn.
"""

from __future__ import annotations

import msgspec

from engine import restore
from engine.cli.child_job import see_through
from engine.cli.launching import launch_restore
from engine.cli.wording import count
from engine.errors import ExitCode, NewhopeError
from engine.fleet import gather
from engine.hosts import HostLanes
from engine.jobs import Job, JobContext, JobResult, JobState, Journal, StepHandle
from engine.requirements import ProofDue
from engine.settings import Settings

LOCK = "proofs"
"""While one such job lives, a second one is refused: two would have two guests running."""


class ProofsFailed(NewhopeError):
    """Some of several points were not proven."""

    exit_code = ExitCode.GUEST


def prove_points(settings: Settings, job: Job, context: JobContext) -> JobResult:
    """Several VMs, in this order."""
    wanted = msgspec.json.decode(job.spec, type=tuple[ProofDue, ...])
    context.plan([f"{due.vm}@{due.point_id[:8]}" for due in wanted])
    failed: dict[str, str] = {}
    to_look_at: list[str] = []
    with Journal(settings.state) as journal:
        for due in wanted:
            context.raise_if_cancelled()
            try:
                with context.step(f"{due.vm}@{due.point_id[:8]}") as step:
                    ended = _prove(settings, journal, due, job.operator, context, step)
            except NewhopeError as error:
                context.raise_if_cancelled()
                failed[due.vm] = error.what
                context.log(f"{due.vm}: {error.what}", "error")
                continue
            if ended.state is JobState.WARN:
                to_look_at.append(due.vm)
    if failed:
        raise ProofsFailed(
            f"{len(failed)} of {count(len(wanted), 'VM')} not proven. {' '.join(failed.values())}",
            untouched="Every recovery point is as it was, and what was proven is kept.",
            next_step=f"see why: newhope jobs log {job.id}.",
        )
    sentence = f"{count(len(wanted), 'VM')} proven."
    if to_look_at:
        sentence = f"{count(len(wanted), 'proof')} made. To be looked at: {', '.join(to_look_at)}."
    return JobResult(sentence, warn=bool(to_look_at))


def _prove(
    settings: Settings, journal: Journal, due: ProofDue, operator: str, context: JobContext, step: StepHandle
) -> Job:
    """Wait for the proof of one VM. Raises what it failed with, or why it could not begin."""
    with HostLanes(settings) as lanes:
        fleet = gather(settings, lanes)
        request = restore.as_proof(restore.Request(due.repository, due.vm_uuid, due.point_id, operator=operator))
        plan = restore.place_proof(settings, lanes, fleet, request, restore.load_rates(settings.state))
    launched = launch_restore(settings, journal, plan)
    step.note(f"job {launched.id} on {plan.request.to_host}")
    child = see_through(journal, launched, context, step, own=True)
    if child.failure is not None:
        step.note(f"job {child.id}: {child.state.value}")
        raise ProofsFailed(child.failure.what, next_step=child.failure.next_step)
    step.note(f"job {child.id}: {child.result}")
    return child
