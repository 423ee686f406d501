"""`./dev bench [--size GIB] [--rounds N]`: measure and print the tables."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from engine import nbd
from engine.hosts import image as images
from tests.bench import image
from tests.bench.measure import Row, table


def main() -> None:
    """Build the image, run every row in turn, print the tables."""
    arguments = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    arguments.add_argument("--size", type=int, default=4, metavar="GIB", help="size of the disk image (4)")
    arguments.add_argument("--rounds", type=int, default=5, help="how often each row runs (5)")
    arguments.add_argument("--folder", type=Path, help="where image and results go; needs twice the image's size")
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="newhope-bench-", dir=chosen.folder) as temporary:
        folder = Path(temporary)
        disk = image.build(chosen.folder or folder, chosen.size)
        with images.serve(str(disk), "qcow2", folder / "disk.sock") as address:
            full = _full_rows(disk, address)
            _measure(full, folder, chosen.rounds)
            print(table(f"Full backup of a {chosen.size} GiB disk", full, full[0]))
            repository = folder / "repository"
            subprocess.run(full[0].command(repository), check=True)
        restores = _restore_rows(disk, repository)
        _measure(restores, folder, chosen.rounds)
        print(table("Restore to a raw file", restores, restores[0]))


def _full_rows(disk: Path, address: nbd.UnixAddress) -> list[Row]:
    socket = str(address.path)
    uri = f"nbd+unix:///?socket={socket}"
    return [
        Row("newhope", lambda folder: _ours("backup", socket, str(folder))),
        Row("nbdcopy to nothing (limit: reading)", lambda _: ["nbdcopy", uri, "null:"]),
        Row("nbdcopy to a raw file", lambda folder: ["nbdcopy", uri, str(folder / "disk.raw")]),
        Row(
            "qemu-img convert -c, zstd, 16 at once",
            lambda folder: [
                *("qemu-img", "convert", "-c", "-W", "-m", "16", "-O", "qcow2", "-o", "compression_type=zstd"),
                *(str(disk), str(folder / "disk.qcow2")),
            ],
        ),
    ]


def _restore_rows(disk: Path, repository: Path) -> list[Row]:
    return [
        Row("newhope", lambda folder: _ours("restore", str(repository), str(folder / "disk.raw"))),
        Row(
            "qemu-img convert to raw (no decompression)",
            lambda folder: ["qemu-img", "convert", "-O", "raw", str(disk), str(folder / "disk.raw")],
        ),
    ]


def _ours(*words: str) -> list[str]:
    return [sys.executable, "-m", "tests.bench.ours", *words]


def _measure(rows: Sequence[Row], folder: Path, rounds: int) -> None:
    for number in range(rounds):
        for row in rows:
            print(f"round {number + 1} of {rounds}: {row.name}", file=sys.stderr, flush=True)
            target = folder / "result"
            target.mkdir()
            try:
                row.run(target)
            finally:
                shutil.rmtree(target)


if __name__ == "__main__":
    main()
