"""What a guest, or a broken disk, can do to whoever reads its file systems: nothing but make them say so."""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.disk_files import Disk, DiskFiles, FileSystemUnreadable, open_disks
from engine.disk_files.browsing import MAX_ENDED
from engine.disk_files.confinement import MEMORY_BYTES
from engine.errors import NewhopeError
from engine.file_entry import FileKind
from tests.disk_files import images
from tests.disk_files.images import BIG, disk
from tests.faults.figures import Fault, count

IMAGES = 60
"""Damaged images of each kind, read whole, several in one process."""
AT_ONCE = 20
PATIENCE_S = 3.0
WORDS = (0, 1, 2, 0x7F, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def walk(files: DiskFiles, volume: str) -> int:
    """Read everything that can be read, as somebody who gets the whole volume does; answers how many names."""
    seen = 0
    left: list[tuple[bytes, ...]] = [()]
    while left and seen < 3000:
        path = left.pop()
        try:
            entries, _ = files.entries(volume, path)
        except FileSystemUnreadable as error:
            assert error.next_step
            continue
        for entry in entries:
            seen += 1
            assert b"/" not in entry.path and entry.path not in (b"", b".", b"..")
            if entry.kind is FileKind.FOLDER:
                left.append((*path, entry.path))
            elif entry.kind is FileKind.FILE:
                try:
                    files.read(volume, (*path, entry.path), 0, 1 << 20)
                except NewhopeError as error:
                    assert error.next_step
    return seen


class Damaged:
    """An image with a few places in its structures changed: bits, numbers, blocks in the place of others."""

    def __init__(self, sound: bytes, used: list[int], chance: random.Random) -> None:
        self._sound = sound
        self._changes: dict[int, bytes] = {}
        for _ in range(chance.choice((1, 3, 10, 40))):
            self._change(used, chance)

    def _change(self, used: list[int], chance: random.Random) -> None:
        # The first sectors are what the parsers live on.
        sector = chance.choice(used[: chance.choice((1, 3, 40, len(used)))])
        at = sector + 4 * chance.randrange(128)
        match chance.randrange(4):
            case 0:
                change = bytes([self._sound[at] ^ 1 << chance.randrange(8)])
            case 1:
                change = chance.choice(WORDS).to_bytes(4, chance.choice(("little", "big")))
            case 2:
                other = chance.choice(used)
                at, change = sector, self._sound[other : other + 512]
            case _:
                other = chance.choice(used) + 4 * chance.randrange(128)
                change = self._sound[other : other + 4]
        self._changes[at] = change

    def read(self, offset: int, length: int) -> bytes:
        """As `Disk` asks for it."""
        data = bytearray(self._sound[offset : offset + length])
        for at, change in self._changes.items():
            if offset <= at and at + len(change) <= offset + length:
                data[at - offset : at - offset + len(change)] = change
        return bytes(data)


def sectors_of_structures(image: Path) -> list[int]:
    """Where what a reader looked at to list all names is not zero."""
    looked_at: set[int] = set()
    of_file = disk("vda", image)

    def noted(offset: int, length: int) -> bytes:
        looked_at.update(range(offset // 512, (offset + length) // 512))
        return of_file.read(offset, length)

    with open_disks([disk("vda", image, noted)]) as files:
        left: list[tuple[bytes, ...]] = [()]
        files.volumes()
        while left:
            path = left.pop()
            folders = [entry for entry in files.entries("vda", path)[0] if entry.kind is FileKind.FOLDER]
            left += [(*path, entry.path) for entry in folders]
    content = image.read_bytes()
    zero, big = bytes(512), {BIG[at : at + 512] for at in range(0, len(BIG), 512)}
    sectors = [512 * number for number in sorted(looked_at)]
    return [at for at in sectors if content[at : at + 512] not in big and content[at : at + 512] != zero]


@pytest.mark.parametrize("kind", ["ext4", "ext2", "xfs", "btrfs", "fat", "ntfs"])
def test_damage_makes_an_error_that_says_so_and_nothing_else(kind: str, tmp_path: Path) -> None:
    tree = images.make_tree(tmp_path / "tree", many=60)
    makers = {"ext2": lambda image, tree: images.ext(image, tree, "ext2"), "ext4": images.ext}
    image = makers.get(kind, getattr(images, kind, None))(tmp_path / "disk", tree)
    sound, used, chance = image.read_bytes(), sectors_of_structures(image), random.Random(kind)
    walked = 0

    for first in range(0, IMAGES, AT_ONCE):
        damaged = [Damaged(sound, used, chance) for _ in range(AT_ONCE)]
        names = [f"disk{first + number}" for number in range(AT_ONCE)]
        disks = [Disk(name, len(sound), each.read) for name, each in zip(names, damaged, strict=True)]
        with open_disks(disks, patience_s=PATIENCE_S) as files:
            volumes = files.volumes()
            walked += sum(volume.readable and walk(files, volume.name) > 0 for volume in volumes)
            memory = peak_memory(files.pid)
        assert memory <= MEMORY_BYTES
    # Some damage leaves most of a file system readable: else nothing was tried.
    assert walked > IMAGES // 10
    count(Fault.FLIP, f"{kind} inside a guest's disk", IMAGES)


def reader_of(files: DiskFiles) -> int:
    assert files.pid is not None
    return files.pid


def peak_memory(pid: int | None) -> int:
    """Bytes of address space that a process had at most."""
    if pid is None:
        return 0
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmPeak:"))


def test_a_reader_that_hangs_is_ended(ext4_image: Path) -> None:
    with open_disks([disk("vda", ext4_image)], patience_s=4) as files:
        files.volumes()
        os.kill(reader_of(files), signal.SIGSTOP)

        with pytest.raises(FileSystemUnreadable, match="without an answer"):
            files.entries("vda", ())

        assert files.entries("vda", ())[0]


def test_a_disk_that_ends_its_reader_is_told_among_the_others_which_stay_readable(
    ext4_image: Path, tmp_path: Path
) -> None:
    opened: list[DiskFiles] = []

    def deadly(offset: int, length: int) -> bytes:
        os.kill(reader_of(opened[0]), signal.SIGKILL)
        return bytes(length)

    with open_disks([Disk("vda", 1 << 20, deadly), disk("vdb", ext4_image)]) as files:
        opened.append(files)
        bad, good = files.volumes()

        assert not bad.readable
        assert "did not come back" in bad.note
        assert good.readable
        assert files.read("vdb", (b"etc", b"hosts"), 0, 100) == b"127.0.0.1 localhost\n"
        os.kill(reader_of(files), signal.SIGKILL)
        with pytest.raises(FileSystemUnreadable):
            files.entries("vdb", ())
        assert files.entries("vdb", ())[0]


def test_disks_that_end_every_reader_are_given_up(ext4_image: Path) -> None:
    with open_disks([disk("vda", ext4_image)]) as files:
        for _ in range(MAX_ENDED):
            files.find("vda", ())
            os.kill(reader_of(files), signal.SIGKILL)
            with pytest.raises(FileSystemUnreadable):
                files.entries("vda", ())
        with pytest.raises(FileSystemUnreadable):
            files.entries("vda", ())
        assert files.pid is None


def test_a_reader_that_dies_is_told(ext4_image: Path) -> None:
    with open_disks([disk("vda", ext4_image)]) as files:
        files.volumes()
        os.kill(reader_of(files), signal.SIGKILL)

        with pytest.raises(FileSystemUnreadable, match="stopped"):
            files.entries("vda", ())


def test_the_reader_goes_with_whoever_started_it_even_if_that_is_killed(ext4_image: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from tests.disk_files.images import disk\n"
        "from engine.disk_files import open_disks\n"
        "files = open_disks([disk('vda', Path(sys.argv[1]))]); files.volumes(); print(files.pid, flush=True)\n"
        "time.sleep(600)"
    )
    owner = subprocess.Popen([sys.executable, "-c", script, ext4_image], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    reader = int(owner.stdout.readline())

    owner.kill()
    owner.wait()

    end = time.monotonic() + 60
    while Path(f"/proc/{reader}/stat").exists() and time.monotonic() < end:
        if Path(f"/proc/{reader}/stat").read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{reader}/stat").exists()


def test_the_reader_has_given_up_everything(ext4_image: Path) -> None:
    with open_disks([disk("vda", ext4_image)]) as files:
        files.volumes()
        status = Path(f"/proc/{files.pid}/status").read_text()
        limits = Path(f"/proc/{files.pid}/limits").read_text()
        groups = next(line for line in status.splitlines() if line.startswith("Groups:"))

    facts = {line.split(":")[0]: line.split(":")[1].split() for line in status.splitlines()}
    assert facts["NoNewPrivs"] == ["1"]
    assert facts["Seccomp"] == ["2"]
    if os.geteuid() == 0:
        assert set(facts["Uid"]) == {"65534"}
        assert groups.split() == ["Groups:"]
        assert int(facts["CapEff"][0], 16) == 0
    assert "Max open files            0 " in " ".join(limits.split("\n")).replace("\t", " ")


CONFINED = """
import os, socket, sys
from engine.disk_files.confinement import confine
here, there = socket.socketpair()
confine()
here.send(b"x"); assert there.recv(1) == b"x"
def refused(work):
    try:
        work()
    except OSError as error:
        return True
    return False
assert refused(lambda: open("/etc/hostname"))
assert refused(lambda: socket.socket())
assert refused(lambda: os.fork())
assert refused(lambda: os.execv("/bin/true", ["true"]))
assert refused(lambda: os.kill(os.getppid(), 0))
assert refused(lambda: os.listdir("/"))
assert refused(lambda: os.unlink("/tmp/x"))
here.send(b"done"); os.write(2, there.recv(4))
"""


def test_a_confined_process_cannot_open_connect_start_or_kill_anything() -> None:
    done = subprocess.run([sys.executable, "-c", CONFINED], capture_output=True, text=True)

    assert done.stderr == "done"
    assert done.returncode == 0


def test_a_chain_of_clusters_that_leads_in_a_circle_is_given_up(tree: Path, tmp_path: Path) -> None:
    image = images.fat(tmp_path / "disk", tree)
    content = bytearray(image.read_bytes())
    sector, reserved = struct.unpack_from("<H", content, 11)[0], struct.unpack_from("<H", content, 14)[0]
    table = sector * reserved
    entry = content.index(b"ALONGN~1DAT")
    first = struct.unpack_from("<H", content, entry + 26)[0]
    struct.pack_into("<H", content, table + 2 * first, first)
    image.write_bytes(content)

    with open_disks([disk("vda", image)], patience_s=3) as files:
        assert files.volumes()[0].readable
        with pytest.raises(FileSystemUnreadable) as refused:
            files.read("vda", (b"A long name.dat",), 0, 1000)

    assert "circle" in refused.value.what and refused.value.next_step
