"""A power cut at every instant of a backup, replayed on a model of a disk that forgets whatever was not synced.

The calls of a real backup are recorded. For each moment the disk is rebuilt twice: once with only what was synced
(contents by fsync of the file, names by fsync of the folder), and once with all names but only synced contents, as a
file system may do that writes its journal before its data. Both must hold every point that had been committed, whole,
and list none that is not.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults.figures import Fault, count
from tests.faults.repository_scenario import Scenario, fast_folder
from tests.faults.repository_system_calls import Call, SystemCalls, content_of, path_of


@dataclass
class File:
    content: bytes = b""
    synced: bytes = b""


@dataclass
class Disk:
    """What a disk holds after some calls: in memory, and for good."""

    names: dict[str, File | None] = field(default_factory=dict)
    """Path -> file, or None for a folder."""
    synced_names: dict[str, File | None] = field(default_factory=dict)
    files: dict[int, File] = field(default_factory=dict)
    """By inode."""

    def do(self, step: tuple[object, ...]) -> None:
        match step:
            case ("create", str(path), int(inode)):
                self.names[path] = self.files[inode] = File()
            case ("write", int(inode), bytes(content)):
                self.files[inode].content += content
            case ("sync file", int(inode)):
                self.files[inode].synced = self.files[inode].content
            case ("link", str(source), str(target)):
                self.names[target] = self.names[source]
            case ("unlink", str(path)):
                self.names.pop(path, None)
            case ("mkdir", str(path)):
                self.names[path] = None
            case ("sync folder", str(folder)):
                for path in [*self.synced_names]:
                    if str(Path(path).parent) == folder and path not in self.names:
                        del self.synced_names[path]
                for path, file in self.names.items():
                    if str(Path(path).parent) == folder:
                        self.synced_names[path] = file

    def write_to(self, folder: Path, names: dict[str, File | None]) -> None:
        for path, file in sorted(names.items()):
            target = folder / path
            if file is None:
                target.mkdir(exist_ok=True)
            elif target.parent.is_dir():
                target.write_bytes(file.synced)


def record(scenario: Scenario) -> list[tuple[object, ...]]:
    """The calls of a whole backup, with paths below the repository, ending with a mark."""
    steps: list[tuple[object, ...]] = []
    root = scenario.folder

    def below(path: object) -> str:
        return str(Path(str(path)).relative_to(root))

    def hook(number: int, name: str, arguments: tuple[object, ...], call: Call) -> object:
        if name == "open":
            file = call()
            steps.append(("create", below(arguments[0]), os.fstat(int(str(file))).st_ino))
            return file
        if name in ("write", "writev"):
            steps.append(("write", os.fstat(int(str(arguments[0]))).st_ino, content_of(arguments[1])))
        elif name == "fsync" and os.path.isdir(path_of(arguments[0])):
            result = call()
            steps.append(("sync folder", below(path_of(arguments[0]))))
            return result
        elif name == "fsync":
            # What is written while a sync runs may or may not be in it: only what was there before counts.
            steps.append(("sync file", os.fstat(int(str(arguments[0]))).st_ino))
        else:
            steps.append((name, *map(below, arguments)) if name == "link" else (name, below(arguments[0])))
        return call()

    calls = SystemCalls(str(root), hook)
    calls.install()
    try:
        scenario.run()
    finally:
        calls.remove()
    return [*steps, ("committed",)]


@pytest.mark.parametrize("names_survive", [False, True], ids=["only what was synced", "names before contents"])
def test_a_power_cut_at_any_instant_harms_no_point(names_survive: bool):
    cuts = 0
    with fast_folder() as folder:
        scenario = Scenario(folder)
        scenario.begin()
        disk = Disk()
        for step in record(scenario):
            disk.do(step)
            if step[0] in ("write", "create"):
                # Adds nothing that would be on the disk after a cut.
                continue
            shutil.rmtree(scenario.folder)
            shutil.copytree(scenario.template, scenario.folder)
            disk.write_to(scenario.folder, disk.names if names_survive else disk.synced_names)
            listed = scenario.check()
            assert listed or step != ("committed",)
            cuts += 1
            if cuts % 10 == 0:
                scenario.check_next_run(leases_may_stay=True)
            count(Fault.POWER, "backup")

    assert cuts > 40
