"""`newhope repo unlock`: who holds a repository, and taking it from those who are gone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from engine.cli import confirmation
from engine.errors import ExitCode
from engine.repository import LeaseLost, Repository, Writer
from tests.cli.conftest import Place, Run

WRITES_AND_WAITS = """
import sys
from engine.repository import Repository
with Repository.open(sys.argv[1]).writer("newhope backup web"):
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def vault(place: Place) -> Repository:
    return Repository.create(place.vault, name="vault")


@pytest.fixture
def killed(place: Place, vault: Repository) -> int:
    """A backup of this machine that was killed; its process number."""
    command = [sys.executable, "-c", WRITES_AND_WAITS, str(place.vault)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    child.kill()
    child.communicate()
    return child.pid


@pytest.fixture
def elsewhere(vault: Repository, monkeypatch: pytest.MonkeyPatch) -> Iterator[Writer]:
    """A backup of another machine, which lives."""
    writer = vault.writer("newhope backup db-1")
    with monkeypatch.context() as patched:
        patched.setattr("engine.repository.lease._boot_id", lambda: "another machine")
        writer.__enter__()
    yield writer
    writer.__exit__(None, None, None)


def leases(place: Place) -> set[str]:
    return {path.name.partition("-")[0] for path in place.vault.glob("leases/*")}


def test_where_nobody_is_it_says_so(newhope: Run, vault: Repository) -> None:
    answer = newhope("repo", "unlock")

    assert answer.code == ExitCode.OK
    assert "Nobody holds vault" in answer.out


def test_the_lease_of_a_killed_process_is_shown_and_ended(newhope: Run, place: Place, killed: int) -> None:
    (lease,) = leases(place)

    looked = newhope("repo", "unlock", "--dry-run")
    still = leases(place)
    answer = newhope("repo", "unlock", "vault")

    assert still == {lease}
    assert f"Would end 1 lease: {lease}." in looked.out
    assert f"Process {killed} of this machine has ended." in answer.out
    assert "x DEAD" in answer.out
    assert f"Ended 1 lease: {lease}." in answer.out
    assert leases(place) == set()


def test_a_backup_that_runs_is_shown_and_left_alone(newhope: Run, place: Place, vault: Repository) -> None:
    with vault.writer("newhope backup web"):
        (lease,) = leases(place)
        answer = newhope("repo", "unlock")
        refused = newhope("repo", "unlock", "--lease", lease, "--yes")

        assert answer.code == ExitCode.OK
        assert "+ ALIVE" in answer.out
        assert refused.code == ExitCode.CONFLICT
        assert "newhope jobs" in refused.err
        assert leases(place) == {lease}


def test_one_of_another_machine_is_believed_until_its_id_is_typed(
    newhope: Run, place: Place, elsewhere: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lease,) = leases(place)
    asked: list[str] = []

    def type_wrong(_: object, question: str, name: str) -> bool:
        asked.append(f"{question} {name}")
        return False

    believed = newhope("repo", "unlock", "--json").document
    monkeypatch.setattr(confirmation, "confirm_by_name", type_wrong)
    refused = newhope("repo", "unlock", "--lease", lease)

    assert [(each["id"], each["life"], each["owner"]) for each in believed["leases"]] == [
        (lease, "unknown", "newhope backup db-1")
    ]
    assert believed["ended"] == []
    assert refused.code == ExitCode.CANCELLED
    assert "stops with an error" in refused.out
    assert asked == [f"End the lease of newhope backup db-1? {lease}"]
    assert leases(place) == {lease}


def test_whoever_lives_after_all_finds_its_lease_gone(newhope: Run, place: Place, elsewhere: Writer) -> None:
    (lease,) = leases(place)

    answer = newhope("repo", "unlock", "--lease", lease, "--yes")

    assert answer.code == ExitCode.OK
    assert leases(place) == set()
    with pytest.raises(LeaseLost, match="removed it"):
        elsewhere._lease.check()  # pyright: ignore[reportPrivateUsage]


def test_without_a_terminal_nothing_is_ended_unasked(newhope_process: Run, place: Place, elsewhere: Writer) -> None:
    (lease,) = leases(place)

    answer = newhope_process("repo", "unlock", "--lease", lease)

    assert answer.code == ExitCode.USAGE
    assert leases(place) == {lease}


def test_a_lease_that_cannot_be_read_is_nobodys_until_it_is_named(
    newhope: Run, place: Place, vault: Repository
) -> None:
    (place.vault / "leases").mkdir(exist_ok=True)
    (place.vault / "leases" / "0123456789abcdef-0").write_bytes(b"not a lease")

    shown = newhope("repo", "unlock", place.vault)
    ended = newhope("repo", "unlock", "--lease", "0123456789abcdef", "--yes", "--json")

    assert "! UNKNOWN" in shown.out
    assert "cannot be read" in shown.out
    assert ended.document["ended"] == ["0123456789abcdef"]
    assert leases(place) == set()


def test_a_lease_that_is_not_there_is_not_found(newhope: Run, vault: Repository) -> None:
    assert newhope("repo", "unlock", "--lease", "0000000000000000", "--yes").code == ExitCode.NOT_FOUND
