"""`newhope run-job ID`: the process of a job. Started by `launching`, never by hand."""

from __future__ import annotations

from collections.abc import Callable

import click

from engine.cli.commands import Command
from engine.cli.invocation import Invocation
from engine.errors import ExitCode


@click.command("run-job", cls=Command, hidden=True)
@click.argument("job_id", type=int)
@click.pass_obj
def run_job(invocation: Invocation, job_id: int) -> ExitCode:
    """Do the work of a job that waits."""
    from engine.jobs import Job, JobContext, JobResult, run, take_handed
    from engine.settings import Settings

    # First of all: whatever else this process starts must not have it as its input.
    handed = take_handed()
    settings = invocation.settings

    def work(job: Job, context: JobContext) -> str | JobResult:
        # The packages behind a kind of job are imported inside `run`, so that even a broken one fails the job properly.
        from engine.cli import (
            backups_job,
            launching,
            leftovers_job,
            proofs_job,
            prune_job,
            repair_job,
            sync_job,
            verify_job,
            work_of_jobs,
        )
        from engine.fleet import accept_keys

        accept_keys(handed)
        kinds: dict[str, Callable[[Settings, Job, JobContext], str | JobResult]] = {
            launching.BACKUP: work_of_jobs.make_backup,
            launching.BACKUPS: backups_job.make_backups,
            launching.RESTORE: work_of_jobs.restore_vm,
            launching.PROOFS: proofs_job.prove_points,
            launching.PUT_BACK: work_of_jobs.put_files_back,
            launching.GET: work_of_jobs.get_files,
            leftovers_job.REPAIR_VM: leftovers_job.repair_vm,
            launching.SETTLE: work_of_jobs.settle_restore,
            verify_job.VERIFY: verify_job.verify_repository,
            prune_job.PRUNE: prune_job.prune_repository,
            repair_job.REPAIR: repair_job.repair_repository,
            sync_job.SYNC: sync_job.sync_repositories,
        }
        return kinds[job.kind](settings, job, context)

    with invocation.journal() as journal:
        return run(journal, job_id, work)
