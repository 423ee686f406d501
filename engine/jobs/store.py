"""The journal's file: one SQLite database that several processes write at once, failing in plain words.

Who may do what with whom:

- Every process has one connection; the threads of a process share it under `_turn`.
- Readers never wait (write-ahead log). Writers take turns: each write is one `BEGIN IMMEDIATE` transaction of
  milliseconds, and the others wait up to `BUSY_TIMEOUT_S` for it.
- What must look at several jobs and start one by what it saw has a turn of its own (`alone`): an exclusive `flock` on a
  file of the turn's name, which ends with its holder.
- Creating the file, its schema and its write-ahead log happens under an exclusive `flock` on `journal.lock`,
  because SQLite's switch to a write-ahead log does not wait for others.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import RLock

from engine.errors import Conflict, NewhopeError, NoSpace

BUSY_TIMEOUT_S = 20.0
SCHEMA_VERSION = 2
SCHEMA = """
CREATE TABLE job (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    host TEXT NOT NULL,
    state TEXT NOT NULL,
    created REAL NOT NULL,
    operator TEXT NOT NULL,
    spec BLOB NOT NULL,
    lock TEXT,
    again TEXT NOT NULL,
    untouched TEXT NOT NULL,
    started REAL,
    finished REAL,
    pid INTEGER,
    start_ticks INTEGER,
    boot_id TEXT,
    heartbeat REAL,
    cancel_asked INTEGER NOT NULL DEFAULT 0,
    failure_what TEXT,
    failure_untouched TEXT,
    failure_next_step TEXT,
    failure_exit_code INTEGER,
    result TEXT NOT NULL DEFAULT '',
    knobs TEXT,
    knobs_by TEXT NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX one_live_job_a_lock ON job (lock) WHERE lock IS NOT NULL AND state IN ('queued', 'run');
CREATE INDEX live_jobs ON job (state) WHERE state IN ('queued', 'run');
CREATE TABLE step (
    job_id INTEGER NOT NULL REFERENCES job ON DELETE CASCADE,
    number INTEGER NOT NULL,
    title TEXT NOT NULL,
    state TEXT NOT NULL,
    started REAL,
    finished REAL,
    done_bytes INTEGER NOT NULL DEFAULT 0,
    total_bytes INTEGER NOT NULL DEFAULT 0,
    note TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (job_id, number)
) WITHOUT ROWID;
CREATE TABLE log_line (
    job_id INTEGER NOT NULL REFERENCES job ON DELETE CASCADE,
    number INTEGER NOT NULL,
    time REAL NOT NULL,
    level TEXT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (job_id, number)
) WITHOUT ROWID;
"""

FROM_VERSION_1 = """
ALTER TABLE job ADD COLUMN knobs TEXT;
ALTER TABLE job ADD COLUMN knobs_by TEXT NOT NULL DEFAULT '';
"""

Row = sqlite3.Row
Value = str | int | float | bytes | None

KEPT_ELSEWHERE = "Recovery points and VMs do not depend on it; running jobs go on."


class JournalUnusable(NewhopeError):
    """The journal cannot be opened, read or written: damaged, read-only, or from a newer newhope."""


class JournalFull(NoSpace):
    """The file system that holds the journal has no space left."""


class JournalBusy(Conflict):
    """Another process kept the journal for longer than any healthy one does."""


class Store:
    """An open journal file."""

    def __init__(self, state_dir: Path) -> None:
        self.file = state_dir / "journal.sqlite"
        self._turn = RLock()
        _make_private_folder(state_dir)
        with self._in_plain_words(), _turn(state_dir / "journal.lock"):
            self._connection = self._open()

    def close(self) -> None:
        """Let go of the file."""
        with self._turn:
            self._connection.close()

    def read(self, statement: str, values: Sequence[Value] = ()) -> list[Row]:
        """All rows that a query answers."""
        with self._turn, self._in_plain_words():
            return self._connection.execute(statement, values).fetchall()

    @contextmanager
    def write(self, *, durable: bool = False) -> Generator[sqlite3.Connection]:
        """One transaction; `durable` makes it outlive a power cut, at the price of waiting for the disk."""
        with self._turn, self._in_plain_words():
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def alone(self, purpose: str) -> Generator[None]:
        """A turn that one thread of one process has at a time; its holder may read and write meanwhile."""
        with self._in_plain_words(), ExitStack() as stack:
            stack.enter_context(_turn(self.file.parent / f"{purpose}.lock"))
            held = stack.pop_all()
        with held:
            yield

    def _open(self) -> sqlite3.Connection:
        # SQLite would create it readable for everyone; its write-ahead log takes over this file's
        # permissions.
        # Only a new file may be opened and closed here: closing any descriptor of a file drops all of this process's
        # locks on it (`man 2 fcntl`), those of other connections included.
        with suppress(FileExistsError):
            os.close(os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(self.file, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        try:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA foreign_keys = ON")
            version: int = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA_VERSION:
                raise JournalUnusable(
                    f"The job journal {self.file} was written by a newer newhope (version {version} of its"
                    f" layout; this one knows {SCHEMA_VERSION}).",
                    untouched="It was not changed.",
                    next_step="use the newer newhope, or name another `state` folder in the settings file.",
                )
            if version == 0:
                connection.execute("PRAGMA journal_mode = WAL")
            if version < SCHEMA_VERSION:
                change = FROM_VERSION_1 if version else SCHEMA
                connection.executescript(f"BEGIN IMMEDIATE; {change} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _in_plain_words(self) -> Generator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise  # a broken rule of the schema is an answer for the caller, not a failure of the file
        except sqlite3.Error as error:
            raise _explained(error, self.file) from error
        except OSError as error:
            raise _unusable(self.file, error.strerror or str(error)) from error


def _explained(error: sqlite3.Error, file: Path) -> NewhopeError:
    name: str = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith("SQLITE_FULL"):
        return JournalFull(
            f"The file system of the job journal {file} is full.",
            untouched=KEPT_ELSEWHERE,
            next_step=f"free some space there (`df -h {file.parent}`), then try again.",
        )
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return JournalBusy(
            f"The job journal {file} has been kept busy for {BUSY_TIMEOUT_S:.0f} seconds by another process.",
            untouched=KEPT_ELSEWHERE,
            next_step=f"see who has it open with `fuser -v {file}`, then try again.",
        )
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return JournalUnusable(
            f"The job journal {file} is damaged ({error}).",
            untouched="Recovery points and VMs do not depend on it; only the history of jobs is kept in it.",
            next_step=f"put it aside with `mv {file} {file}.damaged`; a new one is made by itself.",
        )
    return _unusable(file, str(error))


def _unusable(file: Path, reason: str) -> JournalUnusable:
    return JournalUnusable(
        f"The job journal {file} cannot be used: {reason}.",
        untouched=KEPT_ELSEWHERE,
        next_step=f"make {file.parent} writable for you, or set another `state` folder in the settings.",
    )


def _make_private_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder / "journal.sqlite", error.strerror or str(error)) from error


@contextmanager
def _turn(file: Path) -> Generator[None]:
    handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
