"""The job journal: what was asked for, how far it is, and what came of it."""

from __future__ import annotations

import getpass
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Struct

from engine.errors import Conflict, NotFound
from engine.jobs import lost
from engine.jobs.knobs import Knobs, Priority, no_knobs
from engine.jobs.model import Failure, Job, JobState, LogLine, Step, StepState
from engine.jobs.process import ProcessIdentity
from engine.jobs.rows import job_from_row, knobs_from_row, log_line_from_row, step_from_row
from engine.jobs.store import JournalFull, JournalUnusable, Row, Store, Value

KEPT_JOBS = 1000
LIVE = (JobState.QUEUED, JobState.RUN)
BESIDE_S = 10.0
"""A job that was not heard of for so long moves no bytes: nobody gives way to it."""


class CancelAnswer(StrEnum):
    """What became of the wish to cancel a job."""

    ASKED = "asked"
    ALREADY_ASKED = "already asked"
    OVER = "over"


class Heard(Struct, frozen=True):
    """What the process of a job is told whenever it writes."""

    cancelled: bool = False
    knobs: Knobs | None = None
    knobs_by: str = ""
    highest_beside: Priority = Priority.LOW
    """The highest priority of the other jobs that move bytes now."""


class LockHeld(Exception):
    """Internal to this package: a live job holds the lock; `launch` makes a `Conflict` of it."""

    def __init__(self, holder: int) -> None:
        super().__init__(holder)
        self.holder = holder


