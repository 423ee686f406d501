"""Where a passphrase comes from, in which order, and that nothing of it is ever said."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from engine.fleet import passphrase_sources
from engine.fleet.passphrase_sources import PassphraseUnavailable, given, has_source, is_bound_to_be_encrypted
from engine.settings import Repository

SECRET = "open sesame"


@pytest.fixture(autouse=True)
def _no_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.delenv("NEWHOPE_PASSPHRASE_FILE", raising=False)


def vault(file: Path | None = None, command: tuple[str, ...] = ()) -> Repository:
    return Repository("vault", Path("/srv/newhope"), passphrase_file=file, passphrase_command=command)


def kept_in(file: Path, content: str = SECRET + "\n", mode: int = 0o600) -> Path:
    file.write_text(content)
    file.chmod(mode)
    return file


def python(program: str) -> tuple[str, ...]:
    return (sys.executable, "-c", program)


def passphrase_of(kept: Repository) -> bytes:
    found = given(kept)
    assert found is not None
    return found.passphrase.value


def refusal_of(kept: Repository) -> PassphraseUnavailable:
    with pytest.raises(PassphraseUnavailable) as caught:
        given(kept)
    assert SECRET not in f"{caught.value} {caught.value.__cause__}"
    assert caught.value.next_step
    return caught.value


def test_without_any_source_there_is_none():
    assert given(vault()) is None
    assert not has_source(vault())


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_the_end_of_the_line_does_not_belong_to_a_passphrase_and_spaces_do(tmp_path: Path, end: str):
    kept = vault(kept_in(tmp_path / "passphrase", f" {SECRET} {end}"))

    assert passphrase_of(kept) == f" {SECRET} ".encode()


def test_a_command_prints_it():
    assert passphrase_of(vault(command=python(f"print({SECRET!r})"))) == SECRET.encode()


def test_the_sources_count_in_the_order_in_which_they_are_documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = kept_in(tmp_path / "file", "from the file")
    command = python("print('from the command')")
    monkeypatch.setenv("NEWHOPE_PASSPHRASE_FILE", str(kept_in(tmp_path / "environment", "from the environment")))

    assert passphrase_of(vault()) == b"from the environment"
    assert not is_bound_to_be_encrypted(vault())

    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    (tmp_path / "credentials").mkdir()
    assert passphrase_of(vault()) == b"from the environment"

    kept_in(tmp_path / "credentials" / "vault", "from the credential")
    assert passphrase_of(vault()) == b"from the credential"
    assert is_bound_to_be_encrypted(vault())

    assert passphrase_of(vault(command=command)) == b"from the command"
    assert passphrase_of(vault(file=file)) == b"from the file"


def test_a_credential_may_show_a_mode_for_others_because_systemd_guards_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    kept_in(tmp_path / "vault", mode=0o440)

    assert passphrase_of(vault()) == SECRET.encode()


@pytest.mark.parametrize("name", ["..", ".", "a/b", ""])
def test_a_name_that_is_none_for_a_file_has_no_credential(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))

    assert given(Repository(name, Path("/srv/newhope"))) is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o666])
def test_a_file_that_is_open_to_others_is_refused(tmp_path: Path, mode: int):
    refused = refusal_of(vault(kept_in(tmp_path / "passphrase", mode=mode)))

    assert f"mode {mode:04o}" in refused.what
    assert f"chmod 600 {tmp_path / 'passphrase'}" in refused.next_step


def test_a_pipe_has_no_mode_that_matters():
    reading, writing = os.pipe()
    os.write(writing, SECRET.encode())
    os.close(writing)

    assert passphrase_of(vault(Path(f"/dev/fd/{reading}"))) == SECRET.encode()
    os.close(reading)


def test_a_file_that_is_not_there_is_an_error_and_not_a_reason_to_look_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("NEWHOPE_PASSPHRASE_FILE", str(kept_in(tmp_path / "other")))

    refused = refusal_of(vault(tmp_path / "gone"))

    assert "does not exist" in refused.what
    assert "passphrase_file" in refused.what
    assert "recovery sheet" in refused.next_step


def test_a_folder_is_no_passphrase_file(tmp_path: Path):
    assert "cannot be read" in refusal_of(vault(tmp_path)).what


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        ("\n", "is empty"),
        (f"{SECRET}\nuser: anna\n", "more than one line"),
        (f"{SECRET}\0", "NUL"),
        (SECRET * 500, "longer than 4096 bytes"),
    ],
)
def test_what_cannot_be_a_passphrase_is_refused_and_not_shown(tmp_path: Path, content: str, said: str):
    assert said in refusal_of(vault(kept_in(tmp_path / "passphrase", content))).what
    assert said in refusal_of(vault(command=python(f"print(end={content!r})"))).what


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("/nonexistent/program", SECRET), "cannot be started"),
        (python(f"import sys; sys.exit('{SECRET}')"), "ended with status 1"),
        (python(f"import os; print('{SECRET}', flush=True); os.kill(os.getpid(), 9)"), "ended with signal 9"),
    ],
)
def test_a_command_that_fails_is_named_without_its_arguments_and_without_what_it_said(
    command: tuple[str, ...], said: str
):
    refused = refusal_of(vault(command=command))

    assert said in refused.what
    assert command[0] in refused.what
    assert command[-1] not in refused.what


def test_a_command_that_does_not_end_is_ended_with_all_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(passphrase_sources, "COMMAND_TIMEOUT_S", 3.0)
    held = tmp_path / "held"
    os.mkfifo(held)
    reading = os.open(held, os.O_RDONLY | os.O_NONBLOCK)

    refused = refusal_of(vault(command=("sh", "-c", f"exec 3>{held}; echo there >&3; sleep 600 & sleep 600")))

    assert "did not end" in refused.what
    os.set_blocking(reading, True)
    with os.fdopen(reading, "rb") as stream:
        # It ends only because nobody holds the other end any more.
        assert stream.read() in (b"there\n", b"")


def test_a_command_that_prints_without_end_costs_no_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(passphrase_sources, "COMMAND_TIMEOUT_S", 1.0)

    assert "did not end" in refusal_of(vault(command=("yes", SECRET))).what


def test_a_command_has_no_input():
    assert "is empty" in refusal_of(vault(command=("cat",))).what
