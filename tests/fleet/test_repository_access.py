"""Opening the repositories of the settings: what unlocks them, and that it is found out once."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.fleet import (
    accept_keys,
    ask_for_passphrases,
    create_repository,
    keys_to_hand,
    look_into_repository,
    open_repository,
    open_with_sheet,
    repository_access,
)
from engine.fleet.passphrase_sources import PassphraseUnavailable
from engine.fleet.repository_access import Known
from engine.jobs.handing import refuse_too_much
from engine.repository import Passphrase, Repository, RepositoryDamaged, RepositoryLocked, key_slots
from engine.settings import Repository as RepositorySettings

SECRET = Passphrase(b"open sesame")
WRONG = Passphrase(b"open barley")


@pytest.fixture(autouse=True)
def _no_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.delenv("NEWHOPE_PASSPHRASE_FILE", raising=False)


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Know no more keys than a process that has just been started."""

    def forget() -> None:
        monkeypatch.setattr(repository_access, "known", Known())

    forget()
    return forget


@pytest.fixture
def vault(tmp_path: Path, forget: Callable[[], None]) -> RepositorySettings:
    """An encrypted repository that nothing but an answer opens."""
    kept = RepositorySettings("vault", tmp_path / "vault")
    Repository.create(kept.location, name="vault", passphrase=SECRET).close()
    return kept


