"""`./dev screenshots`: pictures of every screen into `screenshots/`, from a lab of its own or from $NEWHOPE_CONFIG."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.cli.main import main as newhope
from engine.fleet import gather
from engine.hosts import HostLanes
from engine.lab import Lab
from engine.settings import Settings, load
from tests.hosts.live import in_guest
from tests.screenshots.make_screenshots import make_pictures_of_a_question, make_screenshots

FOLDER = Path(__file__).parents[2] / "screenshots"


@contextmanager
def _lab_with_history() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="nh-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        print("starting a lab; its guests need a minute or two to boot")
        lab = Lab.up(folder)
        newhope(["--config", str(lab.settings_file), "backup", "--all", "--yes", "--plain"])
        newhope(["--config", str(lab.settings_file), "backup", "web", "--yes", "--plain"])
        yield lab.settings_file
    finally:
        if (folder / "lab.json").exists():
            Lab.remove(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _let_ignore_shutdowns(settings: Settings, name: str) -> None:
    with HostLanes(settings) as lanes:
        [vm] = [vm for seen in gather(settings, lanes).snapshots for vm in seen.vms if vm.name == name]
        in_guest(lanes[vm.host], vm, "printf '#!/bin/sh\nexit 1\n' >/sbin/shutdown")


def main() -> None:
    """Take the pictures."""
    given = os.environ.get("NEWHOPE_CONFIG")
    if given:
        taken = make_screenshots(load(Path(given)), FOLDER)
    else:
        with _lab_with_history() as file:
            settings = load(file)
            taken = make_screenshots(settings, FOLDER)
            _let_ignore_shutdowns(settings, "web")
            taken += make_pictures_of_a_question(settings, FOLDER, "web")
    print(f"{len(taken)} pictures in {FOLDER}")


main()
