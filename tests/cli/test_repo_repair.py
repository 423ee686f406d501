"""`newhope repo repair`: it shows what it will do and keep, asks, does exactly that, and names what stays lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from engine.cli import confirmation
from engine.errors import ExitCode
from engine.jobs import Journal
from engine.repository import Point, Repository
from tests.cli.conftest import Place, Run
from tests.cli.test_repo_verify import pack_of


@pytest.fixture
def copy(place: Place, points: tuple[Point, ...]) -> Path:
    """A copy of the vault as it was when it was whole."""
    folder = place.folder / "copy"
    shutil.copytree(place.vault, folder)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "verify" not in path.parts
    }


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-9])
    return path


def test_a_sound_repository_needs_nothing(newhope: Run, place: Place, points: tuple[Point, ...]):
    before = files(place.vault)

    answer = newhope("repo", "repair", "--full")

    assert answer.code == ExitCode.OK
    assert "Nothing is damaged in vault" in answer.out
    assert files(place.vault) == before


def test_a_dry_run_shows_every_step_and_what_stays_lost_and_changes_nothing(
    newhope: Run, place: Place, points: tuple[Point, ...]
):
    index = cut(next(place.vault.glob("index/*")))
    pack_of(place).unlink()
    before = files(place.vault)

    answer = newhope("repo", "repair", "vault", "--dry-run")

    assert answer.code == ExitCode.REPOSITORY
    assert f"set aside  index/{index.name}" in answer.out
    assert "original: it is kept in quarantine/" in answer.out
    assert "vda: 1.0 MiB of 1.0 MiB in 1 range: 0+1048576" in answer.out
    assert "--salvage" in answer.out
    assert files(place.vault) == before


def test_it_heals_from_a_copy_and_a_second_run_finds_nothing(newhope: Run, place: Place, copy: Path):
    whole = {point.id for point in Repository.open(place.vault).points()}
    manifest = cut(next(place.vault.glob("points/*/*")))
    pack_of(place).unlink()

    answer = newhope("repo", "repair", "--from", copy, "--yes")

    assert answer.code == ExitCode.OK, answer.out + answer.err
    assert "WHOLE  vault" in answer.out
    assert {point.id for point in Repository.open(place.vault).points()} == whole
    assert manifest.read_bytes() == next(copy.glob(f"points/*/{manifest.name}")).read_bytes()
    assert newhope("repo", "verify", "--full").code == ExitCode.OK
    assert "Nothing is damaged" in newhope("repo", "repair", "--from", copy).out


def test_what_stays_lost_is_named_and_gives_exit_status_6(newhope: Run, place: Place, points: tuple[Point, ...]):
    victim = pack_of(place)
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])

    answer = newhope("repo", "repair", "--yes", "--json")

    assert answer.code == ExitCode.REPOSITORY
    report = answer.document["repair"]["report"]
    assert report["whole"] is False
    assert [done["step"]["remedy"] for done in report["done"]] == ["quarantine"]
    assert report["losses"] == answer.document["repair"]["plan"]["losses"]
    assert victim.exists()
    assert newhope("repo", "repair", "--json").document["repair"]["plan"]["steps"] == []


def test_what_cannot_be_read_is_set_aside_on_request_only(newhope: Run, place: Place, points: tuple[Point, ...]):
    manifest = cut(next(place.vault.glob("points/*/*")))

    asked = newhope("repo", "repair", "--yes")
    assert asked.code == ExitCode.REPOSITORY
    assert f"left as it is  points/{manifest.parent.name}/{manifest.name}" in asked.out
    assert manifest.exists()

    assert newhope("repo", "repair", "--set-aside", "--yes").code == ExitCode.OK
    assert not manifest.exists()
    assert len(list(place.vault.glob("quarantine/points/*/*"))) == 1


@pytest.mark.parametrize(("said", "code"), [(True, ExitCode.OK), (False, ExitCode.CANCELLED)])
def test_it_asks_first(
    newhope: Run,
    place: Place,
    points: tuple[Point, ...],
    monkeypatch: pytest.MonkeyPatch,
    said: bool,
    code: ExitCode,
):
    index = cut(next(place.vault.glob("index/*")))
    monkeypatch.setattr(confirmation, "confirm", lambda *_: said)

    assert newhope("repo", "repair").code == code
    assert index.exists() is not said


def test_without_a_terminal_it_repairs_nothing_unasked(newhope_process: Run, place: Place, points: tuple[Point, ...]):
    index = cut(next(place.vault.glob("index/*")))

    answer = newhope_process("repo", "repair")

    assert answer.code == ExitCode.USAGE
    assert index.exists()


def test_it_runs_as_a_job_that_tells_what_it_did(
    newhope: Run, place: Place, points: tuple[Point, ...], journal: Journal
):
    index = cut(next(place.vault.glob("index/*")))

    newhope("repo", "repair", "--yes")

    (job,) = journal.jobs()
    assert (job.kind, job.subject) == ("repair", "vault")
    assert any(f"index/{index.name}: moved to quarantine/" in line.text for line in journal.log(job.id))


def test_it_does_not_run_beside_a_prune(newhope: Run, place: Place, points: tuple[Point, ...]):
    cut(next(place.vault.glob("index/*")))

    with Repository.open(place.vault).collector("newhope repo prune, ana"):
        answer = newhope("repo", "repair", "--yes")

    assert answer.code == ExitCode.CONFLICT
    assert "newhope repo prune, ana" in answer.err


def test_a_repository_in_no_settings_file_is_repaired_too(newhope: Run, place: Place, copy: Path):
    pack_of(place).unlink()
    place.settings_file.unlink()

    assert newhope("repo", "repair", place.vault, "--from", copy, "--yes").code == ExitCode.OK
    assert newhope("repo", "verify", place.vault).code == ExitCode.OK


def test_it_does_not_heal_a_repository_from_itself(newhope: Run, place: Place, points: tuple[Point, ...]):
    assert newhope("repo", "repair", "vault", "--from", place.vault).code == ExitCode.USAGE
