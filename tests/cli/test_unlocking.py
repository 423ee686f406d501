"""An encrypted repository in every command: who is asked, who is not, and where no passphrase ever shows up."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from engine.cli.launching import launch_restore
from engine.errors import ExitCode
from engine.fleet import gather, open_repository, repository_access
from engine.hosts import HostLanes
from engine.jobs import Journal, follow
from engine.repository import Passphrase, Point, Repository
from engine.restore import Request, plan
from engine.settings import load
from tests.cli.conftest import Place, Run, make_point
from tests.tui.terminals import PseudoTerminal, terminal

SECRET = "open sesame, please"


@pytest.fixture
def sealed(place: Place) -> Point:
    """A recovery point of web in an encrypted repository whose passphrase is kept nowhere."""
    with Repository.create(place.vault, name="vault", passphrase=Passphrase(SECRET.encode())) as repository:
        return make_point(repository, "web", age=timedelta(minutes=12))


def master_key(place: Place) -> str:
    with Repository.open(place.vault, unlock=lambda _id, _name: Passphrase(SECRET.encode())) as repository:
        key = repository.master_key()
    assert key is not None
    return key.value.hex()


def answer(seen: PseudoTerminal, *passphrases: str) -> None:
    for number, passphrase in enumerate(passphrases):
        seen.read_until(lambda number=number: sum("repository vault:" in line for line in seen.text) == number + 1)
        seen.type(f"{passphrase}\n")


@contextmanager
def processes_watched() -> Iterator[list[bytes]]:
    """Arguments and environment of every process that this user can look at, again and again."""
    seen: set[bytes] = set()
    stopping = threading.Event()

    def look() -> None:
        while not stopping.is_set():
            for process in Path("/proc").glob("[0-9]*"):
                for file in ("cmdline", "environ"):
                    try:
                        seen.add((process / file).read_bytes())
                    except OSError:
                        continue

    watcher = threading.Thread(target=look)
    watcher.start()
    found: list[bytes] = []
    try:
        yield found
    finally:
        stopping.set()
        watcher.join()
        found.extend(seen)


def test_without_a_source_and_without_a_terminal_the_next_step_is_said(newhope: Run, sealed: Point):
    for words in (("repo", "info"), ("points",), ("points", "show", "web"), ("repo", "key", "list")):
        said = newhope(*words)

        assert said.code == ExitCode.REPOSITORY
        assert "encrypted" in said.err
        assert "passphrase_file" in said.err


def test_a_locked_repository_is_no_empty_one(newhope: Run, place: Place, sealed: Point):
    place.write(hosts=place.live())

    checked = newhope("check", "--json").document["findings"]

    assert any("encrypted" in str(finding) for finding in checked)


def test_with_a_file_nobody_is_asked(newhope: Run, place: Place, sealed: Point):
    place.keep_passphrase(SECRET)

    assert "web" in newhope("points").out
    assert "encrypted; its keys: first" in newhope("repo", "info").out
    described = newhope("repo", "info", "--json").document["repository"]
    assert (described["encrypted"], [key["name"] for key in described["keys"]]) == (True, ["first"])


def test_a_wrong_passphrase_in_the_file_is_told_with_the_file(newhope: Run, place: Place, sealed: Point):
    place.keep_passphrase("open barley")

    said = newhope("repo", "info")

    assert said.code == ExitCode.REPOSITORY
    assert str(place.passphrase_file) in said.err
    assert "open barley" not in said.err


def test_a_plain_repository_where_an_encrypted_one_belongs_is_refused(newhope: Run, place: Place):
    newhope("repo", "init", "--no-encryption")
    place.keep_passphrase(SECRET)

    said = newhope("repo", "info")

    assert said.code == ExitCode.REPOSITORY
    assert "not encrypted" in said.err


def test_at_a_terminal_it_is_asked_for_and_a_slip_is_forgiven(place: Place, sealed: Point):
    with terminal(["--config", str(place.settings_file), "points"], columns=100) as seen:
        answer(seen, "open barley", SECRET)
        seen.wait_for_end()

    assert seen.exit_status == 0
    assert seen.shows(sealed.id[:8])
    assert SECRET.encode() not in seen.received


def test_who_does_not_answer_is_told_what_else_there_is(place: Place, sealed: Point):
    with terminal(["--config", str(place.settings_file), "repo", "info"], columns=100) as seen:
        answer(seen, "")
        seen.wait_for_end()

    assert seen.exit_status == ExitCode.REPOSITORY
    assert seen.shows("passphrase_command")


def test_ctrl_c_at_the_question_ends_it(place: Place, sealed: Point):
    with terminal(["--config", str(place.settings_file), "repo", "info"]) as seen:
        seen.read_until(lambda: seen.shows("repository vault:"))
        seen.type("\x03")
        seen.wait_for_end()

    assert seen.exit_status == ExitCode.INTERRUPTED


def test_with_repository_and_passphrase_alone_its_points_are_found(place: Place, newhope: Run, sealed: Point):
    place.settings_file.unlink()

    with terminal(["repo", "info", str(place.vault)], columns=100) as seen:
        answer(seen, SECRET)
        seen.wait_for_end()
    assert seen.shows("1 recovery points of 1 VMs")

    place.passphrase_file.touch(mode=0o600)
    place.passphrase_file.write_text(SECRET)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("NEWHOPE_PASSPHRASE_FILE", str(place.passphrase_file))

        assert "web" in newhope("points", "--repository", place.vault).out
        assert sealed.id in newhope("points", "show", "web@latest", "--repository", place.vault).out


def test_two_lines_of_settings_are_enough_for_a_restore(
    place: Place, newhope: Run, sealed: Point, monkeypatch: pytest.MonkeyPatch
):
    place.passphrase_file.touch(mode=0o600)
    place.passphrase_file.write_text(SECRET)
    monkeypatch.setenv("NEWHOPE_PASSPHRASE_FILE", str(place.passphrase_file))
    place.settings_file.write_text(f'hosts.here.uri = "test:///default"\nrepositories.vault.path = "{place.vault}"\n')

    said = newhope("restore", "web@latest", "--to", "here", "--dry-run")

    # libvirt's test driver has no storage that a disk could be restored to: the plan is made, and one check says so.
    assert said.code == ExitCode.PREFLIGHT
    assert "write vda" in said.out


def test_a_job_is_handed_what_it_needs_and_nobody_else_sees_it(place: Place, journal: Journal, sealed: Point):
    place.write(hosts=place.live())
    settings = load(place.settings_file)
    kept = settings.repositories[0]
    open_repository(kept, prompt=lambda _question: Passphrase(SECRET.encode())).close()
    with HostLanes(settings) as lanes:
        seen = gather(settings, lanes)
    made = plan(settings, seen, Request("vault", sealed.manifest.vm.uuid, sealed.id, "coruscant", operator="anna"))

    with processes_watched() as processes:
        job = list(follow(journal, launch_restore(settings, journal, made).id, look_s=0.05))[-1]

    # It came as far as the check of a host that has no storage: the repository was open by then.
    assert job.failure is not None
    assert job.failure.exit_code == ExitCode.PREFLIGHT
    secrets = (SECRET.encode(), master_key(place).encode(), bytes.fromhex(master_key(place)))
    kept_files = [file.read_bytes() for file in place.state.rglob("*") if file.is_file()]
    assert any(b"run-job" in shown for shown in processes)
    assert len(kept_files) > 1
    assert not [True for shown in (*processes, *kept_files) for secret in secrets if secret in shown]


def test_a_job_that_finds_no_passphrase_says_what_to_do(
    place: Place, journal: Journal, sealed: Point, monkeypatch: pytest.MonkeyPatch
):
    place.write(hosts=place.live())
    settings = load(place.settings_file)
    kept = settings.repositories[0]
    open_repository(kept, prompt=lambda _question: Passphrase(SECRET.encode())).close()
    with HostLanes(settings) as lanes:
        seen = gather(settings, lanes)
    made = plan(settings, seen, Request("vault", sealed.manifest.vm.uuid, sealed.id, "coruscant", operator="anna"))
    monkeypatch.setattr(repository_access, "known", repository_access.Known())
    job = list(follow(journal, launch_restore(settings, journal, made).id, look_s=0.05))[-1]

    assert job.failure is not None
    assert "encrypted" in job.failure.what
    assert "passphrase_file" in job.failure.next_step


def test_the_console_asks_before_it_opens_and_then_shows_the_points(place: Place, sealed: Point):
    with terminal(["--config", str(place.settings_file)]) as seen:
        answer(seen, SECRET)
        seen.read_until(lambda: seen.shows("web"))
        seen.type("q")
        seen.wait_for_end()

    assert SECRET.encode() not in seen.received


def test_the_console_opens_without_an_answer_and_shows_what_is_locked(place: Place, sealed: Point):
    with terminal(["--config", str(place.settings_file)], columns=120, lines=40) as seen:
        answer(seen, "")
        seen.read_until(lambda: seen.shows("1 of 1 repos away"))
        seen.type("3")
        seen.read_until(lambda: seen.shows("vault"))
        seen.type("q")
        seen.wait_for_end()

    assert seen.exit_status == 0
