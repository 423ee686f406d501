"""What the README says must be so."""

import re
from pathlib import Path

from engine.cli.main import EXIT_MEANINGS, SOURCES

README = Path("README.md").read_text()


def test_every_exit_status_is_listed_with_its_meaning():
    listed = dict(re.findall(r"^\| (\d+) \| (.+) \|$", README, re.MULTILINE))

    assert listed == {str(code.value): meaning for code, meaning in EXIT_MEANINGS.items()}


def test_every_picture_and_page_it_links_to_exists():
    linked = re.findall(r"\]\(([^)#]+)\)", README)

    assert linked
    assert [path for path in linked if not Path(path).exists()] == []


def test_every_command_it_shows_exists():
    shown = set(re.findall(r"^newhope ([a-z]+) .*#", README, re.MULTILINE))

    assert shown
    assert shown <= set(SOURCES)


def test_what_dev_offers_is_what_it_knows():
    script = Path("dev").read_text()
    offered = set(re.findall(r"^  ([a-z]+) ", script, re.MULTILINE))
    known = set(re.findall(r"^    ([a-z]+)\)$", script, re.MULTILINE))

    assert offered == known
