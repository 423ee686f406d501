"""From where a passphrase comes, as `newhope.toml` says it; the passphrase itself has no place there."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.settings import Problem, Repository, SettingsError, read_text, to_text

FILE = Path("/etc/newhope/newhope.toml")
SECRET = "open sesame"


def read(*lines: str) -> Repository:
    return read_text("\n".join(("[repositories.vault]", 'path = "/srv/newhope"', *lines)), FILE).repositories[0]


def problem_of(*lines: str) -> Problem:
    with pytest.raises(SettingsError) as caught:
        read(*lines)
    assert SECRET not in str(caught.value)
    (problem,) = caught.value.problems
    return problem


def test_a_file_is_named_by_its_path():
    vault = read('passphrase_file = "/etc/newhope/vault.passphrase"')

    assert vault.passphrase_file == Path("/etc/newhope/vault.passphrase")
    assert vault.names_passphrase_source


def test_a_command_is_a_list_of_words():
    vault = read('passphrase_command = ["pass", "show", "newhope vault"]')

    assert vault.passphrase_command == ("pass", "show", "newhope vault")
    assert vault.names_passphrase_source


def test_without_either_there_is_no_source():
    assert not read().names_passphrase_source


@pytest.mark.parametrize(
    "line", ['passphrase_file = "/etc/newhope/vault"', 'passphrase_command = ["secret-tool", "lookup", "for", "vault"]']
)
def test_what_is_written_is_read_back(line: str):
    settings = read_text(f'[repositories.vault]\npath = "/srv/newhope"\n{line}\n', FILE)

    assert read_text(to_text(settings), FILE) == settings


@pytest.mark.parametrize("key", ["passphrase", "password", "key", "secret", "master_key"])
def test_the_passphrase_itself_is_refused_with_its_line_and_not_repeated(key: str):
    problem = problem_of(f'{key} = "{SECRET}"')

    assert (problem.key, problem.line) == (f"repositories.vault.{key}", 3)
    assert "does not belong into this file" in problem.what
    assert "passphrase_file" in problem.fix


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f'passphrase_file = "{SECRET}"', "not an absolute path"),
        ('passphrase_file = ""', "empty"),
        ("passphrase_file = 7", "a number"),
        (f'passphrase_command = "{SECRET}"', "not a list of words"),
        ("passphrase_command = []", "empty"),
        (f'passphrase_command = ["echo", "{SECRET}"]', "the passphrase itself stands in this file"),
        (f'passphrase_command = ["/usr/bin/printf", "{SECRET}"]', "the passphrase itself stands in this file"),
        (f'passphrase_command = ["cat", 7, "{SECRET}"]', "a number"),
        (f'passphrase_command = ["cat", "{SECRET}\\u0000"]', "NUL"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_never_what_was_written(line: str, said: str):
    problem = problem_of(line)

    assert problem.line == 3
    assert said in problem.what
    assert problem.fix


def test_file_and_command_together_are_a_mistake():
    problem = problem_of('passphrase_file = "/etc/x"', 'passphrase_command = ["pass", "show", "x"]')

    assert problem.key == "repositories.vault.passphrase_command"
    assert "only one" in problem.what


def test_a_misspelt_key_is_answered_with_the_right_one():
    assert "passphrase_file" in problem_of('passphrase_fiel = "/etc/x"').fix
