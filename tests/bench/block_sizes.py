"""Why a block has 256 KiB: `python -m tests.bench.block_sizes [--size GIB] [--rounds N] [--folder PATH]`.

One disk, repositories with blocks of 64 KiB, 256 KiB and 1 MiB, and the real engine: a full backup; backups of the same
disk after 5 % of its data changed in pieces of 64 KiB, all over it or in clusters of 4 MiB, told by what a dirty bitmap
tells; a restore. Every step is a process of its own; medians, in one run, each round after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from engine import nbd
from engine.backup.disk_copy import copy_changes, copy_disk
from engine.hosts import image as images
from engine.hosts.disk_sink import open_sink
from engine.repository import (
    BlockRun,
    ChangedRange,
    Consistency,
    DiskRecord,
    DiskWriter,
    Repository,
    VmFacts,
    Writer,
    in_blocks,
)
from engine.repository.index_file import PACK, RECORD_BYTES
from engine.restore.step_disks import write_disk
from tests.bench import image

KIB, MIB, TIB = 1 << 10, 1 << 20, 1 << 40
BLOCK_SIZES = (64 * KIB, 256 * KIB, MIB)
UNIT = 64 * KIB
"""What a dirty bitmap tells of at once."""
CLUSTER_UNITS = 64
SHARE = 0.05
IN_FLIGHT = 16
PACK_BYTES = 64 * MIB
Figures = dict[str, float]

_VM = VmFacts(
    "bench", "00000000-0000-4000-8000-000000000001", "bench", 1, 0, "", "", "", "", None, "", False, False, (), ()
)


def main(words: Sequence[str] | None = None) -> None:
    """Build the disks, run every step in turn, print the table. `words` as on the command line, which they replace."""
    arguments = argparse.ArgumentParser(prog="python -m tests.bench.block_sizes", description=__doc__)
    arguments.add_argument("--size", type=int, default=4, metavar="GIB", help="size of the disk image (4)")
    arguments.add_argument("--rounds", type=int, default=3, help="how often each step runs (3)")
    arguments.add_argument("--folder", type=Path, help="where image and results go; needs twice the image's size")
    arguments.add_argument("--image", type=Path, help="a qcow2 image to take instead of one that is built")
    arguments.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    chosen = arguments.parse_args(words)
    if chosen.step:
        name, *words = chosen.step
        print(json.dumps(_timed(STEPS[name], words)))
        return
    with tempfile.TemporaryDirectory(prefix="newhope-blocks-", dir=chosen.folder) as temporary:
        folder = Path(temporary)
        disk = chosen.image or image.build(chosen.folder or folder, chosen.size).qcow2
        measured = _measure(disk, folder, chosen.rounds)
        print("load {:.1f} {:.1f} {:.1f}\n".format(*os.getloadavg()))
        print("\n".join(_table(measured)))


def _measure(disk: Path, folder: Path, rounds: int) -> dict[int, dict[str, list[Figures]]]:
    measured: dict[int, dict[str, list[Figures]]] = {size: {} for size in BLOCK_SIZES}

    def step(size: int, title: str, *words: str) -> None:
        print(f"{size // KIB} KiB: {title}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "tests.bench.block_sizes", "--step", *words]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        measured[size].setdefault(title, []).append(json.loads(done.stdout))

    with images.serve(str(disk), "qcow2", folder / "disk.sock") as address:
        with nbd.Client.connect(address, contexts=(nbd.BASE_ALLOCATION,)) as client:
            changes = {"uniform": _all_over(client), "clustered": _in_clusters(client)}
        for _ in range(rounds):
            for size in BLOCK_SIZES:
                base = folder / f"base-{size}"
                shutil.rmtree(base, ignore_errors=True)
                step(size, "full", "full", str(folder / "disk.sock"), str(base), str(size))
    for pattern, units in changes.items():
        overlay = _changed(disk, folder, pattern, units)
        with images.serve(str(overlay), "qcow2", folder / f"{pattern}.sock"):
            for _ in range(rounds):
                for size in BLOCK_SIZES:
                    for how in ("parts", "whole"):
                        with _copied(folder / f"base-{size}") as copy:
                            told = str(overlay.with_suffix(".json"))
                            socket = str(folder / f"{pattern}.sock")
                            step(size, f"{pattern}, {how}", "incremental", socket, str(copy), told, how)
    for _ in range(rounds):
        for size in BLOCK_SIZES:
            target = folder / "restored.raw"
            step(size, "restore", "restore", str(folder / f"base-{size}"), str(target))
            target.unlink()
    return measured


def _units(client: nbd.Client) -> list[int]:
    """Offsets of the units of the disk that hold data."""
    found: dict[int, None] = {}
    for extent in client.extents(nbd.BASE_ALLOCATION):
        if not extent.flags & nbd.STATE_ZERO:
            end = min(extent.offset + extent.length, client.size_bytes // UNIT * UNIT)
            found.update(dict.fromkeys(range(extent.offset // UNIT * UNIT, end, UNIT)))
    return list(found)


def _all_over(client: nbd.Client) -> list[int]:
    units = _units(client)
    return sorted(random.Random(7).sample(units, round(len(units) * SHARE)))


def _in_clusters(client: nbd.Client) -> list[int]:
    units = _units(client)
    chance = random.Random(8)
    chosen: set[int] = set()
    while len(chosen) < len(units) * SHARE:
        first = chance.randrange(len(units) // CLUSTER_UNITS) * CLUSTER_UNITS
        chosen.update(units[first : first + CLUSTER_UNITS])
    return sorted(chosen)


def _changed(disk: Path, folder: Path, pattern: str, units: list[int]) -> Path:
    """The disk with noise in these units, and beside it a file that names them."""
    overlay = folder / f"{pattern}.qcow2"
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(disk.resolve()), str(overlay)]
    subprocess.run(command, check=True)
    noise = random.Random(9)
    with (
        images.serve(str(overlay), "qcow2", folder / "changing.sock", writable=True) as address,
        nbd.Client.connect(address) as client,
    ):
        for offset in units:
            client.write(offset, noise.randbytes(UNIT))
        client.flush()
    overlay.with_suffix(".json").write_text(json.dumps(units))
    return overlay


@contextmanager
def _copied(repository: Path) -> Iterator[Path]:
    """The same repository once more: objects never change, so links will do."""
    copy = repository.with_name("copy")
    subprocess.run(["cp", "-al", str(repository), str(copy)], check=True)
    try:
        yield copy
    finally:
        shutil.rmtree(copy)


def full(socket: str, folder: str, block_bytes: str) -> Figures:
    """A first backup."""
    with (
        Repository.create(folder, block_bytes=int(block_bytes)) as repository,
        nbd.Client.connect(nbd.UnixAddress(socket), contexts=(nbd.BASE_ALLOCATION,)) as client,
        repository.writer("bench") as writer,
    ):
        disk = writer.disk("vda", client.size_bytes, "qcow2")
        copy_disk(client, disk, writer.block_bytes, lambda _: None, lambda _: None)
        return _commit(writer, disk.finish("full"))


def incremental(socket: str, folder: str, changes: str, how: str) -> Figures:
    """A backup of what changed: with blocks completed from the parent, or all of each read from the disk."""
    units = json.loads(Path(changes).read_text())
    with (
        Repository.open(folder) as repository,
        nbd.Client.connect(nbd.UnixAddress(socket), contexts=(nbd.BASE_ALLOCATION,)) as client,
        repository.writer("bench") as writer,
    ):
        parent = repository.points()[0]
        writer.lean_on(parent)
        disk = writer.disk("vda", client.size_bytes, "qcow2", parent=parent.manifest.disks[0])
        if how == "parts":
            _copy_parts(client, disk, writer.block_bytes, [ChangedRange(offset, UNIT) for offset in units])
        else:
            changed = [(offset, UNIT) for offset in units]
            copy_changes(client, disk, writer.block_bytes, changed, lambda _: None, lambda _: None)
        return _commit(writer, disk.finish("changes"))


def restore(folder: str, target: str) -> Figures:
    """The newest point's disk into a raw image."""
    with Repository.open(folder) as repository, repository.reader() as reader:
        record = repository.points()[0].manifest.disks[0]
        subprocess.run(["qemu-img", "create", "-q", "-f", "raw", target, str(record.size_bytes)], check=True)
        with open_sink(Path(target), "raw", Path(target).with_suffix(".sock")) as sink:
            write_disk(reader, record, sink, lambda _: None, lambda: None)
    return {}


