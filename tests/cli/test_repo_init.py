"""Creating a repository: encrypted, unless somebody asks for the opposite in as many words."""

from __future__ import annotations

import pytest

from engine.errors import ExitCode
from engine.repository import Passphrase, Repository, RepositoryLocked
from tests.cli.conftest import Place, Run
from tests.tui.terminals import terminal

SECRET = "open sesame"


def opens(place: Place, passphrase: str) -> bool:
    try:
        Repository.open(place.vault, unlock=lambda _id, _name: Passphrase(passphrase.encode())).close()
    except RepositoryLocked:
        return False
    return True


def test_without_a_source_and_without_a_terminal_nothing_is_made_and_the_ways_are_named(newhope: Run, place: Place):
    answer = newhope("repo", "init")

    assert answer.code == ExitCode.USAGE
    for way in ("passphrase_file", "passphrase_command", "NEWHOPE_PASSPHRASE_FILE", "--no-encryption"):
        assert way in answer.err
    assert not place.vault.exists()


def test_the_passphrase_that_is_kept_for_it_is_used(newhope: Run, place: Place):
    place.keep_passphrase(SECRET)

    answer = newhope("repo", "init")

    assert answer.code == ExitCode.OK
    assert str(place.passphrase_file) in answer.out
    assert "newhope" in answer.out
    assert "repo key export vault" in answer.out
    assert SECRET not in answer.out + answer.err
    assert opens(place, SECRET)
    assert not opens(place, "")


def test_the_passphrase_file_of_the_environment_is_used(newhope: Run, place: Place, monkeypatch: pytest.MonkeyPatch):
    place.passphrase_file.touch(mode=0o600)
    place.passphrase_file.write_text(SECRET)
    monkeypatch.setenv("NEWHOPE_PASSPHRASE_FILE", str(place.passphrase_file))

    assert newhope("repo", "init").code == ExitCode.OK
    assert opens(place, SECRET)


def test_it_says_so_as_a_document(newhope: Run, place: Place):
    place.keep_passphrase(SECRET)

    assert newhope("repo", "init", "--json").document["repository"]["encrypted"] is True


def test_a_passphrase_that_anybody_guesses_is_refused(newhope: Run, place: Place):
    place.keep_passphrase("sesame")

    answer = newhope("repo", "init")

    assert answer.code == ExitCode.USAGE
    assert "sesame" not in answer.err
    assert not place.vault.exists()


def test_a_passphrase_file_that_is_missing_or_open_to_others_makes_nothing(newhope: Run, place: Place):
    place.keep_passphrase(SECRET)
    place.passphrase_file.chmod(0o644)
    open_to_others = newhope("repo", "init")
    place.passphrase_file.unlink()
    missing = newhope("repo", "init")

    assert [open_to_others.code, missing.code] == [ExitCode.REPOSITORY, ExitCode.REPOSITORY]
    assert "chmod 600" in open_to_others.err
    assert "does not exist" in missing.err
    assert not place.vault.exists()


def test_without_encryption_it_says_what_that_means(newhope: Run, place: Place):
    answer = newhope("repo", "init", "--no-encryption")

    assert answer.code == ExitCode.OK
    assert "whoever can read its files can read every disk" in answer.out
    assert "secrecy" in newhope("repo", "info").out
    assert not Repository.open(place.vault).encrypted


def test_without_encryption_although_a_passphrase_is_kept_is_a_contradiction(newhope: Run, place: Place):
    place.keep_passphrase(SECRET)

    answer = newhope("repo", "init", "--no-encryption")

    assert answer.code == ExitCode.USAGE
    assert not place.vault.exists()


def test_at_a_terminal_it_is_asked_for_twice_and_not_shown(place: Place):
    with terminal(["--config", str(place.settings_file), "repo", "init"]) as seen:
        seen.read_until(lambda: seen.shows("New passphrase of the repository vault:"))
        seen.type("short\n")
        seen.read_until(lambda: seen.shows("too short"))
        seen.type(f"{SECRET}\n")
        seen.read_until(lambda: seen.shows("Once more:"))
        seen.type("open barley\n")
        seen.read_until(lambda: seen.shows("two different ones"))
        seen.type(f"{SECRET}\n")
        seen.read_until(lambda: sum("Once more:" in line for line in seen.text) == 2)
        seen.type(f"{SECRET}\n")
        seen.wait_for_end()

    assert seen.exit_status == 0
    assert SECRET.encode() not in seen.received
    assert opens(place, SECRET)


def test_enter_alone_makes_nothing(place: Place):
    with terminal(["--config", str(place.settings_file), "repo", "init"]) as seen:
        seen.read_until(lambda: seen.shows("New passphrase"))
        seen.type("\n")
        seen.wait_for_end()

    assert seen.exit_status == ExitCode.USAGE
    assert not place.vault.exists()


def test_help_tells_the_sources_in_their_order(newhope: Run):
    said = " ".join(newhope("repo", "init", "--help").out.split())

    ways = ["passphrase_file", "passphrase_command", "systemd credential", "$NEWHOPE_PASSPHRASE_FILE", "the terminal"]
    listed = said.partition("in this order:")[2]
    places = [listed.index(way) for way in ways]
    assert places == sorted(places)