@pytest.fixture
def derivations(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every passphrase that Argon2id was run on."""
    counted: list[bytes] = []
    stretched = key_slots._stretched  # pyright: ignore[reportPrivateUsage]

    def count(passphrase: Passphrase, *rest: object) -> bytes:
        counted.append(passphrase.value)
        return stretched(passphrase, *rest)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(key_slots, "_stretched", count)
    return counted


class Operator:
    """Somebody who answers, in turn, and remembers what was asked."""

    def __init__(self, *answers: Passphrase | None) -> None:
        self.answers = list(answers)
        self.questions: list[str] = []

    def __call__(self, question: str) -> Passphrase | None:
        self.questions.append(question)
        return self.answers.pop(0)


def with_file(kept: RepositorySettings, passphrase: Passphrase, name: str = "passphrase") -> RepositorySettings:
    file = kept.path.parent / name
    file.touch(mode=0o600)
    file.write_bytes(passphrase.value)
    return RepositorySettings(kept.name, kept.path, passphrase_file=file)


def test_a_plain_repository_opens_and_nobody_is_asked(tmp_path: Path, forget: Callable[[], None]):
    kept = RepositorySettings("attic", tmp_path / "attic")
    create_repository(kept, None).close()
    operator = Operator()

    with open_repository(kept, prompt=operator) as opened:
        assert not opened.encrypted

    assert operator.questions == []
    assert keys_to_hand([kept]) == b""


def test_an_answer_opens_it_and_is_asked_for_once(vault: RepositorySettings, derivations: list[bytes]):
    operator = Operator(SECRET)

    for _ in range(3):
        with open_repository(vault, prompt=operator) as opened:
            assert opened.encrypted

    assert operator.questions == ["Passphrase of the repository vault: "]
    assert derivations == [SECRET.value]


def test_a_wrong_answer_is_asked_again_and_the_third_is_the_last(vault: RepositorySettings):
    patient, hopeless = Operator(WRONG, WRONG, SECRET), Operator(WRONG, WRONG, WRONG, SECRET)

    with pytest.raises(RepositoryLocked, match="opens none of the keys"):
        open_repository(vault, prompt=hopeless)
    open_repository(vault, prompt=patient).close()

    assert len(hopeless.questions) == 3
    assert patient.questions[1].startswith("That opens none of its keys.")


def test_without_a_source_and_with_nobody_to_ask_the_next_step_is_said(vault: RepositorySettings):
    for prompt in (None, Operator(None)):
        with pytest.raises(RepositoryLocked) as caught:
            open_repository(vault, prompt=prompt)

        assert "is encrypted, and there is no passphrase for it" in caught.value.what
        assert "passphrase_file" in caught.value.next_step
        assert "NEWHOPE_PASSPHRASE_FILE" in caught.value.next_step


def test_a_file_opens_it_and_nobody_is_asked(vault: RepositorySettings):
    operator = Operator()

    open_repository(with_file(vault, SECRET), prompt=operator).close()

    assert operator.questions == []


def test_a_wrong_passphrase_from_a_file_is_told_with_the_file_and_nobody_is_asked(vault: RepositorySettings):
    operator = Operator(SECRET)
    kept = with_file(vault, WRONG)

    with pytest.raises(RepositoryLocked) as caught:
        open_repository(kept, prompt=operator)

    assert str(kept.passphrase_file) in caught.value.what
    assert "barley" not in str(caught.value)
    assert operator.questions == []


def test_a_source_that_fails_is_told_and_the_next_opening_tries_it_again(vault: RepositorySettings):
    kept = RepositorySettings("vault", vault.path, passphrase_file=vault.path.parent / "passphrase")
    with pytest.raises(PassphraseUnavailable, match="does not exist"):
        open_repository(kept)

    with_file(vault, SECRET)

    open_repository(kept).close()


def test_a_plain_repository_in_the_place_of_one_that_has_a_passphrase_is_refused(
    tmp_path: Path, forget: Callable[[], None]
):
    kept = RepositorySettings("vault", tmp_path / "vault")
    Repository.create(kept.location).close()

    with pytest.raises(RepositoryDamaged, match="not encrypted"):
        open_repository(with_file(kept, SECRET))


def test_another_repository_in_its_place_is_asked_for_anew(vault: RepositorySettings):
    open_repository(vault, prompt=Operator(SECRET)).close()
    vault.path.rename(vault.path.with_name("moved"))
    Repository.create(vault.location, passphrase=WRONG).close()
    operator = Operator(WRONG)

    open_repository(vault, prompt=operator).close()

    assert len(operator.questions) == 1


def test_many_who_open_it_at_once_ask_once_and_pay_once(vault: RepositorySettings, derivations: list[bytes]):
    operator = Operator(SECRET)
    opened: list[bool] = []
    openers = [
        threading.Thread(target=lambda: opened.append(open_repository(vault, prompt=operator).encrypted))
        for _ in range(6)
    ]

    for opener in openers:
        opener.start()
    for opener in openers:
        opener.join()

    assert opened == [True] * 6
    assert len(operator.questions) == 1
    assert len(derivations) == 1


def test_a_created_one_is_known_at_once(tmp_path: Path, forget: Callable[[], None], derivations: list[bytes]):
    kept = RepositorySettings("vault", tmp_path / "vault")

    create_repository(kept, SECRET).close()
    open_repository(kept).close()

    assert len(derivations) == 1


def test_its_recovery_sheet_opens_it(vault: RepositorySettings):
    with open_repository(vault, prompt=Operator(SECRET)) as opened:
        sheet = opened.recovery_sheet()

    assert open_with_sheet(vault, sheet).master_key() == opened.master_key()


def test_handed_keys_open_it_in_another_process(
    vault: RepositorySettings, forget: Callable[[], None], derivations: list[bytes]
):
    open_repository(vault, prompt=Operator(SECRET)).close()
    handed = keys_to_hand([vault, vault])
    derivations.clear()
    forget()

    accept_keys(handed)
    open_repository(vault).close()

    assert derivations == []
    assert keys_to_hand([vault]) == handed, "a job that starts jobs hands on what it was handed"


def test_only_the_keys_of_the_repositories_that_are_named_are_handed_on(tmp_path: Path, forget: Callable[[], None]):
    vault, attic = (RepositorySettings(name, tmp_path / name) for name in ("vault", "attic"))
    for kept in (vault, attic):
        create_repository(kept, SECRET).close()
    handed = keys_to_hand([vault])
    forget()

    accept_keys(handed)

    open_repository(vault).close()
    with pytest.raises(RepositoryLocked):
        open_repository(attic)


def test_keys_for_twenty_repositories_fit_into_a_pipe_however_long_their_paths_are(
    tmp_path: Path, forget: Callable[[], None]
):
    deep = tmp_path.joinpath(*("x" * 200 for _ in range(10)))
    many = [RepositorySettings(f"r{number}", deep / str(number)) for number in range(20)]
    with_key = create_repository(RepositorySettings("vault", tmp_path / "vault"), SECRET)
    key = with_key.master_key()
    assert key is not None
    for kept in many:
        repository_access.known.remember(kept, with_key.info().id, key)

    refuse_too_much(keys_to_hand(many))

    assert len(json.loads(keys_to_hand(many))) == 20


def test_a_process_that_was_handed_nothing_knows_nothing(vault: RepositorySettings):
    accept_keys(b"")

    with pytest.raises(RepositoryLocked):
        open_repository(vault)


def test_before_a_look_at_all_those_are_asked_for_that_nothing_else_opens(
    tmp_path: Path, vault: RepositorySettings, derivations: list[bytes]
):
    plain = RepositorySettings("attic", tmp_path / "attic")
    create_repository(plain, None).close()
    gone = RepositorySettings("gone", tmp_path / "gone")
    other = RepositorySettings("other", tmp_path / "other")
    Repository.create(other.location, passphrase=SECRET).close()
    operator = Operator(SECRET)

    ask_for_passphrases([plain, with_file(other, WRONG), vault, gone], operator)

    assert operator.questions == ["Passphrase of the repository vault: "]
    derivations.clear()
    assert look_into_repository(vault)[0].reachable
    assert derivations == []


def test_who_does_not_answer_sees_it_as_locked_and_the_others_as_they_are(tmp_path: Path, vault: RepositorySettings):
    plain = RepositorySettings("attic", tmp_path / "attic")
    create_repository(plain, None).close()

    ask_for_passphrases([vault, plain], Operator(None))
    view, points = look_into_repository(vault)

    assert not view.reachable
    assert "encrypted" in (view.reason or "")
    assert "passphrase_file" in (view.next_step or "")
    assert points == ()
    assert look_into_repository(plain)[0].reachable
