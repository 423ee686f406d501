"""What all tests share: a lab of real hosts and guests, one for every process that runs tests."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from engine.lab import Lab
from tests.faults.figures import pytest_sessionfinish, pytest_terminal_summary, pytest_testnodedown

__all__ = ["pytest_sessionfinish", "pytest_terminal_summary", "pytest_testnodedown"]

# How fast a machine makes up examples says nothing about what is tested: others work on it too.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")

LabFactory = Callable[..., Lab]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever asks for a lab is marked so: `-m "not lab"` is the quick run. Files that take longest come first.

    Tests marked `long` are left to `NEWHOPE_LONG_TESTS=1`: each takes minutes, and tells at length what a shorter one
    tells too.
    """
    for item in items:
        if item.get_closest_marker("long") and not os.environ.get("NEWHOPE_LONG_TESTS"):
            item.add_marker(pytest.mark.skip(reason="takes minutes: NEWHOPE_LONG_TESTS=1 runs it"))
        if isinstance(item, pytest.Function) and {"lab", "lab_factory"} & set(item.fixturenames):
            item.add_marker(pytest.mark.lab)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    # Several processes work side by side, a file each: one that takes minutes must not be begun last.
    items.sort(key=lambda item: (item.path not in slow, "e2e" not in item.path.parts))


def _new_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="nh-", dir="/tmp"))
    # As root the lab's daemons run as somebody else, who must get in.
    folder.chmod(0o755)
    return folder


def _remove(folder: Path) -> None:
    if (folder / "lab.json").exists():
        Lab.remove(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A whole lab, shared by the tests of this process: leave it as it was found.

    Of its guests only `web` runs, until a test is marked to need others: under emulation each costs all the time.
    """
    folder = _new_folder()
    try:
        yield Lab.up(folder, running=("web",))
    finally:
        _remove(folder)


_started: set[tuple[Path, str]] = set()


@pytest.fixture(autouse=True)
def guests_that_run(request: pytest.FixtureRequest) -> None:
    """Start the guests that the test is marked to need: `@pytest.mark.guests("db")`."""
    wanted = {name for mark in request.node.iter_markers("guests") for name in mark.args}
    if wanted:
        shared: Lab = request.getfixturevalue("lab")
        missing = {name for name in wanted if (shared.folder, name) not in _started}
        if missing:
            Lab.up(shared.folder, running=tuple(missing))
            _started.update((shared.folder, name) for name in missing)


@pytest.fixture
def lab_factory() -> Iterator[LabFactory]:
    """Labs of a test's own, to break: `lab_factory(hosts=("alderaan",), guests=("web",))` makes a small one."""
    folders: list[Path] = []

    def make(**choice: object) -> Lab:
        folders.append(_new_folder())
        return Lab.up(folders[-1], **choice)

    try:
        yield make
    finally:
        for folder in folders:
            _remove(folder)
