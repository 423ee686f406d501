"""What the index of 10 TiB costs: `python -m tests.bench.index_scale [--millions N] [--folder PATH]`.

An index file of 40 million records is really built, opened, looked up in and merged, each in a process of its own, and
what the process read and held is what the kernel counted. The same for a smaller one in a bucket, where requests count.
The printed load tells how far the times may be believed; bytes and requests do not depend on it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from engine.repository.directory_storage import DirectoryStorage
from engine.repository.index import Index
from engine.repository.index_file import BUCKETS, PLACE, IndexFile, encode_index, index_content, index_key
from engine.repository.index_merge import write_merged
from engine.repository.pack import PackEntry, SealedPack
from engine.repository.reachable import Reachable

BLOCKS_A_PACK = 250
SAMPLES = 100_000
Figures = dict[str, float]


def main(words: Sequence[str] | None = None) -> None:
    """Build what is missing, run every step, print the table. `words` as on the command line, which they replace."""
    arguments = argparse.ArgumentParser(prog="python -m tests.bench.index_scale", description=__doc__)
    arguments.add_argument("--millions", type=float, default=40.0, help="records in the index, in millions (40)")
    arguments.add_argument("--bucket-millions", type=float, default=2.0, help="records of the one in a bucket (2)")
    arguments.add_argument("--folder", type=Path, help="where the index goes: 1.8 GB for 40 million, and as much again")
    arguments.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    chosen = arguments.parse_args(words)
    if chosen.step:
        name, folder = chosen.step
        print(json.dumps(STEPS[name](Path(folder))))
        return
    with tempfile.TemporaryDirectory(prefix="newhope-index-", dir=chosen.folder) as temporary:
        folder = Path(temporary)
        built = build(folder, round(chosen.millions * 1_000_000), seed=1)
        opened, looked, marked, merged = (_step(name, folder) for name in ("open", "look", "mark", "merge"))
        print(f"### An index of {built['records'] / 1e6:g} million blocks\n\nload {_load()}\n")
        for line in _lines(built, opened, looked, marked, merged):
            print(line)
    with tempfile.TemporaryDirectory(prefix="newhope-index-", dir=chosen.folder) as temporary:
        folder = Path(temporary)
        built = build(folder, round(chosen.bucket_millions * 1_000_000), seed=2)
        print(f"\n### An index of {built['records'] / 1e6:g} million blocks in a bucket\n")
        for line in in_a_bucket(folder):
            print(line)


def build(folder: Path, records: int, seed: int) -> Figures:
    """An index file over packs of 250 random names each, and a sample of the names beside it."""
    chance = random.Random(seed)
    per_bucket = records // BUCKETS
    packs = [(chance.randbytes(32), 64 << 20) for _ in range(max(1, records // BLOCKS_A_PACK))]
    sampled: list[bytes] = []

    def buckets() -> Iterator[list[bytes]]:
        for first in range(BUCKETS):
            raw = chance.randbytes(per_bucket * 31)
            numbers = chance.choices(range(len(packs)), k=per_bucket)
            place = PLACE.pack
            bucket = sorted(
                bytes([first]) + raw[at * 31 : at * 31 + 31] + place(number, (at * 9973) % (60 << 20), 100_000)
                for at, number in enumerate(numbers)
            )
            sampled.extend(record[:32] for record in chance.sample(bucket, min(per_bucket, SAMPLES // BUCKETS)))
            yield bucket

    begun = time.monotonic()
    storage = DirectoryStorage(folder)
    new = storage.open_new()
    for piece in encode_index(buckets(), packs, (), 1):
        new.write(piece)
    new.finish(index_key("f" * 64))
    chance.shuffle(sampled)
    (folder / "sample").write_bytes(b"".join(sampled))
    size = storage.size(index_key("f" * 64))
    return {"records": per_bucket * BUCKETS, "packs": len(packs), "bytes": size, "wall_s": time.monotonic() - begun}


def open_it(folder: Path) -> Figures:
    """Open the index of a repository, as every command does."""
    forget_cached(folder)
    before = memory()
    with cost() as figures:
        index = Index(DirectoryStorage(folder))
        index.refresh()
    return {**figures, **grown(before), "files": len(index.files())}


def look_up(folder: Path) -> Figures:
    """Look names up: known and unknown ones, from a cold disk and from the kernel's cache."""
    sample = names(folder)
    forget_cached(folder)
    index = Index(DirectoryStorage(folder))
    index.refresh()
    chance = random.Random(3)
    unknown = [chance.randbytes(32) for _ in range(len(sample))]
    few = sample[:4000]
    before = memory()
    with cost() as cold:
        assert all(index.find(name) for name in few)
    with cost() as warm:
        assert all(index.find(name) for name in few)
    with cost() as missing:
        assert not any(index.find(name) for name in unknown)
    with cost() as known:
        assert all(index.find(name) for name in sample)
    return {
        "cold_a_second": len(few) / cold["wall_s"],
        "cold_disk_bytes": cold["disk_bytes"] / len(few),
        "warm_a_second": len(few) / warm["wall_s"],
        "unknown_a_second": len(unknown) / missing["wall_s"],
        "known_a_second": len(sample) / known["wall_s"],
        **grown(before),
    }