def _copy_parts(client: nbd.Client, disk: DiskWriter, block_bytes: int, changes: Sequence[ChangedRange]) -> None:
    """What the engine does not do, to show what it would cost: read only what changed of a block.

    The repository takes the rest of the block from the parent.
    """
    size_bytes = client.size_bytes
    waiting: dict[int, tuple[memoryview, tuple[tuple[int, int], ...], list[int]]] = {}

    def requests() -> Iterator[nbd.ReadRequest]:
        for each in in_blocks(changes, size_bytes, block_bytes):
            if isinstance(each, BlockRun) and not each.changed:
                disk.same(each.first, each.count)
                continue
            mixed = not isinstance(each, BlockRun)
            for block in (each.block,) if mixed else range(each.first, each.first + each.count):
                start = block * block_bytes
                buffer = disk.buffer()[: min(block_bytes, size_bytes - start)]
                read = each.read if mixed else ((0, len(buffer)),)
                waiting[block] = (buffer, each.same if mixed else (), [len(read)])
                for offset, length in read:
                    yield nbd.ReadRequest(start + offset, buffer[offset : offset + length])

    for request in client.read_many(requests(), in_flight=IN_FLIGHT):
        block = request.offset // block_bytes
        buffer, same, missing = waiting[block]
        missing[0] -= 1
        if not missing[0]:
            del waiting[block]
            disk.submit(block, buffer, len(buffer), same=same)


