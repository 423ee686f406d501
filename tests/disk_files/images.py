"""Disk images with real file systems, made with each one's own tools, without mounting and without root."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from engine.disk_files import Disk
from engine.repository import Consistency, DiskRecord, Point, Repository
from tests.builders import make_vm_facts

MIB = 1 << 20
SBIN = os.environ["PATH"] + ":/usr/sbin:/sbin"
MTIME = 981173106
BIG = random.Random(1).randbytes(5_120_000)


def run(*command: object, stdin: str | None = None) -> str:
    done = subprocess.run(
        [*map(str, command)], input=stdin, capture_output=True, text=True, env={**os.environ, "PATH": SBIN}
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def make_tree(folder: Path, *, many: int = 700) -> Path:
    """What a root file system has, and what is hard to read rightly: holes, long folders, links, odd names."""
    for below in ("etc/deep/er", "usr/bin", "many", "empty"):
        (folder / below).mkdir(parents=True)
    (folder / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (folder / "etc/deep/er/secret").write_bytes(b"s" * 3000)
    (folder / "etc/empty-file").touch()
    (folder / "usr/bin/big").write_bytes(BIG)
    (folder / "usr/bin/big").chmod(0o4755)
    for number in range(many):
        (folder / f"many/file-{number:04}").write_text(f"{number}\n")
    with (folder / "holes").open("wb") as file:
        file.write(b"begin")
        file.seek(5 * MIB)
        file.write(b"middle")
        file.truncate(9 * MIB + 17)
    (folder / os.fsdecode(b"odd \xff\x1b[31mname")).write_text("odd")
    (folder / "bin").symlink_to("usr/bin")
    (folder / "etc/absolute").symlink_to("/usr/bin")
    (folder / "etc/circle").symlink_to("circle")
    (folder / "etc/out").symlink_to("../../../../etc/hosts")
    (folder / "etc/long").symlink_to("x" * 200)
    os.utime(folder / "etc/hosts", (MTIME, MTIME))
    return folder


def ext(image: Path, tree: Path, kind: str = "ext4", *options: str, size: str = "48M") -> Path:
    run("mke2fs", "-q", "-F", "-t", kind, "-L", "system", *options, "-d", tree, image, size)
    return image


def btrfs(image: Path, tree: Path) -> Path:
    run("mkfs.btrfs", "-q", "-L", "system", "--rootdir", tree, image)
    return image


def xfs(image: Path, tree: Path) -> Path:
    """mkfs.xfs takes a list of what to make (xfs_protofile): names without spaces only."""
    image.touch()
    os.truncate(image, 320 * MIB)
    prototype = image.with_suffix(".prototype")
    prototype.write_text("\n".join(["/none", "0 0", "d--755 0 0", *_prototype(tree), "$", ""]))
    run("mkfs.xfs", "-q", "-f", "-L", "system", "-p", prototype, image)
    return image


def _prototype(folder: Path) -> list[str]:
    lines: list[str] = []
    for path in sorted(folder.iterdir()):
        if not path.name.isprintable() or " " in path.name:
            continue
        if path.is_symlink():
            lines.append(f"{path.name} l--777 0 0 {path.readlink()}")
        elif path.is_dir():
            lines += [f"{path.name} d--755 0 0", *_prototype(path), "$"]
        else:
            setuid = "u" if path.stat().st_mode & 0o4000 else "-"
            lines.append(f"{path.name} -{setuid}-{path.stat().st_mode & 0o777:o} 0 0 {path}")
    return lines


def fat(image: Path, tree: Path, *, size_mib: int = 48) -> Path:
    image.touch()
    os.truncate(image, size_mib * MIB)
    run("mkfs.fat", "-n", "SYSTEM", image)
    run("mcopy", "-i", image, "-s", tree / "etc/deep", tree / "many", tree / "etc/hosts", "::/")
    run("mcopy", "-i", image, tree / "usr/bin/big", "::/A long name.dat")
    return image


def ntfs(image: Path, tree: Path) -> Path:
    image.touch()
    os.truncate(image, 48 * MIB)
    run("mkntfs", "-F", "-q", "-L", "system", image)
    run("ntfscp", "-q", image, tree / "etc/hosts", "hosts")
    run("ntfscp", "-q", image, tree / "usr/bin/big", "A long name.dat")
    return image


def partitioned(image: Path, label: str, *parts: Path) -> Path:
    """A disk with these as its partitions, each after a gap."""
    starts: list[int] = []
    at = MIB
    for part in parts:
        starts.append(at)
        at += -(-part.stat().st_size // MIB) * MIB + MIB
    with image.open("wb") as disk:
        disk.truncate(at + MIB)
        for start, part in zip(starts, parts, strict=True):
            disk.seek(start)
            disk.write(part.read_bytes())
    table = [
        f"start={start // 512}, size={part.stat().st_size // 512}" for start, part in zip(starts, parts, strict=True)
    ]
    run("sfdisk", "-q", image, stdin="\n".join([f"label: {label}", *table, ""]))
    return image


def disk(name: str, image: Path, read: Callable[[int, int], bytes] | None = None) -> Disk:
    def from_file(offset: int, length: int) -> bytes:
        with image.open("rb") as file:
            return os.pread(file.fileno(), length, offset)

    return Disk(name, image.stat().st_size, read or from_file)


def keep(place: Path, contents: dict[str, bytes], **facts: object) -> Point:
    """A new repository with a point of the VM `web` that has these disks."""
    with Repository.create(place, name="vault") as repository, repository.writer("tests") as writer:
        disks: list[DiskRecord] = []
        for name, content in contents.items():
            writing = writer.disk(name, len(content), "qcow2")
            for number, start in enumerate(range(0, len(content), writer.block_bytes)):
                piece = content[start : start + writer.block_bytes]
                buffer = writing.buffer()
                buffer[: len(piece)] = piece
                writing.submit(number, buffer, len(piece))
            disks.append(writing.finish("full: first recovery point"))
        return writer.commit(
            vm=make_vm_facts("web", **facts),
            moment=datetime.now(UTC),
            method="hot",
            consistency=Consistency.FILESYSTEM,
            consistency_note="its file systems were frozen",
            disks=tuple(disks),
            files=(writer.file("definition-inactive", "web", b"<domain/>"),),
            writer="0.1.0",
        )
