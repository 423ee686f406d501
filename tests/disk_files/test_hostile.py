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
from engine.errors import NewhopeError
from engine.file_entry import FileKind
from tests.disk_files import images
from tests.disk_files.images import disk

FLIPS = 8
"""Images of each kind with random damage; each is read whole."""


def walk(files: DiskFiles, volume: str) -> int:
    """Read everything that can be read, as somebody who gets the whole volume does; answers how many names."""
    seen = 0
    left: list[tuple[bytes, ...]] = [()]
    while left and seen < 3000:
        path = left.pop()
        try:
            entries, _ = files.entries(volume, path)
        except FileSystemUnreadable:
            continue
        for entry in entries:
            seen += 1
            assert b"/" not in entry.name and entry.name not in (b"", b".", b"..")
            if entry.kind is FileKind.FOLDER and len(path) < 8:
                left.append((*path, entry.name))
            elif entry.kind is FileKind.FILE and seen % 20 == 0:
                try:
                    files.read(volume, (*path, entry.name), 0, 1 << 20)
                except NewhopeError as error:
                    assert error.next_step
    return seen


@pytest.mark.parametrize("kind", ["ext4", "ext2", "xfs", "btrfs", "fat", "ntfs"])
def test_random_damage_makes_an_error_that_says_so_and_nothing_else(kind: str, tree: Path, tmp_path: Path) -> None:
    makers = {"ext2": lambda image, tree: images.ext(image, tree, "ext2"), "ext4": images.ext}
    image = makers.get(kind, getattr(images, kind, None))(tmp_path / "disk", tree)
    sound = image.read_bytes()
    chance = random.Random(kind)
    used = [at for at in range(0, len(sound), 4096) if any(sound[at : at + 4096])]

    for _ in range(FLIPS):
        flips: dict[int, int] = {}
        for _ in range(chance.randrange(1, 60)):
            # The first blocks are what the parsers live on.
            block = chance.choice(used[: chance.choice([2, 40, len(used)])])
            flips[block + chance.randrange(4096)] = chance.randrange(256)

        def damaged(offset: int, length: int, flips: dict[int, int] = flips) -> bytes:
            data = bytearray(sound[offset : offset + length])
            for at, value in flips.items():
                if offset <= at < offset + length:
                    data[at - offset] = value
            return bytes(data)

        with open_disks([Disk("vda", len(sound), damaged)], patience_s=3) as files:
            try:
                for volume in files.volumes():
                    if volume.readable:
                        walk(files, volume.name)
            except FileSystemUnreadable as error:
                assert error.next_step


def test_a_reader_that_hangs_is_ended(ext4_image: Path) -> None:
    with open_disks([disk("vda", ext4_image)], patience_s=1) as files:
        files.volumes()
        os.kill(files.pid, signal.SIGSTOP)

        with pytest.raises(FileSystemUnreadable, match="without an answer"):
            files.entries("vda", ())
        with pytest.raises(FileSystemUnreadable):
            files.entries("vda", ())


def test_a_reader_that_dies_is_told(ext4_image: Path) -> None:
    with open_disks([disk("vda", ext4_image)]) as files:
        files.volumes()
        os.kill(files.pid, signal.SIGKILL)

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

    assert "stopped" in refused.value.what and refused.value.next_step
