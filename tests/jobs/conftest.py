from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine.jobs import Job, Journal, follow, launch
from tests.waiting import wait_for

PRACTICE_JOB = Path(__file__).with_name("practice_job.py")


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def journal(state_dir: Path) -> Iterator[Journal]:
    with Journal(state_dir) as journal:
        yield journal


@dataclass
class WaitingJob:
    """A job that works until it is let go."""

    spec: bytes
    began: Path
    until: Path

    def wait_until_it_works(self) -> int:
        wait_for(lambda: self.began.exists() and self.began.read_text() != "")
        return int(self.began.read_text())

    def let_go(self) -> None:
        self.until.touch()


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[WaitingJob]:
    began, until = tmp_path / "began", tmp_path / "until"
    spec = json.dumps({"do": "wait", "began": str(began), "until": str(until)}).encode()
    yield WaitingJob(spec, began, until)
    until.touch()


def spec(do: str) -> bytes:
    return json.dumps({"do": do}).encode()


def start(journal: Journal, spec: bytes, *, lock: str | None = None, handed: bytes = b"") -> Job:
    prefix = [sys.executable, str(PRACTICE_JOB), str(journal.state_dir)]
    return launch(
        journal,
        "backup",
        "web",
        "alderaan",
        spec,
        lock=lock,
        argv_prefix=prefix,
        again="newhope backup web",
        untouched="Every earlier recovery point is as it was.",
        handed=handed,
    )


def outcome(journal: Journal, job_id: int) -> Job:
    return list(follow(journal, job_id, look_s=0.05))[-1]
