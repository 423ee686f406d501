"""`./dev bench [--table NAME] [--size GIB] [--rounds N]`: measure, and print Markdown tables.

Five of the tables, against other programs, belong together: full, incremental, restore (to a raw file),
restore-qcow2 and restore-two (two disks at once). Two more tell why the
repository is as it is, take long, and are made only when asked for: blocks, index. due is about many VMs, sparse
about a large disk that is nearly empty, latency about what a guest notices, instant about when it is ready.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from engine import nbd
from engine.hosts import image as images_of_hosts
from tests.bench import (
    block_sizes,
    due,
    full,
    image,
    incremental,
    index_scale,
    instant,
    latency,
    ours,
    peers,
    restores,
    sparse,
)
from tests.bench.measure import Row, run_rows, table
from tests.bench.promises import Promise, below
from tests.bench.promises import table as table_of_promises

TABLES = ("full", "incremental", "restore", "restore-qcow2", "restore-two")
OWN_TABLES = ("blocks", "index", "due", "sparse", "latency", "instant")
"""Made by programs of their own, without peers and promises."""
SHARES = {"full": 0.35, "incremental": 0.25, "restore": 0.15, "restore-qcow2": 0.1, "restore-two": 0.15}
"""Of the time there is. What a table leaves goes to those that follow."""
MOST_MEMORY_MIB = 300


def main() -> None:
    """Build the images, run every row of the chosen tables in turn, print the tables."""
    arguments = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    arguments.add_argument(
        "--table", action="append", choices=(*TABLES, *OWN_TABLES), help="only this; may be repeated"
    )
    arguments.add_argument("--size", type=int, default=8, metavar="GIB", help="size of the disk image (8)")
    arguments.add_argument("--rounds", type=int, default=5, help="how often each row runs at most (5)")
    arguments.add_argument("--millions", type=float, default=40.0, help="blocks of the index table, in millions (40)")
    arguments.add_argument("--vms", type=int, default=200, help="VMs on the host of the due table (200)")
    arguments.add_argument("--minutes", type=float, default=18, help="no new round begins after these (18)")
    arguments.add_argument(
        "--limit", type=float, default=180, metavar="S", help="a row that takes longer is given up (180)"
    )
    arguments.add_argument(
        "--folder",
        type=Path,
        default=Path.home() / ".cache" / "newhope-bench",
        help="where images and results go (~/.cache/newhope-bench); needs six times the image's size",
    )
    chosen = arguments.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    if not chosen.table or set(TABLES) & set(chosen.table):
        _against_others(chosen)
    folder = ["--folder", str(chosen.folder)]
    if chosen.table and "blocks" in chosen.table:
        block_sizes.main([*folder, "--size", str(chosen.size), "--rounds", str(chosen.rounds)])
    if chosen.table and "index" in chosen.table:
        index_scale.main([*folder, "--millions", str(chosen.millions)])
    if chosen.table and "sparse" in chosen.table:
        sparse.main([*folder, "--rounds", str(chosen.rounds)])
    if chosen.table and "latency" in chosen.table:
        latency.main(["--rounds", str(chosen.rounds)])
    if chosen.table and "instant" in chosen.table:
        instant.main(["--rounds", str(chosen.rounds)])
    if chosen.table and "due" in chosen.table:
        due.main(["--vms", str(chosen.vms), "--rounds", str(chosen.rounds)])


def _against_others(chosen: argparse.Namespace) -> None:
    """The tables with peers, and what was promised of them."""
    with ExitStack() as stack:
        temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="run-", dir=chosen.folder))
        bench = _Bench(Path(temporary), image.build(chosen.folder, chosen.size), chosen, stack)
        print(_heading(bench.images, chosen.size), flush=True)
        promises: list[Promise] = []
        begun = time.monotonic()
        share = 0.0
        tables = [name for name in TABLES if not chosen.table or name in chosen.table]
        for name in tables:
            share += SHARES[name] / sum(SHARES[other] for other in tables)
            promises += bench.run(name, begun + share * chosen.minutes * 60)
        promises.append(
            below(f"peak memory below {MOST_MEMORY_MIB} MiB", bench.our_rows, "peak_mib", MOST_MEMORY_MIB, "MiB")
        )
        print(table_of_promises(promises), flush=True)


class _Bench:
    """The images, their servers and the repositories that tables share, each made when it is first needed."""

    def __init__(self, folder: Path, images: image.Images, chosen: argparse.Namespace, stack: ExitStack) -> None:
        self._folder = folder
        self.images = images
        self._chosen = chosen
        self._stack = stack
        self.our_rows: list[Row] = []

    def run(self, name: str, until: float) -> list[Promise]:
        """Measure and print one table; what it says of the promises."""
        make, title, judge = self._tables()[name]
        rows = make()
        size_bytes = sum(file.stat().st_blocks * 512 for file in self._warm)
        if size_bytes > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * 0.6:
            print("the images do not fit into the page cache: rows may wait for the disk", file=sys.stderr)
        rounds = run_rows(
            rows, self._folder, self._chosen.rounds, limit_s=self._chosen.limit, until=until, warm=self._warm
        )
        print(table(f"{title} of {self._chosen.size} GiB", rows, rounds), flush=True)
        self.our_rows += [row for row in rows if row.name.startswith("newhope")]
        return judge(rows)

    def _tables(self) -> dict[str, tuple[Callable[[], list[Row]], str, Callable[[Sequence[Row]], list[Promise]]]]:
        return {
            "full": (self._full, "Full backup of a disk", full.promises),
            "incremental": (
                self._incremental,
                "Incremental backup, 5 % changed in pieces of 64 KiB, of a disk",
                incremental.promises,
            ),
            "restore": (self._restore, "Restore to a raw file of a disk", restores.promises),
            "restore-qcow2": (self._restore_qcow2, "Restore to a qcow2 file of a disk", restores.no_promises),
            "restore-two": (self._restore_two, "Restore at once of two disks", restores.no_promises),
        }

    def _full(self) -> list[Row]:
        return full.rows(self.images, self._served, [*self._rivals, peers.borg_of_debian()])

    def _incremental(self) -> list[Row]:
        changed = self._serve(self.images.changed, "raw")
        return incremental.rows(self.images, changed, self._served, self._repository, self._rivals, self._bases)

    def _restore(self) -> list[Row]:
        return restores.to_raw(self.images, self._repository, self._encrypted, self._rivals, self._bases)

    def _restore_qcow2(self) -> list[Row]:
        return restores.to_qcow2(self.images, self._repository, self._encrypted, self._both)

    def _restore_two(self) -> list[Row]:
        return restores.two_at_once(self.images, self._rivals, self._both)

    @property
    def _warm(self) -> list[Path]:
        return [self.images.raw, self.images.qcow2, self.images.changed]

    @cached_property
    def _rivals(self) -> list[peers.Peer]:
        return [peers.restic(), peers.borg_best(self._chosen.folder)]

    @cached_property
    def _served(self) -> nbd.UnixAddress:
        return self._serve(self.images.qcow2, "qcow2")

    def _serve(self, path: Path, image_format: str) -> nbd.UnixAddress:
        return self._stack.enter_context(images_of_hosts.serve(path, image_format, self._folder / f"{path.stem}.sock"))

    @cached_property
    def _repository(self) -> Path:
        return self._filled("backup")

    @cached_property
    def _encrypted(self) -> Path:
        return self._filled("backup-encrypted")

    def _filled(self, verb: str) -> Path:
        print("making a repository to begin with", file=sys.stderr, flush=True)
        home = self._folder / f"base-{verb}"
        home.mkdir()
        environment = {**os.environ, **ours.environment(home)}
        subprocess.run(ours.command(verb, self._served.path, home), env=environment, check=True)
        return home

    @cached_property
    def _bases(self) -> dict[str, Path]:
        return full.base_repositories(self._folder, self._rivals, self.images.raw)

    @cached_property
    def _both(self) -> restores.Backups:
        print("backing two disks up with every program", file=sys.stderr, flush=True)
        changed = self._serve(self.images.changed, "raw")
        return restores.fill_both(self._folder / "both", self.images, (self._served.path, changed.path), self._rivals)


def _heading(images: image.Images, size_gib: int) -> str:
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1024**3
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} processors ({_processor()}), {memory_gib:.0f} GiB of memory, "
        f"Linux {platform.release()}, Python {platform.python_version()}; a disk of {size_gib} GiB with "
        f"{images.data_mib():.0f} MiB of data. Rows ran in turn; what they read was in the page cache, and their time "
        "ends when what they wrote is on the disk. CPU counts the NBD server that a row reads from.\n"
    )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


if __name__ == "__main__":
    main()
