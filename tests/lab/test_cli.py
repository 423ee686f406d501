"""`newhope lab` from the shell's side."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import ExitCode


@pytest.fixture
def folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="nh-", dir="/tmp"))
    yield folder
    newhope_lab("down", "--dir", str(folder))
    shutil.rmtree(folder, ignore_errors=True)


def newhope_lab(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "engine.cli", "lab", *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.lab
@pytest.mark.slow
def test_a_lab_is_made_shown_broken_healed_and_removed(folder: Path) -> None:
    where = ("--dir", str(folder))

    up = newhope_lab("up", *where)
    assert up.returncode == ExitCode.OK, up.stderr
    assert "web is up after" in up.stdout
    assert f"newhope --config {folder}/newhope.toml" in up.stdout

    table = newhope_lab("status", *where).stdout
    assert all(name in table for name in ("alderaan", "coruscant", "yavin", "web", "db", "vault", "legacy", "build"))

    broken = newhope_lab("break", "yavin", *where)
    assert broken.returncode == ExitCode.OK
    assert f"newhope lab heal yavin --dir {folder}" in broken.stdout
    told = json.loads(newhope_lab("status", "--json", *where).stdout)["lab"]
    assert {host["name"]: host["state"] for host in told["hosts"]} == {
        "alderaan": "running",
        "coruscant": "running",
        "yavin": "down",
    }

    assert newhope_lab("heal", "yavin", *where).returncode == ExitCode.OK
    assert newhope_lab("break", "hoth", *where).returncode == ExitCode.NOT_FOUND

    assert newhope_lab("down", *where).returncode == ExitCode.OK
    assert not folder.exists()
    assert newhope_lab("status", *where).returncode == ExitCode.NOT_FOUND


def test_a_folder_that_holds_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")

    for verb in ("up", "reset", "down", "status"):
        assert newhope_lab(verb, "--dir", str(tmp_path)).returncode != ExitCode.OK

    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the lab as somebody else")
def test_a_folder_that_the_labs_user_cannot_reach_is_refused_before_anything_is_made() -> None:
    with tempfile.TemporaryDirectory(dir="/root") as closed:
        refused = newhope_lab("up", "--dir", f"{closed}/lab")

        assert refused.returncode == ExitCode.FAILED
        assert "cannot enter /root" in refused.stdout + refused.stderr
        assert list(Path(closed).iterdir()) == []
