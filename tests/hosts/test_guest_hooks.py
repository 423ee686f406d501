"""The freeze hooks for guests that newhope brings, run as a guest's agent runs them; MariaDB is a real server."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.waiting import wait_for

HOOKS = Path("engine/hosts/hooks")


class Guest:
    """The folder in which the agent of a guest finds its hooks."""

    def __init__(self, folder: Path) -> None:
        self.said = folder / "said"
        self.runner = folder / "fsfreeze-hook"
        self.hooks = folder / "fsfreeze-hook.d"
        self.hooks.mkdir()
        shutil.copy(HOOKS / "fsfreeze-hook", self.runner)

    def hook(self, name: str, body: str = "", mode: int = 0o755) -> None:
        path = self.hooks / name
        path.write_text(f'#!/bin/sh\necho "{name} $1" >>{self.said}\n{body}\n')
        path.chmod(mode)

    def agent_calls(self, word: str) -> int:
        done = subprocess.run([self.runner, word], stdin=subprocess.DEVNULL, timeout=60, check=False)
        return done.returncode

    def ran(self) -> list[str]:
        return self.said.read_text().splitlines() if self.said.exists() else []


@pytest.fixture
def guest(tmp_path: Path) -> Guest:
    return Guest(tmp_path)


def test_hooks_freeze_in_the_order_of_their_names_and_thaw_in_reverse(guest: Guest) -> None:
    guest.hook("20-second hook")
    guest.hook("10-first")

    assert guest.agent_calls("freeze") == 0
    assert guest.agent_calls("thaw") == 0

    assert guest.ran() == ["10-first freeze", "20-second hook freeze", "20-second hook thaw", "10-first thaw"]


def test_a_hook_that_fails_gives_its_status_back_and_thaws_those_that_had_begun(guest: Guest) -> None:
    guest.hook("10-first")
    guest.hook("20-fails", '[ "$1" = thaw ] || exit 3')
    guest.hook("30-never")

    assert guest.agent_calls("freeze") == 3

    assert guest.ran() == ["10-first freeze", "20-fails freeze", "20-fails thaw", "10-first thaw"]


def test_a_hook_that_hangs_is_ended_and_thawed_before_newhope_gives_up(guest: Guest) -> None:
    guest.hook("10-hangs", '[ "$1" = thaw ] || exec sleep 600')

    assert guest.agent_calls("freeze") == 124

    assert guest.ran() == ["10-hangs freeze", "10-hangs thaw"]


def test_a_hook_that_fails_at_thaw_keeps_no_other_from_thawing(guest: Guest) -> None:
    guest.hook("10-first")
    guest.hook("20-fails", "exit 1")

    assert guest.agent_calls("thaw") == 0

    assert guest.ran() == ["20-fails thaw", "10-first thaw"]


def test_what_a_package_or_an_editor_left_in_the_folder_is_no_hook(guest: Guest) -> None:
    for name in ("mysql~", "mysql.bak", "mysql.dpkg-old", "mysql.rpmsave", "mysql.sample", "mysql.disabled"):
        guest.hook(name)
    guest.hook("not-executable", mode=0o644)

    assert guest.agent_calls("freeze") == 0

    assert guest.ran() == []


def test_a_guest_without_a_hook_freezes(guest: Guest) -> None:
    assert guest.agent_calls("freeze") == 0
    guest.hooks.rmdir()
    assert guest.agent_calls("freeze") == 0
    assert guest.agent_calls("thaw") == 0


class MariaDb:
    """A server of this test's own, and its hook."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes]) -> None:
        self.socket = folder / "socket"
        self.process = process
        self.session = folder / "session"
        self.options = f"--no-defaults --user=root --socket={self.socket}"

    def client(self, *statements: str) -> subprocess.Popen[str]:
        command = ["mariadb", *self.options.split(), "-N", "-B", "-e", ";".join(statements)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def ask(self, *statements: str) -> str:
        asking = self.client(*statements)
        said, _ = asking.communicate(timeout=60)
        assert asking.returncode == 0, said
        return said.strip()

    def writes(self, wait_s: int) -> bool:
        """Whether something can be committed now."""
        writer = self.client(f"SET lock_wait_timeout={wait_s}", "INSERT INTO shop.orders VALUES (1)")
        said, _ = writer.communicate(timeout=60)
        assert writer.returncode == 0 or "Lock wait timeout" in said, said
        return writer.returncode == 0

    def hook(self, word: str) -> subprocess.CompletedProcess[str]:
        surroundings = {**os.environ, "MYSQL_OPTIONS": self.options, "SESSION_FILE": str(self.session)}
        return subprocess.run(
            [HOOKS / "mysql", word], env=surroundings, capture_output=True, text=True, timeout=60, check=False
        )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDb]:
    folder = tmp_path_factory.mktemp("db")
    data = folder / "data"
    user = ["--user=root"] if os.getuid() == 0 else []
    install = ["mariadb-install-db", "--no-defaults", *user, f"--datadir={data}", "--skip-test-db"]
    subprocess.run([*install, "--auth-root-authentication-method=normal"], check=True, capture_output=True, timeout=120)
    program = shutil.which("mariadbd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/libexec")
    assert program is not None
    options = ["--no-defaults", *user, f"--datadir={data}", "--skip-networking", f"--socket={folder / 'socket'}"]
    process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    made = MariaDb(folder, process)
    try:
        assert wait_for(lambda: made.socket.exists() or process.poll() is not None)
        made.ask("CREATE DATABASE shop", "CREATE TABLE shop.orders (number INT) ENGINE=Aria")
        yield made
    finally:
        process.terminate()
        process.wait(60)


def test_mariadb_commits_nothing_between_freeze_and_thaw(server: MariaDb) -> None:
    assert server.hook("freeze").returncode == 0
    frozen = server.writes(wait_s=1)
    assert server.hook("thaw").returncode == 0

    assert not frozen
    assert server.writes(wait_s=60)
    assert not server.session.exists()


def test_a_freeze_after_one_whose_thaw_was_lost_leaves_one_lock_and_a_thaw_takes_it(server: MariaDb) -> None:
    assert server.hook("freeze").returncode == 0
    assert server.hook("freeze").returncode == 0
    frozen = server.writes(wait_s=1)
    assert [server.hook("thaw").returncode for _ in range(3)] == [0, 0, 0]

    assert not frozen
    assert server.writes(wait_s=60)


def test_a_long_statement_that_holds_up_the_lock_fails_the_hook_and_harms_nothing(server: MariaDb) -> None:
    server.ask("CREATE TABLE shop.slow (number INT) ENGINE=Aria")
    slow = server.client("INSERT INTO shop.slow SELECT SLEEP(600)")
    assert wait_for(lambda: "User sleep" in server.ask("SELECT state FROM information_schema.processlist"))

    failed = server.hook("freeze")

    assert failed.returncode == 1
    assert "no read lock" in failed.stdout
    assert "Lock wait timeout" in failed.stdout
    assert not server.session.exists()
    assert server.writes(wait_s=60)
    slow.kill()
    slow.communicate()
