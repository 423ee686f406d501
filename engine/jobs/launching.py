"""Start a job in a process of its own, which outlives its launcher, the terminal and the SSH session.

1. The job's row is inserted, QUEUED, with its lock: while a job of the same lock lives, `Conflict` names it.
2. The child starts in a session of its own (no terminal can hang it up), in `/` (no file system is kept
   busy), with no input but what it is handed (`handing`), and with its output in `jobs/ID.log` of the state folder.
3. Its identity is recorded. Should the launcher die between 1 and 3, the child records it itself; should both
   die, the next reader finds the job LOST.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Sequence
from datetime import UTC, datetime

from engine.errors import Conflict, ExitCode, NewhopeError
from engine.jobs.handing import refuse_too_much, standard_input
from engine.jobs.journal import Journal, LockHeld
from engine.jobs.knobs import Knobs
from engine.jobs.model import Failure, Job, JobState
from engine.jobs.process import identify


class LaunchFailed(NewhopeError):
    """The operating system did not start the job's process."""


def launch(
    journal: Journal,
    kind: str,
    subject: str,
    host: str,
    spec: bytes,
    *,
    lock: str | None,
    argv_prefix: Sequence[str],
    again: str = "",
    untouched: str = "",
    handed: bytes = b"",
    knobs: Knobs | None = None,
) -> Job:
    """Start `argv_prefix` + [job id] for a new job and come back at once.

    `handed` is for the process alone, which asks for it with `take_handed`; it is written down nowhere. `again` is the
    command that an operator would type to start the same thing once more, `untouched` the sentence on what stays as it
    was even if the job is killed. `knobs` is how it begins, for work that asks its `Pace`; others have none. Raises
    `Conflict` while another job holds `lock`.
    """
    refuse_too_much(handed)
    try:
        job_id = journal.insert(
            kind=kind,
            subject=subject,
            host=host,
            spec=spec,
            lock=lock,
            again=again,
            untouched=untouched,
            knobs=knobs,
        )
    except LockHeld as held:
        raise _conflict(journal.job(held.holder), kind, subject) from held
    try:
        process = _start_detached(journal, job_id, [*argv_prefix, str(job_id)], handed)
    except OSError as error:
        failure = Failure(
            f"Job {job_id} ({kind} of {subject}) could not be started: {error.strerror or error}.",
            "Nothing was changed.",
            "free memory, processes or disk space on this machine, then try again.",
            ExitCode.FAILED,
        )
        journal.end(job_id, JobState.FAIL, steps=(), failure=failure)
        raise LaunchFailed(failure.what, next_step=failure.next_step) from error
    identity = identify(process.pid)
    if identity is not None:
        journal.record_process(job_id, identity)
    # A console lives as long as its jobs and must not collect zombies.
    threading.Thread(target=process.wait, name=f"job-{job_id}", daemon=True).start()
    return journal.job(job_id)


def _start_detached(journal: Journal, job_id: int, argv: list[str], handed: bytes) -> subprocess.Popen[bytes]:
    output = journal.output_file(job_id)
    output.parent.mkdir(mode=0o700, exist_ok=True)
    handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        with standard_input(handed) as stdin:
            return subprocess.Popen(argv, stdin=stdin, stdout=handle, stderr=handle, cwd="/", start_new_session=True)
    finally:
        os.close(handle)


def _conflict(holder: Job, kind: str, subject: str) -> Conflict:
    minutes = int((datetime.now(UTC) - holder.created).total_seconds() // 60)
    since = "less than a minute ago" if minutes < 1 else f"{minutes} min ago"
    return Conflict(
        f"A {kind} of {subject} cannot start: job {holder.id} ({holder.kind} of {holder.subject})"
        f" is at work on the same thing, started by {holder.operator} {since}.",
        next_step=f"follow it with `newhope jobs follow {holder.id}`, or stop it with"
        f" `newhope jobs cancel {holder.id}`, then try again.",
    )