def mark(folder: Path) -> Figures:
    """What a collection holds: a bit for each record, and the use of each pack."""
    sample = names(folder)
    index = Index(DirectoryStorage(folder))
    index.refresh()
    before = memory()
    with cost() as figures:
        reachable = Reachable(index.files(), lambda name, length, of: bytes(length), 256 << 10)
        for name in sample:
            reachable._mark(name)
        uses = reachable.use_of_packs()
    assert sum(use.live_blocks for use in uses.values()) == len(set(sample))
    return {**figures, **grown(before)}


def merge(folder: Path) -> Figures:
    """Merge it with eight index files as a backup of 16 GiB each leaves them."""
    storage = DirectoryStorage(folder)
    chance = random.Random(4)
    for number in range(8):
        entries = tuple(PackEntry(chance.randbytes(32), 32 + at, 99, 262144, 1, 1) for at in range(65536))
        content = index_content([SealedPack(bytes([number]) * 32, 64 << 20, entries)], 2 + number)
        storage.create(index_key(f"{number:064x}"), content)
        del entries, content
    files = [IndexFile(f"{number:064x}", storage.ranges(index_key(f"{number:064x}"))) for number in range(7, -1, -1)]
    files.append(IndexFile("f" * 64, storage.ranges(index_key("f" * 64))))
    # From now on the kernel counts the peak anew (proc(5)).
    Path("/proc/self/clear_refs").write_text("5")
    peak_before = peak()
    before = memory()
    with cost() as figures:
        name = write_merged(storage, files, 99)
    merged = IndexFile(name, storage.ranges(index_key(name)))
    assert merged.count == sum(file.count for file in files)
    assert all(merged.find(each) for each in names(folder)[:1000])
    return {**figures, **grown(before), "peak_bytes": peak() - peak_before, "count": merged.count}


def in_a_bucket(folder: Path) -> Iterator[str]:
    """How many requests it takes to open an index in a bucket, and to look names up in it."""
    from tests.repository.misbehaving_s3 import misbehaving
    from tests.repository.s3_server import CREDENTIALS, s3_server

    os.environ.update(CREDENTIALS)
    from engine.repository.s3_address import S3Address
    from engine.repository.s3_storage import S3Storage

    key = index_key("f" * 64)
    sample = names(folder)
    with s3_server() as server:
        server.make_bucket("bench")
        content = (folder / key).read_bytes()
        S3Storage(S3Address("bench", "vault", server.endpoint)).create(key, content)
        yield f"{len(content) / 2**20:.0f} MiB\n"
        yield "| names looked up | requests | MiB fetched |"
        yield "|---|---|---|"
        for count in (0, 1, 10, 100, 1000, 10_000):
            with misbehaving(server) as proxy:
                index = Index(S3Storage(S3Address("bench", "vault", proxy.endpoint)))
                index.refresh()
                assert all(index.find(name) for name in sample[:count])
                asked = [
                    (headers.get("range", ""), request)
                    for headers, request in zip(proxy.headers, proxy.requests, strict=True)
                    if key in request
                ]
            fetched = sum(_range_bytes(text, len(content)) for text, _ in asked)
            yield f"| {count} | {len(asked)} | {fetched / 2**20:.2f} |"