def _commit(writer: Writer, record: DiskRecord) -> Figures:
    point = writer.commit(
        vm=_VM,
        moment=datetime.now(UTC),
        method="hot",
        consistency=Consistency.CRASH,
        consistency_note="a benchmark",
        disks=(record,),
        files=(),
        writer="bench",
    )
    return {"new_mib": point.manifest.new_bytes / MIB, "blocks": writer.stats.new_blocks}


STEPS: dict[str, Callable[..., Figures]] = {"full": full, "incremental": incremental, "restore": restore}


def _timed(step: Callable[..., Figures], words: Sequence[str]) -> Figures:
    begun = time.monotonic()
    figures = step(*words)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {**figures, "wall_s": time.monotonic() - begun, "cpu_s": used.ru_utime + used.ru_stime}


def _table(measured: dict[int, dict[str, list[Figures]]]) -> Iterator[str]:
    def middle(size: int, title: str, figure: str) -> float:
        return statistics.median(figures[figure] for figures in measured[size][title])

    def row(title: str, show: Callable[[int], str]) -> str:
        return f"| {title} | {' | '.join(show(size) for size in BLOCK_SIZES)} |"

    def seconds(title: str) -> Callable[[int], str]:
        return lambda size: f"{middle(size, title, 'wall_s'):.2f} s ({middle(size, title, 'cpu_s'):.2f})"

    def stored(title: str) -> Callable[[int], str]:
        return lambda size: f"{middle(size, title, 'new_mib'):.0f} MiB"

    yield row("block size", lambda size: f"{size // KIB} KiB")
    yield "|" + "---|" * (1 + len(BLOCK_SIZES))
    yield row("full backup (CPU)", seconds("full"))
    yield row("stored by it", stored("full"))
    for pattern, text in (("uniform", "all over the disk"), ("clustered", "in clusters of 4 MiB")):
        yield row(f"5 % changed {text}: rest of a block from the parent (CPU)", seconds(f"{pattern}, parts"))
        yield row("... all of a block from the disk (CPU)", seconds(f"{pattern}, whole"))
        yield row("... stored by it", stored(f"{pattern}, parts"))
    yield row("restore to a raw file (CPU)", seconds("restore"))
    yield row("blocks in 10 TiB", lambda size: f"{10 * TIB // size / 1e6:.0f} million")
    yield row("index on disk for them", lambda size: f"{10 * TIB // size * RECORD_BYTES / 2**30:.1f} GiB")
    packs = 10 * TIB // PACK_BYTES * PACK.size
    yield row("memory to open it", lambda _: f"{packs / MIB:.0f} MiB")
    yield row("map of such a disk", lambda size: f"{10 * TIB // size * 32 * 257 / 256 / MIB:.0f} MiB")


if __name__ == "__main__":
    main()
