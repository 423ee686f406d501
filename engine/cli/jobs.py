"""`newhope jobs`: what runs, what came of it, and how to stop it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from engine.cli.commands import Group
from engine.cli.invocation import Invocation
from engine.errors import ExitCode, NotFound

if TYPE_CHECKING:
    from engine.jobs import Job, Journal


@click.group("jobs", cls=Group, default="list")
def jobs() -> None:
    """Long work runs as jobs, in processes of their own: they go on when this terminal dies.

    \b
    Examples:
      newhope jobs                 the newest jobs
      newhope jobs follow          watch the one that runs (Ctrl-C leaves it running)
      newhope jobs show 42         its steps, and why it failed
      newhope jobs set 42 --pause  let it stand still; --resume lets it go on
      newhope jobs cancel 42       stop it cleanly
    """


@jobs.command("list")
@click.option("--live", is_flag=True, help="Only jobs that are not over.")
@click.option("-n", "--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="How many.")
@click.pass_obj
def list_jobs(invocation: Invocation, live: bool, limit: int) -> None:
    """The newest jobs first, with what came of them."""
    from engine.cli import printing, states
    from engine.cli.documents import of_job
    from engine.cli.table import Column
    from engine.cli.wording import age
    from engine.jobs import JobState

    with invocation.journal() as journal:
        found = journal.jobs(limit=limit, states=[JobState.QUEUED, JobState.RUN] if live else None)
        if invocation.json:
            printing.show_json({"jobs": [of_job(job, journal) for job in found]})
            return
    if not found:
        printing.say("No job runs." if live else "No job has run yet. `newhope backup VM` starts the first one.")
        return
    columns = (
        Column("JOB", right=True),
        Column("STATE"),
        Column("WHAT"),
        Column("FOR"),
        Column("HOST"),
        Column("STARTED"),
        Column("TOOK", right=True),
        Column("DONE", right=True),
    )
    now = datetime.now(UTC)
    rows = [
        (
            str(job.id),
            states.of_job(job),
            job.kind,
            job.subject,
            job.host,
            job.created.astimezone().strftime("%m-%d %H:%M"),
            age(((job.finished or now) - (job.started or job.created)).total_seconds()),
            _percent(job),
        )
        for job in found
    ]
    printing.show_table(columns, rows)


@jobs.command()
@click.argument("job_id", type=int, required=False, metavar="[JOB]")
@click.pass_obj
def show(invocation: Invocation, job_id: int | None) -> None:
    """One job: its steps, its bytes, and the three sentences if it failed."""
    from engine.cli import printing
    from engine.cli.documents import of_job, plain

    with invocation.journal() as journal:
        job = _job(journal, job_id)
        if invocation.json:
            log = [plain(line) for line in journal.log(job.id)]
            printing.show_json({"job": of_job(job, journal), "log": log})
            return
        _show_facts(job, journal)
        printing.say()
        _show_steps(job)
        warnings = [line for line in journal.log(job.id) if line.level != "info"]
    for line in warnings[-5:]:
        printing.say(f"{line.level}: {line.text}")


@jobs.command()
@click.argument("job_id", type=int, required=False, metavar="[JOB]")
@click.pass_obj
def follow(invocation: Invocation, job_id: int | None) -> ExitCode:
    """Watch a job to its end; the exit status is the job's. Ctrl-C leaves it running.

    With --json: one document a line, each time it changed.
    """
    from engine.cli.following import watch

    with invocation.journal() as journal:
        return watch(invocation, journal, _job(journal, job_id).id, stream=True)


@jobs.command()
@click.argument("job_id", type=int, metavar="JOB")
@click.pass_obj
def cancel(invocation: Invocation, job_id: int) -> None:
    """Ask a job to stop where it can do so cleanly.

    A restore takes back what it had begun; a backup leaves every earlier recovery point as it was; what a
    verification or a pruning of a repository has done stays done, and the next one goes on from there.
    """
    from engine.cli import printing
    from engine.errors import Conflict
    from engine.jobs import CancelAnswer

    with invocation.journal() as journal:
        answer = journal.ask_cancel(job_id)
        job = journal.job(job_id)
    if answer is CancelAnswer.OVER:
        raise Conflict(
            f"Job {job_id} is over already: {job.state.value}.", next_step=f"see `newhope jobs show {job_id}`."
        )
    if invocation.json:
        printing.show_json({"cancel": {"job": job_id, "answer": answer.value}})
    elif answer is CancelAnswer.ALREADY_ASKED:
        printing.say(f"Job {job_id} was already asked to stop; it does so at its next clean place.")
        printing.say(f"Watch it with `newhope jobs follow {job_id}`.")
    else:
        printing.say(f"Job {job_id} was asked to stop. Watch it with `newhope jobs follow {job_id}`.")


@jobs.command("set")
@click.argument("job_id", type=int, metavar="JOB")
@click.option("--pause/--resume", "paused", default=None, help="Let it stand still, or go on.")
@click.option("--bandwidth", metavar="RATE", help="At most so much a second, such as 50MiB; or unlimited.")
@click.option("--priority", type=click.Choice(["low", "normal", "high"]), help="Which jobs give way to which.")
@click.option("--streams", type=click.IntRange(1, 16), metavar="N", help="Pieces of its disks that move at once.")
@click.pass_obj
def set_knobs(
    invocation: Invocation,
    job_id: int,
    paused: bool | None,
    bandwidth: str | None,
    priority: str | None,
    streams: int | None,
) -> None:
    """Pause a job that runs, slow it down, or let it give way; it obeys within a second or two.

    For restores, backups of disks, verifications, syncs, and files of a point that are written to this machine or put
    back into a guest; --streams for restores only. The limit is on what is written to, or read from, the disks of VMs
    and on what such files hold; of a verification and a sync, on the packs of a repository. Files that a backup takes
    out of a guest come as fast as the guest sends them.

    
    A job gives way to one of higher priority that moves bytes, on this machine:
      low beside normal, or normal beside high: it works a quarter of the time
      low beside high: a sixteenth; alone, each is as fast as it can be

    A paused job keeps what it holds: locks, leases, its place. A backup that is paused keeps old blocks of its guest in
    scratch space, as much as the guest overwrites, and ends by itself before that is full (scratch_floor).

    
    Examples:
      newhope jobs set 42 --pause
      newhope jobs set 42 --resume --bandwidth 50MiB --streams 2
      newhope jobs set 41 --priority low      what else runs comes first
    """
    from engine.cli import printing
    from engine.cli.documents import of_job
    from engine.cli.knob_words import refuse_nothing, turned
    from engine.jobs import Knobs, in_words

    refuse_nothing(paused, bandwidth, priority, streams)
    with invocation.journal() as journal:
        job = journal.turn_knobs(
            job_id,
            lambda knobs: turned(knobs, paused=paused, bandwidth=bandwidth, priority=priority, streams=streams),
        )
        if invocation.json:
            printing.show_json({"job": of_job(job, journal)})
            return
    printing.say(f"Job {job_id}, {job.kind} of {job.subject}: {in_words(job.knobs or Knobs())}.")


@jobs.command()
@click.argument("job_id", type=int, required=False, metavar="[JOB]")
@click.option("--after", default=0, type=int, help="Only lines after this number.")
@click.pass_obj
def log(invocation: Invocation, job_id: int | None, after: int) -> None:
    """What a job said, line by line, and where its process's own output is."""
    from engine.cli import printing
    from engine.cli.documents import plain
    from engine.cli.wording import local

    with invocation.journal() as journal:
        job = _job(journal, job_id)
        lines = journal.log(job.id, after)
        output = journal.output_file(job.id)
    if invocation.json:
        printing.show_json({"log": [plain(line) for line in lines]})
        return
    for line in lines:
        mark = "" if line.level == "info" else f"{line.level}: "
        printing.say(f"{local(line.time)}  {mark}{line.text}")
    if not lines:
        printing.say(f"Job {job.id} has said nothing" + (f" after line {after}." if after else "."))
    if output.exists() and output.stat().st_size:
        printing.say(f"More, for a report of a defect: {output}")


