"""The rules of the house: who may import whom, and what lies at the top."""

import subprocess
import sys
from pathlib import Path

TOP = set(
    ".ci .gitignore LICENSE README.md dev engine pyproject.toml screenshots tests tui uv.lock".split()  # noqa: SIM905
)


def test_no_import_goes_up_and_only_their_owners_touch_libvirt_ciphers_and_the_terminal():
    done = subprocess.run([Path(sys.executable).with_name("lint-imports"), "--no-logo"], capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_lies_at_the_top_that_does_not_belong_there():
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.splitlines()

    assert {path.split("/")[0] for path in listed} <= TOP


def test_every_package_opens_with_its_page():
    packages = [path for path in Path().glob("*/**/__init__.py") if path.parts[0] in ("engine", "tui")]

    short = [str(path) for path in packages if len(path.read_text().split('"""')[1].splitlines()) < 3]

    assert packages
    assert short == []


def test_every_file_says_in_its_first_lines_what_it_is_for():
    files = [path for top in ("engine", "tui") for path in Path(top).rglob("*.py")]

    assert [str(path) for path in files if not path.read_text().startswith('"""')] == []
