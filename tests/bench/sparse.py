"""A large, nearly empty disk of which one percent has changed: `./dev bench --table sparse`.

64 GiB with 2 GiB of data in pieces of 1 MiB all over it, half of it noise, half of it text; one percent of that is then
overwritten in pieces of 64 KiB, through qemu-nbd, so that the image's own dirty bitmap tells which. newhope asks that
bitmap; so does `nbdcopy`, which reads nothing else (nbdinfo's map is the extent list of an nbdkit before it). The
others have no bitmap to ask, and read the disk, as a raw file whose holes they may find.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from engine import nbd
from engine.hosts import image as images_of_hosts
from tests.bench import peers
from tests.bench.full import base_repositories
from tests.bench.image import Images
from tests.bench.measure import Row, run_rows, table
from tests.bench.ours import command, environment

MIB = 1024**2
CHANGE_BYTES = 64 * 1024
BITMAP = "b0"
SHARE = 0.01
_SEED = 64
_DIRTY = (
    "import json, sys\n"
    "for each in json.load(sys.stdin): print(each['offset'], each['length'], '' if each['type'] else 'hole,zero')\n"
)


def main(words: list[str]) -> None:
    """Build the disk, fill the repositories, measure, print the table."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--folder", type=Path, required=True)
    arguments.add_argument("--size", type=int, default=64, help="GiB")
    arguments.add_argument("--data", type=int, default=2048, help="MiB")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--limit", type=float, default=900)
    chosen = arguments.parse_args(words)
    with tempfile.TemporaryDirectory(prefix="sparse-", dir=chosen.folder) as temporary, ExitStack() as stack:
        folder = Path(temporary)
        images = _build(folder, chosen.size, chosen.data)
        rivals = [peers.restic(), peers.borg_best(chosen.folder)]
        bases = base_repositories(folder, rivals, images.raw)
        served = stack.enter_context(images_of_hosts.serve(images.qcow2, "qcow2", folder / "before.sock"))
        home = folder / "base-newhope"
        home.mkdir()
        subprocess.run(command("backup", served.path, home), env={**os.environ, **environment(home)}, check=True)
        changed_mib = _change(images, folder)
        changed = stack.enter_context(
            images_of_hosts.serve(images.changed, "qcow2", folder / "after.sock", bitmap=BITMAP)
        )
        raw = folder / "changed.raw"
        subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", images.changed, raw], check=True)
        rows = _rows(changed, home, raw, rivals, bases)
        begun = time.monotonic()
        rounds = run_rows(
            rows, folder, chosen.rounds, limit_s=chosen.limit, until=begun + 1800, warm=[raw, images.changed]
        )
        title = (
            f"Incremental backup of {changed_mib:.0f} MiB that have changed among {chosen.data} MiB of data,"
            f" of a {chosen.size} GiB disk"
        )
        print(table(title, rows, rounds))


def _rows(
    changed: nbd.UnixAddress, home: Path, raw: Path, rivals: list[peers.Peer], bases: dict[str, Path]
) -> list[Row]:
    # The extent list calls everything else a hole that is zero, which nbdcopy does not read.
    nbdinfo = f"nbdinfo --json --map=qemu:dirty-bitmap:{BITMAP} '{changed.uri()}'"
    nbdkit = f"nbdkit -r --filter=extentlist nbd 'uri={changed.uri()}' extentlist=extents"
    read_dirty = f'{nbdinfo} | {sys.executable} -c "$1" > extents && nbdcopy --destination-is-zero -- [ {nbdkit} ]'
    return [
        Row(
            "newhope, asking the dirty bitmap",
            lambda folder: command("bitmap", changed.path, folder, BITMAP),
            environment,
            home,
        ),
        Row("newhope, reading all", lambda folder: command("backup", changed.path, folder), environment, home),
        Row(
            f"nbdcopy {peers.version_of('nbdcopy')}, dirty extents to nothing",
            lambda _: ["sh", "-ec", f"{read_dirty} null:", "sh", _DIRTY],
        ),
        Row(
            "nbdcopy, dirty extents to a raw file",
            lambda _: ["sh", "-ec", f"{read_dirty} disk.raw", "sh", _DIRTY],
        ),
        *(
            Row(
                peer.name,
                lambda _, peer=peer: [*peer.backup, str(raw)],
                peer.environment,
                bases.get(peer.name),
                failure="" if peer.name in bases else "it made no repository",
            )
            for peer in rivals
        ),
    ]


def _build(folder: Path, size_gib: int, data_mib: int) -> Images:
    """The disk raw and as qcow2; and a second qcow2 with a dirty bitmap, which is still as the first."""
    images = Images(folder / "disk.raw", folder / "disk.qcow2", folder / "changed.qcow2", folder / "changes.json")
    chance = random.Random(_SEED)
    step = size_gib * 1024 // data_mib * MIB
    with images.raw.open("wb") as file:
        file.truncate(size_gib * 1024 * MIB)
        for number in range(data_mib):
            noise = chance.randbytes(MIB // 2)
            os.pwrite(file.fileno(), noise + noise.hex().encode()[: MIB // 2], number * step)
    convert = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2"]
    subprocess.run([*convert, images.raw, images.qcow2], check=True)
    shutil.copyfile(images.qcow2, images.changed)
    subprocess.run(["qemu-img", "bitmap", "--add", images.changed, BITMAP], check=True)
    return images


def _change(images: Images, folder: Path) -> float:
    """Overwrite the share of the data, noise with noise and text with text; how many MiB."""
    chance = random.Random(_SEED + 1)
    with (
        images_of_hosts.serve(images.changed, "qcow2", folder / "writing.sock", writable=True) as address,
        nbd.Client.connect(address, contexts=(nbd.BASE_ALLOCATION,)) as client,
    ):
        places = [
            offset
            for extent in client.extents(nbd.BASE_ALLOCATION)
            if not extent.is_zero
            for offset in range(extent.offset, extent.offset + extent.length - CHANGE_BYTES + 1, CHANGE_BYTES)
        ]
        chosen = chance.sample(places, int(len(places) * SHARE))
        for number, offset in enumerate(chosen):
            noise = chance.randbytes(CHANGE_BYTES)
            client.write(offset, noise if number % 2 else noise.hex().encode()[:CHANGE_BYTES])
        client.flush()
    return len(chosen) * CHANGE_BYTES / MIB