def _range_bytes(text: str, size: int) -> int:
    first, _, last = text.removeprefix("bytes=").partition("-")
    return min(int(last), size - 1) - int(first) + 1 if first and last else size


STEPS: dict[str, Callable[[Path], Figures]] = {"open": open_it, "look": look_up, "mark": mark, "merge": merge}


def _step(name: str, folder: Path) -> Figures:
    print(f"step {name}", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "tests.bench.index_scale", "--step", name, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def _lines(built: Figures, opened: Figures, looked: Figures, marked: Figures, merged: Figures) -> Iterator[str]:
    records = built["records"]

    def each(figures: Figures, what: str) -> str:
        return f"{figures[what] / 2**20:.1f} MiB, {figures[what] / records:.2f} bytes a block"

    yield "| | |"
    yield "|---|---|"
    yield f"| on disk | {built['bytes'] / 2**20:.0f} MiB, {built['bytes'] / records:.2f} bytes a block |"
    yield f"| read to open it | {opened['read_bytes'] / 2**20:.2f} MiB of it, {opened['wall_s']:.2f} s |"
    yield f"| memory, open: anonymous | {each(opened, 'anonymous')} |"
    yield f"| memory, open: of files | {each(opened, 'of_files')} |"
    yield f"| memory after {2 * SAMPLES:,} look-ups: anonymous, more | {each(looked, 'anonymous')} |"
    yield f"| memory after {2 * SAMPLES:,} look-ups: of files, more | {each(looked, 'of_files')} |"
    yield f"| look-ups a second, nothing cached | {looked['cold_a_second']:,.0f} |"
    yield f"| read from the disk for each of them | {looked['cold_disk_bytes'] / 1024:.1f} KiB |"
    yield f"| look-ups a second, cached | {looked['warm_a_second']:,.0f} |"
    yield f"| unknown names a second | {looked['unknown_a_second']:,.0f} |"
    yield f"| a collection's marks and use of packs | {each(marked, 'anonymous')}; {marked['wall_s']:.0f} s |"
    speed = merged["count"] / merged["wall_s"]
    yield f"| merging it with 8 small ones | {merged['wall_s']:.0f} s, {speed:,.0f} records/s |"
    yield f"| peak memory of merging, more than before | {merged['peak_bytes'] / 2**20:.1f} MiB |"


def names(folder: Path) -> list[bytes]:
    """The names of the sample."""
    content = (folder / "sample").read_bytes()
    return [content[at : at + 32] for at in range(0, len(content), 32)]


def forget_cached(folder: Path) -> None:
    """Let the kernel drop what it has cached of the index files."""
    for path in (folder / "index").iterdir():
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


@contextmanager
def cost() -> Iterator[Figures]:
    """Wall clock, bytes asked of the system, and bytes that came from a disk."""
    figures: Figures = {}
    before, begun = _io(), time.monotonic()
    yield figures
    after = _io()
    figures["wall_s"] = time.monotonic() - begun
    figures["read_bytes"] = after["rchar"] - before["rchar"]
    figures["disk_bytes"] = after["read_bytes"] - before["read_bytes"]


def _io() -> dict[str, int]:
    return {
        name.rstrip(":"): int(value) for name, value in map(str.split, Path("/proc/self/io").read_text().splitlines())
    }


def memory() -> Figures:
    """What this process holds now."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    return {
        "anonymous": int(fields["RssAnon"].split()[0]) * 1024.0,
        "of_files": int(fields["RssFile"].split()[0]) * 1024.0,
    }


def grown(before: Figures) -> Figures:
    """What this process holds more than before."""
    now = memory()
    return {name: now[name] - value for name, value in before.items()}


def peak() -> float:
    """The most memory that this process has had."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024.0


def _load() -> str:
    return "{:.1f} {:.1f} {:.1f}".format(*os.getloadavg())


if __name__ == "__main__":
    main()
