"""What nobody has to ask for: restores whose time to decide is over, and what is left of proofs that were cut off."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from engine.cli.invocation import Invocation
from engine.errors import Conflict, NotFound

if TYPE_CHECKING:
    from engine.jobs import Job, Journal
    from engine.restore import RestoreJournal, Settlement


def settlements(restores: RestoreJournal, journal: Journal) -> tuple[Settlement, ...]:
    """What is to be committed or undone by now."""
    from engine.restore import abandoned, overdue

    def lives(job_id: int) -> bool:
        try:
            return not journal.job(job_id).state.over
        except NotFound:
            return False

    entries = restores.entries()
    found = (*overdue(entries, datetime.now(UTC)), *abandoned(entries, lives))
    return tuple({each.id: each for each in found}.values())


def settle_overdue(invocation: Invocation) -> tuple[Job, ...]:
    """Commit or undo what is overdue, one after the other; answers the jobs that did it, which are over.

    What another job works on is left to it. One that fails says so on standard error, and waits for the next time.
    """
    from engine.cli.failures import tell
    from engine.cli.launching import launch_settlement
    from engine.jobs import follow
    from engine.restore import RestoreJournal

    restores = RestoreJournal(invocation.settings.state)
    done: list[Job] = []
    with invocation.journal() as journal:
        for settlement in settlements(restores, journal):
            try:
                job = launch_settlement(invocation.settings, journal, restores.find(settlement.id), settlement)
            except Conflict:
                continue
            *_, job = follow(journal, job.id)
            if job.failure is not None:
                failure = job.failure
                tell(failure.what, failure.untouched, failure.next_step, failure.exit_code, as_json=False)
            done.append(job)
    return tuple(done)