class Journal:
    """The journal in a state folder. Its methods may be called from any thread."""

    def __init__(self, state_dir: Path) -> None:
        self.state_dir = state_dir
        self._store = Store(state_dir)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the journal's file."""
        self._store.close()

    # ------------------------------------------------------------------ reading

    def jobs(self, *, limit: int = 100, states: Sequence[JobState] | None = None) -> tuple[Job, ...]:
        """The newest jobs first, those in `states` if given. A job whose process is gone comes back LOST."""
        self._mark_lost()
        where, values = "", list[Value]()
        if states is not None:
            where = f"WHERE state IN ({', '.join('?' * len(states))})"
            values = [state.value for state in states]
        return self._read_jobs(f"{where} ORDER BY id DESC LIMIT ?", [*values, limit])

    def job(self, job_id: int) -> Job:
        """One job; raises `NotFound`. A job whose process is gone comes back LOST."""
        self._mark_lost(job_id)
        found = self._read_jobs("WHERE id = ?", [job_id])
        if found:
            return found[0]
        newest = self._store.read("SELECT max(id) AS newest FROM job")[0]["newest"]
        raise NotFound(
            f"There is no job {job_id}" + (f"; the newest is {newest}." if newest else "; none has run yet."),
            next_step="list the jobs with `newhope jobs list`.",
        )

    def log(self, job_id: int, after: int = 0, *, limit: int = 10_000) -> tuple[LogLine, ...]:
        """The lines of a job's log with a number above `after`."""
        rows = self._store.read(
            "SELECT * FROM log_line WHERE job_id = ? AND number > ? ORDER BY number LIMIT ?",
            (job_id, after, limit),
        )
        return tuple(log_line_from_row(row) for row in rows)

    def output_file(self, job_id: int) -> Path:
        """Where everything that the job's process itself printed goes: tracebacks, warnings of libraries."""
        return self.state_dir / "jobs" / f"{job_id}.log"

    def report(self, job_id: int) -> bytes | None:
        """The document that a job left for whoever asked for it; None if it left none, or it is gone."""
        try:
            return self._report_file(job_id).read_bytes()
        except OSError:
            return None

    # ------------------------------------------------------------------ asking

    def ask_cancel(self, job_id: int) -> CancelAnswer:
        """Ask a job to stop at the next place where it can do so cleanly."""
        if self.job(job_id).state.over:
            return CancelAnswer.OVER
        with self._store.write() as connection:
            asked = connection.execute(
                "UPDATE job SET cancel_asked = 1 WHERE id = ? AND cancel_asked = 0", (job_id,)
            ).rowcount
        return CancelAnswer.ASKED if asked else CancelAnswer.ALREADY_ASKED

    def turn_knobs(self, job_id: int, change: Callable[[Knobs], Knobs]) -> Job:
        """Say how a job is to run from now on; its process hears of it within a second or two.

        Raises `NotFound`, and `Conflict` for a job that is over or has no knobs.
        """
        job = self.job(job_id)
        with self._store.write() as connection:
            row = connection.execute("SELECT state, knobs FROM job WHERE id = ?", (job_id,)).fetchone()
            knobs = knobs_from_row(row)
            if knobs is None:
                raise no_knobs(job_id, f"{job.kind} of {job.subject}")
            if JobState(row["state"]).over:
                raise Conflict(
                    f"Job {job_id} is over already: {row['state']}.", next_step=f"see `newhope jobs show {job_id}`."
                )
            connection.execute(
                "UPDATE job SET knobs = ?, knobs_by = ? WHERE id = ?",
                (msgspec.json.encode(change(knobs)).decode(), operator_name(), job_id),
            )
        return self.job(job_id)

    # ------------------------------------------------------------------ written by whoever launches a job

    def alone(self, purpose: str) -> AbstractContextManager[None]:
        """Wait until no other thread or process is in the same purpose's turn, and have it."""
        return self._store.alone(purpose)

    def insert(
        self,
        *,
        kind: str,
        subject: str,
        host: str,
        spec: bytes,
        lock: str | None,
        again: str,
        untouched: str,
        knobs: Knobs | None = None,
    ) -> int:
        """A new job, QUEUED. Raises `LockHeld` while a live job holds the same lock."""
        self._mark_lost()
        turned = None if knobs is None else msgspec.json.encode(knobs).decode()
        try:
            with self._store.write(durable=True) as connection:
                number = connection.execute(
                    "INSERT INTO job (kind, subject, host, state, created, operator, spec, lock, again,"
                    " untouched, knobs) VALUES (?, ?, ?, 'queued', ?, ?, ?, ?, ?, ?, ?) RETURNING id",
                    (kind, subject, host, time.time(), operator_name(), spec, lock, again, untouched, turned),
                ).fetchone()[0]
        except sqlite3.IntegrityError as error:
            holders = self._store.read("SELECT id FROM job WHERE lock = ? AND state IN ('queued', 'run')", (lock,))
            if holders:
                raise LockHeld(holders[0]["id"]) from error
            # It ended between the two statements: the lock is free now.
            return self.insert(
                kind=kind,
                subject=subject,
                host=host,
                spec=spec,
                lock=lock,
                again=again,
                untouched=untouched,
                knobs=knobs,
            )
        self._forget_oldest()
        return number

    def record_process(self, job_id: int, identity: ProcessIdentity) -> None:
        """Which process was started for a job; the process itself may have been quicker to say so."""
        with self._store.write(durable=True) as connection:
            connection.execute(
                "UPDATE job SET pid = ?, start_ticks = ?, boot_id = ? WHERE id = ? AND pid IS NULL",
                (identity.pid, identity.start_ticks, identity.boot_id, job_id),
            )

    # ------------------------------------------------------------------ written by the process that runs it

    def begin(self, job_id: int, identity: ProcessIdentity) -> bool:
        """QUEUED becomes RUN; False if it is not QUEUED (any more)."""
        now = time.time()
        with self._store.write(durable=True) as connection:
            return bool(
                connection.execute(
                    "UPDATE job SET state = 'run', started = ?, heartbeat = ?, pid = ?, start_ticks = ?,"
                    " boot_id = ? WHERE id = ? AND state = 'queued'",
                    (now, now, identity.pid, identity.start_ticks, identity.boot_id, job_id),
                ).rowcount
            )

    def pulse(self, job_id: int, steps: Sequence[Step]) -> Heard:
        """The process is alive and its steps stand like this; answers what it is asked to do."""
        now_s = time.time()
        with self._store.write() as connection:
            connection.execute("UPDATE job SET heartbeat = ? WHERE id = ?", (now_s, job_id))
            _write_steps(connection, job_id, steps)
            row = connection.execute("SELECT cancel_asked, knobs, knobs_by FROM job WHERE id = ?", (job_id,)).fetchone()
            others = connection.execute(
                "SELECT knobs FROM job WHERE state = 'run' AND id != ? AND heartbeat > ? AND knobs IS NOT NULL",
                (job_id, now_s - BESIDE_S),
            ).fetchall()
        if row is None:
            return Heard()
        beside = [knobs.priority for other in others if (knobs := knobs_from_row(other)) and not knobs.paused]
        highest = max(beside, key=lambda priority: priority.weight, default=Priority.LOW)
        return Heard(bool(row["cancel_asked"]), knobs_from_row(row), row["knobs_by"], highest)

    def append_log(self, job_id: int, level: str, text: str) -> None:
        """One more line in a job's log."""
        with self._store.write() as connection:
            connection.execute(
                "INSERT INTO log_line (job_id, number, time, level, text)"
                " SELECT ?1, 1 + coalesce(max(number), 0), ?2, ?3, ?4 FROM log_line WHERE job_id = ?1",
                (job_id, time.time(), level, text),
            )

    def write_report(self, job_id: int, content: bytes) -> None:
        """Leave a document beside the one sentence that the journal keeps. Raises `JournalUnusable`."""
        file = self._report_file(job_id)
        unfinished = file.with_suffix(".part")
        try:
            with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as writing:
                writing.write(content)
            unfinished.rename(file)
        except OSError as error:
            raise JournalUnusable(
                f"The report of job {job_id} could not be written to {file}: {error.strerror or error}.",
                next_step="free some space below the state folder; `newhope jobs show` tells what came of the job.",
            ) from error

    def end(
        self,
        job_id: int,
        state: JobState,
        *,
        steps: Sequence[Step],
        result: str = "",
        failure: Failure | None = None,
    ) -> None:
        """The last word on a job."""
        with self._store.write(durable=True) as connection:
            _write_steps(connection, job_id, steps)
            _write_end(connection, job_id, state, result, failure)

    # ------------------------------------------------------------------ within

    def _read_jobs(self, tail: str, values: Sequence[Value]) -> tuple[Job, ...]:
        # `tail` is one of this file's own clauses; what comes from outside is in `values`.
        rows = self._store.read(f"SELECT * FROM job {tail}", values)  # noqa: S608
        steps: dict[int, list[Step]] = {row["id"]: [] for row in rows}
        for row in self._step_rows(tuple(steps)):
            steps[row["job_id"]].append(step_from_row(row))
        return tuple(job_from_row(row, tuple(steps[row["id"]])) for row in rows)

    def _step_rows(self, job_ids: tuple[int, ...]) -> list[Row]:
        found: list[Row] = []
        for start in range(0, len(job_ids), 500):  # SQLite allows a limited number of values in a statement
            some = job_ids[start : start + 500]
            marks = ", ".join("?" * len(some))
            found += self._store.read(
                f"SELECT * FROM step WHERE job_id IN ({marks}) ORDER BY job_id, number",  # noqa: S608
                some,
            )
        return found

    def _mark_lost(self, job_id: int | None = None) -> None:
        """Give every live job whose process is gone its last word."""
        only, values = ("", ()) if job_id is None else (" AND id = ?", (job_id,))
        rows = self._store.read(f"SELECT * FROM job WHERE state IN ('queued', 'run'){only}", values)  # noqa: S608
        for row in rows:
            failure = lost.why_lost(row, now_s=time.time())
            if failure is None:
                continue
            try:
                with self._store.write() as connection:
                    _write_end(connection, row["id"], JobState.LOST, "", failure)
            except (JournalFull, JournalUnusable):
                # Looking must work on a full or read-only disk too; the next look tries again.
                continue

    def _forget_oldest(self) -> None:
        with self._store.write() as connection:
            old = connection.execute(
                "DELETE FROM job WHERE state NOT IN ('queued', 'run') AND id <= (SELECT max(id) FROM job) - ?"
                " RETURNING id",
                (KEPT_JOBS,),
            ).fetchall()
        for row in old:
            self.output_file(row["id"]).unlink(missing_ok=True)
            self._report_file(row["id"]).unlink(missing_ok=True)

    def _report_file(self, job_id: int) -> Path:
        return self.state_dir / "jobs" / f"{job_id}.json"


