"""The journal's file: private, pruned, and clear about what is wrong with it."""

import os
import pwd
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import ExitCode, NotFound
from engine.jobs import JobState, Journal, JournalFull, JournalUnusable, run
from engine.jobs.journal import KEPT_JOBS


def test_the_state_folder_and_the_journal_are_for_their_owner_only(journal: Journal, state_dir: Path) -> None:
    assert state_dir.stat().st_mode & 0o777 == 0o700
    assert all(file.stat().st_mode & 0o077 == 0 for file in state_dir.iterdir())


def test_an_unknown_job_is_not_found_and_the_newest_is_named(journal: Journal) -> None:
    _insert(journal)

    with pytest.raises(NotFound, match="There is no job 7; the newest is 1"):
        journal.job(7)


def test_old_jobs_and_their_output_are_forgotten_and_their_numbers_never_used_again(journal: Journal) -> None:
    first = _insert(journal)
    journal.output_file(first).parent.mkdir()
    journal.output_file(first).touch()
    run(journal, first, lambda job, context: "done")
    with sqlite3.connect(journal.state_dir / "journal.sqlite") as connection:
        connection.execute("UPDATE sqlite_sequence SET seq = seq + ?", (KEPT_JOBS,))

    newest = _insert(journal)

    assert [job.id for job in journal.jobs(limit=5000)] == [newest] == [first + KEPT_JOBS + 1]
    assert not journal.output_file(first).exists()
    assert journal.log(first) == ()


def test_a_live_job_is_never_forgotten(journal: Journal) -> None:
    first = _insert(journal)
    with sqlite3.connect(journal.state_dir / "journal.sqlite") as connection:
        connection.execute("UPDATE sqlite_sequence SET seq = seq + ?", (KEPT_JOBS,))

    _insert(journal)

    assert journal.job(first).state is JobState.QUEUED


def test_a_file_that_is_no_journal_is_called_damaged_with_the_way_to_put_it_aside(state_dir: Path) -> None:
    state_dir.mkdir()
    (state_dir / "journal.sqlite").write_bytes(b"not a journal at all" * 300)

    with pytest.raises(JournalUnusable) as refused:
        Journal(state_dir)

    assert "is damaged" in refused.value.what
    assert f"mv {state_dir}/journal.sqlite" in refused.value.next_step


def test_a_journal_with_broken_pages_is_called_damaged(state_dir: Path) -> None:
    with Journal(state_dir) as journal:
        for _ in range(50):
            _insert(journal, spec=os.urandom(4000))
    content = (state_dir / "journal.sqlite").read_bytes()
    (state_dir / "journal.sqlite").write_bytes(content[:4096] + b"\x55" * (len(content) - 4096))

    with pytest.raises(JournalUnusable, match="is damaged"), Journal(state_dir) as journal:
        journal.jobs(limit=1000)


def test_a_journal_of_a_newer_newhope_is_left_alone(state_dir: Path) -> None:
    Journal(state_dir).close()
    with sqlite3.connect(state_dir / "journal.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")

    with pytest.raises(JournalUnusable, match="newer newhope"):
        Journal(state_dir)


def test_a_state_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(JournalUnusable) as refused:
        Journal(tmp_path / "file" / "state")

    assert "cannot be used" in refused.value.what
    assert refused.value.exit_code is ExitCode.FAILED


@pytest.mark.skipif(os.getuid() != 0, reason="needs a second user to be somebody who may not write")
def test_a_read_only_state_folder_is_one_clear_error(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody").pw_uid
    state_dir = tmp_path / "state"
    Journal(state_dir).close()
    program = """
import os, sys
from pathlib import Path
from engine.errors import NewhopeError
from engine.jobs import Journal
os.setuid(int(sys.argv[2]))
try:
    Journal(Path(sys.argv[1]))
except NewhopeError as error:
    print(error.what)
"""
    for folder in (state_dir, *list(state_dir.parents)[:3]):
        folder.chmod(0o755)

    answer = subprocess.run(
        [sys.executable, "-c", program, str(state_dir), str(nobody)], capture_output=True, text=True, check=False
    )

    assert "cannot be used: Permission denied" in answer.stdout, answer.stderr


def test_a_full_disk_is_said_and_reading_still_works(small_disk: Path) -> None:
    with Journal(small_disk / "state") as journal:
        job_id = _insert(journal)
        with pytest.raises(JournalFull) as refused:
            for _ in range(1000):
                _insert(journal, spec=os.urandom(100_000))

        assert refused.value.exit_code is ExitCode.NO_SPACE
        assert "df -h" in refused.value.next_step
        assert journal.job(job_id).state is JobState.QUEUED


def test_work_goes_on_when_the_journals_disk_is_full(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("engine.jobs.running.LAST_WORD_TRIES", 1)
    with Journal(small_disk / "state") as journal:
        job_id = _insert(journal)
        worked = []

        def work(job: object, context: object) -> str:
            with context.step("write"):
                with pytest.raises(OSError, match="No space"), (small_disk / "filler").open("wb", 0) as filler:
                    while True:
                        filler.write(b"\0" * 4096)
                for _ in range(100):
                    context.log("x" * 100_000)
                worked.append(True)
            return "done"

        run(journal, job_id, work)

    assert worked == [True]
    assert "did not take a note" in capfd.readouterr().err


@pytest.fixture
def small_disk(tmp_path: Path):
    folder = tmp_path / "small"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mount.returncode != 0:
        pytest.skip(f"no small file system can be mounted here: {mount.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def _insert(journal: Journal, spec: bytes = b"") -> int:
    return journal.insert(kind="backup", subject="web", host="h", spec=spec, lock=None, again="", untouched="")


def test_a_journal_opened_twice_in_one_process_survives_another_process_that_closes_it(journal: Journal) -> None:
    program = (
        "import sys; from pathlib import Path; from engine.jobs import Journal; Journal(Path(sys.argv[1])).close()"
    )
    first = _insert(journal)

    Journal(journal.state_dir).close()
    subprocess.run([sys.executable, "-c", program, str(journal.state_dir)], check=True)
    second = _insert(journal)

    with Journal(journal.state_dir) as other:
        assert [job.id for job in other.jobs()] == [second, first]
