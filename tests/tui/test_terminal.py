"""The real command on a real pseudo terminal: bytes, signals, slow readers, hosts that hang."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine.fleet import save_cache
from engine.jobs import Journal, launch
from engine.settings import load, save
from tests.builders import make_settings
from tests.tui.consoles import shifted
from tests.tui.pictures import busy_fleet
from tests.tui.terminals import PseudoTerminal, terminal

COLOUR = re.compile(rb"\x1b\[(?:\d+;)*(?:3[0-7]|4[0-7]|9[0-7]|10[0-7]|38|48)(?:;\d+)*m")


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    """Three hosts that do not answer, and what a console remembers of them."""
    file = tmp_path / "newhope.toml"
    chosen = make_settings(state=tmp_path / "state")
    hosts = tuple(
        replace(host, uri=f"qemu+unix:///session?socket={tmp_path}/{host.name}.sock") for host in chosen.hosts
    )
    save(replace(chosen, file=file, hosts=hosts), file)
    return file


@pytest.fixture
def remembered(settings_file: Path) -> Path:
    """The same, with a fleet remembered from the last time."""
    settings, fleet = load(settings_file), shifted(busy_fleet(), datetime.now(UTC))
    uris = {host.name: host.uri for host in settings.hosts}
    save_cache(
        settings.state,
        replace(fleet, snapshots=tuple(replace(seen, uri=uris[seen.host]) for seen in fleet.snapshots)),
    )
    return settings_file


@pytest.fixture
def hanging(settings_file: Path) -> Iterator[Path]:
    """The same, with sockets that accept and never say a word."""
    listeners = []
    for host in load(settings_file).hosts:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(host.uri.partition("socket=")[2])
        listener.listen()
        listeners.append(listener)
    yield settings_file
    for listener in listeners:
        listener.close()


def bytes_after(opened: PseudoTerminal, key: str) -> int:
    """Press a key; how many bytes come of it, until nothing comes any more."""
    before = len(opened.received)
    opened.type(key)
    opened.read_until(lambda: len(opened.received) > before)
    opened.read_until_quiet()
    return len(opened.received) - before


def arguments(file: Path) -> list[str]:
    return ["--config", str(file)]


def test_what_is_remembered_is_painted_at_80x24_before_any_host_answers(remembered: Path) -> None:
    with terminal(arguments(remembered)) as opened:
        opened.read_until(lambda: opened.shows("build"))
        opened.read_until_quiet()

        assert opened.text[0].startswith(" newhope  Fleet")
        assert opened.text[23].strip().endswith("q quit")
        assert any(re.match(r" (x NEVER|\? UNKN) +build +coruscant", line) for line in opened.text)


def test_an_idle_console_writes_nothing(remembered: Path) -> None:
    with terminal(arguments(remembered)) as opened:
        opened.read_until(lambda: opened.shows("STALE"))

        # A minute may turn meanwhile, and with it some ages.
        opened.read_until_quiet(6.0, timeout_s=120)


def test_moving_the_cursor_costs_two_rows(remembered: Path) -> None:
    with terminal(arguments(remembered)) as opened:
        opened.read_until(lambda: opened.shows("STALE"))
        opened.read_until_quiet(2.0)

        # A minute may turn beside one of them, and with it some ages.
        assert min(bytes_after(opened, key) for key in "jkj") <= 700


def test_a_running_job_costs_little(remembered: Path) -> None:
    state = load(remembered).state
    with Journal(state) as journal:
        job = launch(journal, "backup", "web", "alderaan", b"{}", lock=None, argv_prefix=["sleep", "600"])
    try:
        with terminal([*arguments(remembered), "tui", "jobs"]) as opened:
            opened.read_until(lambda: opened.shows("backup"))

            # The first seconds may still be spent on the first paint.
            assert min(opened.read_for(3.0) for _ in range(3)) <= 3 * 2000
    finally:
        assert job.pid is not None
        os.kill(job.pid, signal.SIGKILL)


def test_a_lost_terminal_ends_the_console(remembered: Path) -> None:
    with terminal(arguments(remembered)) as opened:
        opened.read_until(lambda: opened.shows("build"))

        opened.hang_up()

        opened.wait_for_end()
        assert opened.exit_status == 129


def test_quitting_says_which_jobs_go_on_and_a_lost_terminal_need_not_hear_it(remembered: Path) -> None:
    with Journal(load(remembered).state) as journal:
        job = launch(journal, "backup", "web", "alderaan", b"{}", lock=None, argv_prefix=["sleep", "600"])
    try:
        with terminal([*arguments(remembered), "tui", "jobs"]) as opened:
            opened.read_until(lambda: opened.shows("backup"))
            opened.type("q")
            opened.wait_for_end()
            opened.read_for(0.3)
            assert b"1 job goes on without the console: 1 (backup web)." in opened.received

        with terminal([*arguments(remembered), "tui", "jobs"]) as opened:
            opened.read_until(lambda: opened.shows("backup"))
            opened.hang_up()
            opened.wait_for_end()
            assert opened.exit_status == 129
    finally:
        assert job.pid is not None
        os.kill(job.pid, signal.SIGKILL)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGHUP, 129), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_cleanly_and_gives_the_terminal_back(remembered: Path, number: int, code: int) -> None:
    with terminal(arguments(remembered)) as opened:
        opened.read_until(lambda: opened.shows("build"))

        opened.signal(number)
        opened.wait_for_end()
        opened.read_for(0.2)

        assert opened.exit_status == code
        assert b"\x1b[?1049l" in opened.received
        assert b"\x1b[?25h" in opened.received


def test_quitting_does_not_wait_for_hosts_that_hang(hanging: Path) -> None:
    with terminal(arguments(hanging)) as opened:
        opened.read_until(lambda: opened.shows("alderaan"))
        opened.read_for(1.0)

        opened.type("q")

        opened.wait_for_end()
        assert opened.exit_status == 0


def test_keys_answer_while_hosts_hang(hanging: Path) -> None:
    with terminal(arguments(hanging)) as opened:
        opened.read_until(lambda: opened.shows("alderaan"))

        opened.type("3")

        opened.read_until(lambda: opened.shows("Checks"))


def test_a_reader_that_stalls_finds_everything_when_it_comes_back(remembered: Path) -> None:
    with terminal(arguments(remembered)) as opened:
        opened.read_until(lambda: opened.shows("build"))
        for _ in range(40):
            opened.type("j")
            opened.type("k")
        opened.type("3")
        time.sleep(3.0)

        opened.read_until(lambda: opened.shows("Checks"))
        opened.type("1")
        opened.read_until(lambda: opened.shows("VMS (4)"))


def test_a_signal_ends_it_even_when_nobody_reads(remembered: Path) -> None:
    with terminal(arguments(remembered)) as opened:
        opened.read_until(lambda: opened.shows("build"))
        for _ in range(300):
            opened.type("2")
            opened.type("1")
        time.sleep(2.0)

        opened.signal(signal.SIGTERM)
        ends = time.monotonic() + 60
        while os.waitpid(opened.pid, os.WNOHANG) == (0, 0):
            assert time.monotonic() < ends
            time.sleep(0.05)
        opened.exit_status = 143


def test_no_color_means_no_colour_at_all(remembered: Path) -> None:
    with terminal(arguments(remembered), environ={"NO_COLOR": "1"}) as opened:
        opened.read_until(lambda: opened.shows("build"))
        opened.read_until_quiet()

        assert COLOUR.search(bytes(opened.received)) is None
        assert re.search(rb"\x1b\[7[;m]", bytes(opened.received))


def test_an_empty_no_color_is_no_wish(remembered: Path) -> None:
    with terminal(arguments(remembered), environ={"NO_COLOR": ""}) as opened:
        opened.read_until(lambda: opened.shows("build"))
        opened.read_until_quiet()

        assert COLOUR.search(bytes(opened.received)) is not None


def test_colours_are_the_terminals_own(remembered: Path) -> None:
    with terminal(arguments(remembered)) as opened:
        opened.read_until(lambda: opened.shows("build"))
        opened.read_until_quiet()

        assert re.search(rb"\x1b\[[0-9;]*[34]8;2", bytes(opened.received)) is None


def test_over_ssh_the_mouse_stays_with_the_operators_terminal(remembered: Path) -> None:
    with terminal(arguments(remembered), environ={"SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"}) as opened:
        opened.read_until(lambda: opened.shows("build"))
        opened.read_until_quiet()

        assert b"\x1b[?1003h" not in opened.received


@pytest.mark.parametrize(
    ("columns", "lines", "environ", "reason"),
    [
        (80, 24, {"TERM": "dumb"}, "TERM is dumb"),
        (50, 24, {}, "this terminal has 50x24"),
        (80, 12, {}, "this terminal has 80x12"),
    ],
)
def test_a_terminal_that_will_not_do_is_told_why_and_what_to_use_instead(
    settings_file: Path, columns: int, lines: int, environ: dict[str, str], reason: str
) -> None:
    with terminal(arguments(settings_file), columns=columns, lines=lines, environ=environ) as opened:
        opened.wait_for_end()
        opened.read_for(0.2)

        received = b"".join(opened.received.split()).decode()
        assert reason.replace(" ", "") in received
        assert "newhopevms" in received
        assert opened.exit_status == 2
        assert b"\x1b[?1049h" not in opened.received
