import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest

from tests.tui.consoles import terminal_of
from tests.tui.terminals import ROOT
from tui.destination import Destination, destination_of
from tui.terminal import terminal_here, why_unsuitable


def newhope(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    program = "import sys; from tui.entry import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environ,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ((), Destination("fleet")),
        (("jobs",), Destination("jobs")),
        (("vm", "web"), Destination("vm", "web")),
        (("restore", "web@latest"), Destination("restore", "web@latest")),
        (("vm",), None),
        (("jobs", "7"), None),
        (("moon",), None),
    ],
)
def test_what_to_open_first_is_named_on_the_command_line(words: tuple[str, ...], meant: Destination | None) -> None:
    assert destination_of(words) == meant


def test_without_a_terminal_the_console_points_to_the_commands(tmp_path: Path) -> None:
    ended = newhope()

    assert ended.returncode == 2
    assert "needs a terminal" in ended.stderr
    assert "newhope vms" in ended.stderr


def test_anything_else_is_the_command_line_and_loads_no_screen() -> None:
    program = (
        "import sys; sys.argv = ['newhope', '--help']; from tui.entry import main; main();"
        "print('textual' in sys.modules, 'libvirt' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)

    assert "newhope" in ended.stdout
    assert ended.stdout.splitlines()[-1] == "False False"


def test_a_destination_that_makes_no_sense_shows_the_usage() -> None:
    ended = newhope("tui", "moon")

    assert ended.returncode == 2
    assert "Usage: newhope" in ended.stderr


def test_the_usage_can_be_asked_for() -> None:
    assert "Opens the console" in newhope("tui", "--help").stdout


def test_a_stream_that_is_no_terminal_is_found_out() -> None:
    assert not terminal_here({"TERM": "xterm"}, (StringIO(), StringIO(), StringIO())).interactive


@pytest.mark.parametrize(("value", "colour"), [(None, True), ("", True), ("1", False), ("0", False)])
def test_no_color_counts_when_it_is_not_empty(value: str | None, colour: bool) -> None:
    environ = {} if value is None else {"NO_COLOR": value}

    assert terminal_here(environ, (StringIO(),)).colour is colour


def test_sixty_by_twenty_is_enough_and_less_is_not() -> None:
    assert why_unsuitable(terminal_of(60, 20)) is None
    assert why_unsuitable(terminal_of(59, 20)) is not None
    assert why_unsuitable(terminal_of(60, 19)) is not None