def operator_name() -> str:
    """Who asks: the login behind sudo where there is one."""
    behind = os.environ.get("SUDO_USER")
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = str(os.getuid())
    return f"{behind} (as {name})" if behind and behind != name else name


def _write_steps(connection: sqlite3.Connection, job_id: int, steps: Sequence[Step]) -> None:
    connection.executemany(
        "INSERT INTO step (job_id, number, title, state, started, finished, done_bytes, total_bytes, note)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (job_id, number) DO UPDATE SET title = excluded.title, state = excluded.state,"
        " started = excluded.started, finished = excluded.finished,"
        " done_bytes = excluded.done_bytes, total_bytes = excluded.total_bytes, note = excluded.note",
        [
            (
                job_id,
                step.number,
                step.title,
                step.state.value,
                step.started.timestamp() if step.started else None,
                step.finished.timestamp() if step.finished else None,
                step.done_bytes,
                step.total_bytes,
                step.note,
            )
            for step in steps
        ],
    )


def _write_end(
    connection: sqlite3.Connection, job_id: int, state: JobState, result: str, failure: Failure | None
) -> None:
    now = time.time()
    # Only a live job can end: a late process must not overwrite LOST, and two readers must not both mark it.
    ended = connection.execute(
        "UPDATE job SET state = ?, finished = ?, result = ?, failure_what = ?, failure_untouched = ?,"
        " failure_next_step = ?, failure_exit_code = ? WHERE id = ? AND state IN ('queued', 'run')",
        (
            state.value,
            now,
            result,
            failure.what if failure else None,
            failure.untouched if failure else None,
            failure.next_step if failure else None,
            failure.exit_code if failure else None,
            job_id,
        ),
    ).rowcount
    if not ended:
        return
    running = StepState.DONE if state in (JobState.DONE, JobState.WARN) else StepState.FAIL
    connection.execute(
        "UPDATE step SET state = ?, finished = ? WHERE job_id = ? AND state = 'run'",
        (running.value, now, job_id),
    )
    connection.execute("UPDATE step SET state = 'skip' WHERE job_id = ? AND state = 'wait'", (job_id,))
