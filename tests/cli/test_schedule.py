"""`newhope schedule`: what it shows, and what it says where there is no systemd."""

from __future__ import annotations

import pytest

from engine.schedule import installing
from tests.cli.conftest import Place, Run


def test_a_dry_run_shows_every_file_and_the_same_for_cron(newhope: Run, place: Place) -> None:
    answer = newhope("schedule", "install", "--verify", "--dry-run", "--every", "1h")

    assert answer.code == 0
    assert [line.split()[1] for line in answer.out.splitlines() if line.startswith("--- newhope-")] == [
        f"newhope-{kind}.{what}" for kind in ("backup", "verify") for what in ("service", "timer")
    ]
    assert f"--config {place.settings_file} backup --due --yes --detach" in answer.out
    assert answer.out.splitlines()[-2].startswith("0 * * * * ")
    units = newhope("--json", "schedule", "install", "--dry-run").document["units"]
    assert [unit["name"] for unit in units] == ["newhope-backup.service", "newhope-backup.timer"]


def test_without_systemd_cron_is_offered(newhope: Run, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installing, "RUNNING", place.folder / "not-there")

    for verb in ("install", "status", "remove"):
        answer = newhope("schedule", verb)
        assert answer.code == 12
        assert "crontab" in answer.err


@pytest.mark.parametrize("wrong", [("--every", "7m"), ("--every", "soon"), ("--credential", "attic=/x")])
def test_what_cannot_be_had_is_refused(newhope: Run, wrong: tuple[str, str]) -> None:
    answer = newhope("schedule", "install", "--dry-run", *wrong)

    assert answer.code == 2
    assert answer.labels == ["what", "untouched", "next"]
