"""`newhope repo repair` where the identity file is damaged or gone: shown, asked, put back, and the original kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.cli import confirmation
from engine.errors import ExitCode
from engine.repository import Point, Repository
from tests.cli.conftest import Place, Run
from tests.cli.test_unlocking import SECRET, answer, sealed
from tests.tui.terminals import terminal

__all__ = ["sealed"]


def identity(place: Place) -> Path:
    return place.vault / "newhope-repository"


def test_every_command_says_what_is_wrong_and_names_the_repair(newhope: Run, place: Place, points: tuple[Point, ...]):
    identity(place).unlink()

    said = newhope("repo", "info")

    assert said.code == ExitCode.REPOSITORY
    assert "newhope-repository is missing" in said.err
    assert f"newhope repo repair {place.vault}" in said.err


def test_a_dry_run_shows_where_each_thing_comes_from_and_changes_nothing(
    newhope: Run, place: Place, points: tuple[Point, ...]
):
    identity(place).write_bytes(b"garbage")

    said = newhope("repo", "repair", place.vault, "--dry-run")

    assert said.code == ExitCode.REPOSITORY
    assert "not JSON" in said.out
    assert "no other size makes the maps" in said.out
    assert identity(place).read_bytes() == b"garbage"


def test_it_is_put_back_from_a_copy_of_the_file(newhope: Run, place: Place, points: tuple[Point, ...]):
    whole = identity(place).read_bytes()
    copy = place.folder / "identity.copy"
    copy.write_bytes(whole)
    identity(place).write_bytes(b"")

    said = newhope("repo", "repair", "vault", "--from", copy, "--yes")

    assert said.code == ExitCode.OK, said.out + said.err
    assert identity(place).read_bytes() == whole
    assert len(list(place.vault.glob("quarantine/newhope-repository.*"))) == 1
    assert newhope("repo", "verify", "--full").code == ExitCode.OK


@pytest.mark.parametrize(("said", "code"), [(True, ExitCode.OK), (False, ExitCode.CANCELLED)])
def test_it_asks_first(
    newhope: Run,
    place: Place,
    points: tuple[Point, ...],
    monkeypatch: pytest.MonkeyPatch,
    said: bool,
    code: ExitCode,
):
    identity(place).unlink()
    monkeypatch.setattr(confirmation, "confirm", lambda *_: said)

    assert newhope("repo", "repair").code == code
    assert identity(place).exists() is said


def test_in_json_nothing_is_done_unasked(newhope: Run, place: Place, points: tuple[Point, ...]):
    identity(place).unlink()

    shown = newhope("repo", "repair", "--json")
    assert (shown.code, identity(place).exists()) == (ExitCode.REPOSITORY, False)
    done = newhope("repo", "repair", "--json", "--yes").document["repair"]["identity"]

    assert (done["done"], done["content"]["encryption"]) == (True, "none")
    assert len(Repository.open(place.vault).points()) == len(points)


def test_an_encrypted_one_is_made_anew_with_its_passphrase_and_proven(newhope: Run, place: Place, sealed: Point):
    identity(place).unlink()
    assert "encrypted" in newhope("repo", "repair", "--yes").err

    with terminal(["--config", str(place.settings_file), "repo", "repair", "--yes"], columns=100) as seen:
        answer(seen, SECRET)
        seen.wait_for_end()
    assert seen.exit_status == 0
    assert SECRET.encode() not in seen.received

    place.keep_passphrase(SECRET)
    assert newhope("repo", "verify", "--full").code == ExitCode.OK
    assert "web" in newhope("points").out


def test_a_repository_that_must_be_encrypted_is_not_made_a_plain_one(
    newhope: Run, place: Place, points: tuple[Point, ...]
):
    place.keep_passphrase(SECRET)
    identity(place).unlink()

    said = newhope("repo", "repair", "--yes")

    assert said.code == ExitCode.REPOSITORY
    assert "A passphrase is kept for this repository" in said.err
    assert not identity(place).exists()


def test_an_encrypted_repository_is_repaired_by_a_job_that_is_handed_the_key(newhope: Run, place: Place, sealed: Point):
    """Once with a file that has the passphrase, once with what is typed at the terminal."""
    index = next(place.vault.glob("index/*"))
    index.write_bytes(index.read_bytes()[:-9])
    place.keep_passphrase(SECRET)
    answered = newhope("repo", "repair", "--yes")
    assert answered.code == ExitCode.OK, answered.out + answered.err
    place.passphrase_file.unlink()

    (new,) = place.vault.glob("index/*")
    new.write_bytes(new.read_bytes()[:-9])
    place.write()
    with terminal(["--config", str(place.settings_file), "repo", "repair", "--yes"], columns=100) as seen:
        answer(seen, SECRET)
        seen.wait_for_end()
    assert seen.exit_status == 0
    assert seen.shows("WHOLE")
    assert SECRET.encode() not in seen.received
