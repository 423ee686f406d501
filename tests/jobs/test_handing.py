"""What is handed to a job reaches its process, and nobody else."""

import hashlib
import os
from pathlib import Path

import pytest

from engine.jobs import Journal
from tests.jobs.conftest import WaitingJob, outcome, spec, start

SECRET = b"sesame-" + os.urandom(16).hex().encode()


def test_a_job_gets_what_it_is_handed_and_then_has_no_input(journal: Journal) -> None:
    job = outcome(journal, start(journal, spec("tell what was handed"), handed=SECRET).id)

    assert job.result == f"{len(SECRET)} bytes, {hashlib.sha256(SECRET).hexdigest()}, then /dev/null"


def test_a_job_that_is_handed_nothing_has_no_input(journal: Journal) -> None:
    job = outcome(journal, start(journal, spec("tell what was handed")).id)

    assert job.result.startswith("0 bytes,")
    assert job.result.endswith("then /dev/null")


def test_what_is_handed_is_in_no_argument_no_environment_and_no_file(journal: Journal, waiting: WaitingJob) -> None:
    start(journal, waiting.spec, handed=SECRET)
    pid = waiting.wait_until_it_works()

    process = Path(f"/proc/{pid}")
    shown = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    kept = b"".join(file.read_bytes() for file in journal.state_dir.rglob("*") if file.is_file())

    assert b"PATH=" in shown
    assert len(kept) > 0
    assert SECRET not in shown + kept


def test_more_than_a_pipe_takes_is_refused_before_anything_starts(journal: Journal) -> None:
    with pytest.raises(ValueError, match="4096"):
        start(journal, spec("finish"), handed=bytes(4097))
