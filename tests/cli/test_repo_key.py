"""The keys of a repository, from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import ExitCode
from engine.repository import Passphrase, Repository, RepositoryLocked
from tests.cli.conftest import Place, Run
from tests.tui.terminals import terminal

SECRET = "open sesame"
OTHER = "open barley"


@pytest.fixture
def vault(place: Place) -> Place:
    """An encrypted repository with one key, whose passphrase lies where the settings say."""
    place.keep_passphrase(SECRET)
    Repository.create(place.vault, name="vault", passphrase=Passphrase(SECRET.encode())).close()
    return place


def secret_file(place: Place, content: str, name: str = "other") -> Path:
    file = place.folder / name
    file.touch(mode=0o600)
    file.write_text(content)
    return file


def opens(place: Place, passphrase: str) -> bool:
    try:
        Repository.open(place.vault, unlock=lambda _id, _name: Passphrase(passphrase.encode())).close()
    except RepositoryLocked:
        return False
    return True


def names(newhope: Run) -> list[str]:
    return [key["name"] for key in newhope("repo", "key", "list", "--json").document["keys"]]


def test_keys_are_listed_by_name_and_never_with_what_opens(newhope: Run, vault: Place):
    answer = newhope("repo", "key", "list", "vault")

    assert answer.code == ExitCode.OK
    assert "first" in answer.out
    assert SECRET not in answer.out
    (key,) = newhope("repo", "key", "list", "--json").document["keys"]
    assert set(key) == {"id", "name", "created"}


def test_a_second_key_opens_it_too(newhope: Run, vault: Place):
    file = secret_file(vault, OTHER)

    answer = newhope("repo", "key", "add", "vault", "--key", "anna", "--new-passphrase-file", file)

    assert answer.code == ExitCode.OK
    assert OTHER not in answer.out
    assert opens(vault, OTHER)
    assert opens(vault, SECRET)
    assert names(newhope) == ["first", "anna"]


def test_a_removed_key_opens_nothing_any_more(newhope: Run, vault: Place):
    newhope("repo", "key", "add", "--key", "anna", "--new-passphrase-file", secret_file(vault, OTHER))

    answer = newhope("repo", "key", "remove", "--key", "anna", "--yes")

    assert answer.code == ExitCode.OK
    assert "Left: first" in answer.out
    assert not opens(vault, OTHER)
    assert names(newhope) == ["first"]


def test_removing_the_key_that_jobs_use_is_said(newhope: Run, vault: Place):
    newhope("repo", "key", "add", "--key", "anna", "--new-passphrase-file", secret_file(vault, OTHER))

    answer = newhope("repo", "key", "remove", "--key", "first", "--yes")

    assert answer.code == ExitCode.OK
    assert f"! The passphrase from the file {vault.passphrase_file} opens nothing now" in answer.out


def test_the_last_key_is_never_removed(newhope: Run, vault: Place):
    answer = newhope("repo", "key", "remove", "--key", "first", "--yes")

    assert answer.code == ExitCode.CONFLICT
    assert opens(vault, SECRET)


def test_removing_wants_to_be_confirmed(newhope: Run, vault: Place):
    newhope("repo", "key", "add", "--key", "anna", "--new-passphrase-file", secret_file(vault, OTHER))

    answer = newhope("repo", "key", "remove", "--key", "anna")

    assert answer.code == ExitCode.USAGE
    assert "--yes" in answer.err
    assert names(newhope) == ["first", "anna"]


def test_a_key_that_is_not_there_cannot_be_removed(newhope: Run, vault: Place):
    assert newhope("repo", "key", "remove", "--key", "bert", "--yes").code == ExitCode.NOT_FOUND


def test_two_keys_of_one_name_would_be_confused(newhope: Run, vault: Place):
    file = secret_file(vault, OTHER)

    answer = newhope("repo", "key", "add", "--key", "first", "--new-passphrase-file", file)

    assert answer.code == ExitCode.CONFLICT


def test_without_a_terminal_a_new_passphrase_comes_from_a_file(newhope: Run, vault: Place):
    answer = newhope("repo", "key", "add", "--key", "anna")

    assert answer.code == ExitCode.USAGE
    assert "--new-passphrase-file" in answer.err


def test_the_recovery_sheet_is_printed(newhope: Run, vault: Place):
    answer = newhope("repo", "key", "export", "vault")

    assert answer.code == ExitCode.OK
    assert "recovery sheet" in answer.out
    assert newhope("repo", "key", "export", "--json").document["sheet"]["text"].strip() == answer.out.strip()


def test_the_recovery_sheet_goes_into_a_file_of_its_own_that_nobody_else_may_read(newhope: Run, vault: Place):
    file = vault.folder / "sheet.txt"

    answer = newhope("repo", "key", "export", "--to", file)
    again = newhope("repo", "key", "export", "--to", file)

    assert answer.code == ExitCode.OK
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.read_text().strip() == newhope("repo", "key", "export").out.strip()
    assert all(line not in answer.out for line in file.read_text().splitlines() if line.startswith("    "))
    assert again.code == ExitCode.CONFLICT


def test_the_sheet_lets_a_new_passphrase_in_when_all_are_lost(newhope: Run, vault: Place):
    sheet = vault.folder / "sheet.txt"
    newhope("repo", "key", "export", "--to", sheet)
    vault.passphrase_file.unlink()
    assert newhope("repo", "info").code == ExitCode.REPOSITORY

    file = secret_file(vault, OTHER)
    answer = newhope("repo", "key", "add", "--key", "new", "--from-sheet", sheet, "--new-passphrase-file", file)

    assert answer.code == ExitCode.OK
    assert opens(vault, OTHER)


def test_the_sheet_alone_is_enough_where_no_settings_are_left(newhope: Run, vault: Place):
    sheet = vault.folder / "sheet.txt"
    newhope("repo", "key", "export", "--to", sheet)
    vault.settings_file.unlink()
    file = secret_file(vault, OTHER)

    words = ("--key", "new", "--from-sheet", sheet, "--new-passphrase-file", file)
    answer = newhope("repo", "key", "add", vault.vault, *words)

    assert answer.code == ExitCode.OK
    assert opens(vault, OTHER)


def test_a_sheet_that_was_not_copied_right_is_told_and_not_repeated(newhope: Run, vault: Place):
    sheet = vault.folder / "sheet.txt"
    newhope("repo", "key", "export", "--to", sheet)
    line = next(line for line in sheet.read_text().splitlines() if line.strip().startswith("3:"))
    wrong = line[:-1] + ("7" if line[-1] != "7" else "8")
    sheet.write_text(sheet.read_text().replace(line, wrong))

    answer = newhope("repo", "key", "add", "--key", "new", "--from-sheet", sheet)

    assert answer.code == ExitCode.REPOSITORY
    assert "line 3" in answer.err
    assert wrong.split(":")[1].strip() not in answer.err


def test_a_sheet_that_is_not_there(newhope: Run, vault: Place):
    answer = newhope("repo", "key", "add", "--key", "new", "--from-sheet", vault.folder / "nowhere")

    assert answer.code == ExitCode.USAGE
    assert "nowhere" in answer.err


def test_a_repository_without_encryption_has_no_keys(newhope: Run, place: Place):
    newhope("repo", "init", "--no-encryption")

    for words in (("list",), ("export",), ("remove", "--key", "first", "--yes")):
        answer = newhope("repo", "key", *words)

        assert answer.code == ExitCode.CONFLICT
        assert "not encrypted" in answer.err


def test_at_a_terminal_the_old_and_the_new_passphrase_are_asked_for(place: Place):
    Repository.create(place.vault, name="vault", passphrase=Passphrase(SECRET.encode())).close()

    with terminal(["--config", str(place.settings_file), "repo", "key", "add", "--key", "anna"]) as seen:
        seen.read_until(lambda: seen.shows("Passphrase of the repository vault:"))
        seen.type(f"{SECRET}\n")
        seen.read_until(lambda: seen.shows("New passphrase"))
        seen.type(f"{OTHER}\n")
        seen.read_until(lambda: seen.shows("Once more:"))
        seen.type(f"{OTHER}\n")
        seen.wait_for_end()

    assert seen.exit_status == 0
    assert opens(place, OTHER)
    assert SECRET.encode() not in seen.received
    assert OTHER.encode() not in seen.received
