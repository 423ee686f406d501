"""One realistic disk image, built without root: programs and documents, incompressible data, duplicates, holes."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

_MIB = 1024**2
_SEED = 20


def build(folder: Path, size_gib: int) -> Path:
    """A qcow2 image of `size_gib`, about a third full, with an ext4 file system; kept in `folder` for the next run."""
    image = folder / f"disk-{size_gib}g.qcow2"
    if image.exists():
        return image
    tree = folder / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    budget = size_gib * 1024 // 3
    _copy_programs(tree / "programs", budget // 2 * _MIB)
    _write_noise(tree / "noise", budget // 3 * _MIB)
    _write_duplicates(tree / "duplicates", budget // 6 * _MIB)
    raw = folder / "disk.raw"
    raw.unlink(missing_ok=True)
    with raw.open("wb") as file:
        file.truncate(size_gib * 1024 * _MIB)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tree, raw], check=True)
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, image.with_suffix(".part")], check=True)
    image.with_suffix(".part").rename(image)
    raw.unlink()
    shutil.rmtree(tree)
    return image


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
