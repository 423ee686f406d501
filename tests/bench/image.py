"""One realistic disk image, built without root: programs and documents, incompressible data, duplicates, holes.

And the same image some time later, when guests have changed 5 % of its data in pieces of 64 KiB all over the disk.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_MIB = 1024**2
_SEED = 20


_CHANGED_SHARE = 0.05
_CHANGE_BYTES = 64 * 1024


@dataclass(frozen=True)
class Images:
    """The disk in the shapes that the programs take it in."""

    raw: Path
    qcow2: Path
    changed: Path
    """The disk after the changes, raw."""
    changes: Path
    """JSON: offset and length of each change, as a dirty bitmap would tell them."""

    def data_mib(self) -> float:
        """What of the disk is not a hole."""
        return self.raw.stat().st_blocks * 512 / _MIB


def build(folder: Path, size_gib: int) -> Images:
    """Make the images of `size_gib`, about a third full, in `folder`; those of an earlier run are used again."""
    home = folder / f"newhope-bench-{size_gib}g"
    images = Images(home / "disk.raw", home / "disk.qcow2", home / "changed.raw", home / "changes.json")
    if images.changes.exists():
        return images
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    _build_file_system(home / "tree", images.raw, size_gib)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", images.raw, images.qcow2], check=True)
    # The raw one anew, so that what mke2fs wrote as zeroes is a hole as well.
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", images.qcow2, images.changed], check=True)
    images.changed.replace(images.raw)
    subprocess.run(["cp", "--sparse=always", images.raw, images.changed], check=True)
    changes = [(offset, _CHANGE_BYTES) for offset in _change(images.changed)]
    images.changes.write_text(json.dumps(changes))
    return images


def _build_file_system(tree: Path, raw: Path, size_gib: int) -> None:
    budget = size_gib * 1024 // 3
    _copy_programs(tree / "programs", budget // 2 * _MIB)
    _write_noise(tree / "noise", budget // 3 * _MIB)
    _write_duplicates(tree / "duplicates", budget // 6 * _MIB)
    with raw.open("wb") as file:
        file.truncate(size_gib * 1024 * _MIB)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tree, raw], check=True)
    shutil.rmtree(tree)


def _change(disk: Path) -> list[int]:
    """Overwrite pieces of the data all over a disk, half with noise and half with text; where they begin."""
    chance = random.Random(_SEED + 2)
    with disk.open("r+b", buffering=0) as file:
        pieces = sorted(_pieces_with_data(file.fileno()))
        chosen = sorted(chance.sample(pieces, int(len(pieces) * _CHANGED_SHARE)))
        for number, offset in enumerate(chosen):
            noise = chance.randbytes(_CHANGE_BYTES)
            os.pwrite(file.fileno(), noise.hex().encode()[:_CHANGE_BYTES] if number % 2 else noise, offset)
    return chosen


def _pieces_with_data(file: int) -> Iterator[int]:
    size_bytes = os.fstat(file).st_size
    end = 0
    while end < size_bytes:
        try:
            begin = os.lseek(file, end, os.SEEK_DATA)
        except OSError:
            return
        end = os.lseek(file, begin, os.SEEK_HOLE)
        yield from range(-(-begin // _CHANGE_BYTES) * _CHANGE_BYTES, end - _CHANGE_BYTES + 1, _CHANGE_BYTES)


def _copy_programs(folder: Path, budget_bytes: int) -> None:
    folder.mkdir(parents=True)
    taken = 0
    for number, file in enumerate(sorted(Path("/usr").rglob("*"))):
        if taken >= budget_bytes:
            return
        if file.is_symlink() or not file.is_file():
            continue
        try:
            shutil.copyfile(file, folder / f"{number}-{file.name[-80:]}")
        except OSError:
            continue
        taken += file.stat().st_size


def _write_noise(folder: Path, budget_bytes: int) -> None:
    folder.mkdir(parents=True)
    noise = random.Random(_SEED)
    for number in range(max(1, budget_bytes // (16 * _MIB))):
        (folder / str(number)).write_bytes(noise.randbytes(16 * _MIB))


def _write_duplicates(folder: Path, budget_bytes: int) -> None:
    folder.mkdir(parents=True)
    content = random.Random(_SEED + 1).randbytes(8 * _MIB)
    for number in range(max(1, budget_bytes // (8 * _MIB))):
        (folder / str(number)).write_bytes(content)