def _job(journal: Journal, job_id: int | None) -> Job:
    """The job of that number; without one, the newest that runs, or else the newest."""
    from engine.jobs import JobState

    if job_id is not None:
        return journal.job(job_id)
    for wanted in ([JobState.QUEUED, JobState.RUN], None):
        found = journal.jobs(limit=1, states=wanted)
        if found:
            return found[0]
    raise NotFound("No job has run yet.", next_step="start one: `newhope backup VM`.")


def _percent(job: Job) -> str:
    if job.state.over or not job.total_bytes:
        return ""
    return f"{job.done_bytes * 100 // job.total_bytes} %"


def _show_facts(job: Job, journal: Journal) -> None:
    from engine.cli import printing, states
    from engine.cli.wording import local, since, size
    from engine.jobs import in_words

    facts = [
        ("job", f"{job.id}: {job.kind} of {job.subject}{job.place}"),
        ("state", states.of_job(job).text + (", asked to stop" if job.cancel_asked and not job.state.over else "")),
        ("created", f"{local(job.created)} by {job.operator}, {since(job.created)} ago"),
    ]
    if job.finished:
        facts.append(("finished", local(job.finished)))
    elif job.heartbeat:
        facts.append(("process", f"{job.pid}, last heard of {since(job.heartbeat)} ago"))
    if job.knobs is not None:
        facts.append(("set to", in_words(job.knobs) + (f", by {job.knobs_by}" if job.knobs_by else "")))
    if job.total_bytes:
        facts.append(("bytes", f"{size(job.done_bytes)} of {size(job.total_bytes)}"))
    if job.result:
        facts.append(("result", job.result))
    if job.failure:
        facts += [
            ("what", job.failure.what),
            ("untouched", job.failure.untouched),
            ("next", job.failure.next_step),
            ("status", f"{job.failure.exit_code}"),
        ]
    if job.again:
        facts.append(("again", job.again))
    if journal.output_file(job.id).exists() and journal.output_file(job.id).stat().st_size:
        facts.append(("output", str(journal.output_file(job.id))))
    printing.show_facts(facts)


def _show_steps(job: Job) -> None:
    from engine.cli import printing, states
    from engine.cli.table import Column
    from engine.cli.wording import size, took

    columns = (
        Column("#", right=True),
        Column("STATE"),
        Column("STEP"),
        Column("BYTES", right=True),
        Column("TOOK", right=True),
        Column("NOTE", gives_way=True),
    )
    rows = [
        (
            str(step.number),
            states.STEP[step.state],
            step.title,
            size(step.done_bytes) if step.done_bytes else "",
            took((step.finished - step.started).total_seconds()) if step.started and step.finished else "",
            step.note,
        )
        for step in job.steps
    ]
    printing.show_table(columns, rows)
