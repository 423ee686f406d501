"""Images at rest, served by the real qemu-nbd and read with libnbd's own tools."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from engine.errors import Conflict, ExitCode, MissingPackage
from engine.hosts import image
from tests.waiting import wait_for

MIB = 1 << 20


def make_image(path: Path, size: str = "8M", image_format: str = "qcow2", *options: str) -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", image_format, *options, str(path), size], check=True)
    return path


def make_raw(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def read_all(uri: str, into: Path) -> bytes:
    subprocess.run(["nbdcopy", uri, str(into)], check=True)
    return into.read_bytes()


def test_an_image_is_read_as_the_guest_sees_it(tmp_path: Path) -> None:
    content = random.Random(1).randbytes(3 * MIB)
    raw = make_raw(tmp_path / "a.raw", content)
    qcow2 = tmp_path / "a.qcow2"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(qcow2)], check=True)

    with image.serve(qcow2, "qcow2", tmp_path / "s") as address:
        seen = read_all(address.uri(), tmp_path / "copy")

    assert seen == content
    assert not (tmp_path / "s").exists()


def test_what_is_written_and_flushed_is_in_the_image_afterwards(tmp_path: Path) -> None:
    content = random.Random(2).randbytes(2 * MIB) + bytes(2 * MIB)
    source = make_raw(tmp_path / "source.raw", content)
    target = make_image(tmp_path / "target.qcow2", "4M")

    with image.serve(target, "qcow2", tmp_path / "s", writable=True) as address:
        subprocess.run(["nbdcopy", "--flush", str(source), address.uri()], check=True)

    assert image.same_content(source, target, formats=("raw", "qcow2"))
    assert image.info(target).allocated_bytes < 3 * MIB


def test_zeroes_that_are_written_become_holes(tmp_path: Path) -> None:
    target = make_raw(tmp_path / "target.raw", random.Random(3).randbytes(8 * MIB))
    zeroes = make_raw(tmp_path / "zeroes", bytes(8 * MIB))

    with image.serve(target, "raw", tmp_path / "s", writable=True) as address:
        subprocess.run(["nbdcopy", "--allocated", "--flush", str(zeroes), address.uri()], check=True)

    assert image.info(target, "raw").allocated_bytes < MIB


def test_reading_is_the_default_and_cannot_write(tmp_path: Path) -> None:
    before = make_raw(tmp_path / "a.raw", b"a" * MIB).read_bytes()
    source = make_raw(tmp_path / "b.raw", b"b" * MIB)

    with image.serve(tmp_path / "a.raw", "raw", tmp_path / "s") as address:
        refused = subprocess.run(["nbdcopy", str(source), address.uri()], capture_output=True, check=False)

    assert refused.returncode != 0
    assert (tmp_path / "a.raw").read_bytes() == before


def test_several_connections_may_read_at_once(tmp_path: Path) -> None:
    content = random.Random(4).randbytes(4 * MIB)
    make_raw(tmp_path / "a.raw", content)

    with image.serve(tmp_path / "a.raw", "raw", tmp_path / "s") as address:
        readers = [
            subprocess.Popen(["nbdcopy", "--connections=4", address.uri(), str(tmp_path / f"copy{number}")])
            for number in range(3)
        ]
        assert [reader.wait(30) for reader in readers] == [0, 0, 0]

    assert all((tmp_path / f"copy{number}").read_bytes() == content for number in range(3))


def test_a_path_with_commas_and_colons_is_only_a_path(tmp_path: Path) -> None:
    odd = make_raw(tmp_path / "a,format=qcow2,file.driver=null:b", b"x" * MIB)

    with image.serve(odd, "raw", tmp_path / "s") as address:
        seen = read_all(address.uri(), tmp_path / "copy")

    assert seen == b"x" * MIB


def test_an_image_that_somebody_writes_is_refused(tmp_path: Path) -> None:
    disk = make_image(tmp_path / "a.qcow2")

    with image.serve(disk, "qcow2", tmp_path / "one", writable=True):
        with pytest.raises(image.ImageInUse) as reading, image.serve(disk, "qcow2", tmp_path / "two"):
            pass
        with pytest.raises(image.ImageInUse) as writing, image.serve(disk, "qcow2", tmp_path / "two", writable=True):
            pass

    assert reading.value.exit_code == writing.value.exit_code == ExitCode.CONFLICT
    assert str(disk) in reading.value.what
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize(
    ("name", "image_format", "error", "words"),
    [
        ("missing.qcow2", "qcow2", image.ImageMissing, "does not exist"),
        ("text", "qcow2", image.ImageError, "not in qcow2 format"),
        ("text", "nonsense", image.ImageError, "Unknown driver 'nonsense'"),
        (".", "raw", image.ImageError, "regular file"),
    ],
)
def test_an_image_that_cannot_be_opened_says_why(
    tmp_path: Path, name: str, image_format: str, error: type[image.ImageError], words: str
) -> None:
    (tmp_path / "text").write_text("not an image\n" * 1000)

    with pytest.raises(error) as failure, image.serve(tmp_path / name, image_format, tmp_path / "s"):
        pass

    assert words in failure.value.what
    assert "blk_new_open" not in failure.value.what
    assert not (tmp_path / "s").exists()


def test_a_socket_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    disk = make_image(tmp_path / "a.qcow2")

    with pytest.raises(image.ImageError) as failure, image.serve(disk, "qcow2", tmp_path / "nowhere" / "s"):
        pass

    assert "socket" in failure.value.what


def test_without_qemu_the_package_to_install_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = make_image(tmp_path / "a.qcow2")
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(MissingPackage) as serving, image.serve(disk, "qcow2", tmp_path / "s"):
        pass
    with pytest.raises(MissingPackage) as looking:
        image.info(disk)

    assert "qemu-utils" in serving.value.next_step
    assert "qemu-utils" in looking.value.next_step


def test_the_socket_of_a_server_that_died_is_replaced(tmp_path: Path) -> None:
    disk = make_raw(tmp_path / "a.raw", b"a" * MIB)
    dead = subprocess.Popen(["qemu-nbd", "-t", "-r", "-f", "raw", "-k", str(tmp_path / "s"), str(disk)])
    assert wait_for((tmp_path / "s").exists)
    dead.kill()
    dead.wait()
    assert (tmp_path / "s").exists()

    with image.serve(disk, "raw", tmp_path / "s") as address:
        assert read_all(address.uri(), tmp_path / "copy") == b"a" * MIB


def test_the_socket_of_a_living_server_is_left_to_it(tmp_path: Path) -> None:
    disk = make_raw(tmp_path / "a.raw", b"a" * MIB)

    with image.serve(disk, "raw", tmp_path / "s") as address:
        with pytest.raises(Conflict), image.serve(disk, "raw", tmp_path / "s"):
            pass

        assert read_all(address.uri(), tmp_path / "copy") == b"a" * MIB


def test_the_server_ends_when_the_context_ends_with_an_error(tmp_path: Path) -> None:
    disk = make_image(tmp_path / "a.qcow2")

    with pytest.raises(ZeroDivisionError), image.serve(disk, "qcow2", tmp_path / "s", writable=True):
        raise ZeroDivisionError

    with image.serve(disk, "qcow2", tmp_path / "s", writable=True):
        pass


def test_the_server_outlives_the_thread_that_opened_it(tmp_path: Path) -> None:
    disk = make_raw(tmp_path / "a.raw", b"a" * MIB)
    served = image.serve(disk, "raw", tmp_path / "s")
    opened: list[str] = []
    thread = threading.Thread(target=lambda: opened.append(served.__enter__().uri()))

    thread.start()
    thread.join()
    # The kernel sends the signal that comes with a parent's death when the forking thread ends.
    time.sleep(0.2)
    seen = read_all(opened[0], tmp_path / "copy")
    served.__exit__(None, None, None)

    assert seen == b"a" * MIB


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_server_ends_when_this_process_is_killed(tmp_path: Path, how: signal.Signals) -> None:
    disk = make_image(tmp_path / "a.qcow2")
    code = (
        "import sys, time\nfrom engine.hosts import image\n"
        "with image.serve(sys.argv[1], 'qcow2', sys.argv[2], writable=True):\n"
        "    print('served', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(disk), str(tmp_path / "s")],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"served\n"

    process.send_signal(how)
    process.wait()

    # The image can be had again only when the server has let it go.
    def free() -> bool:
        checked = subprocess.run(["qemu-io", "-c", "quit", str(disk)], capture_output=True, check=False)
        return checked.returncode == 0

    assert wait_for(free)


def test_info_tells_size_format_backing_and_bitmaps(tmp_path: Path) -> None:
    base = make_image(tmp_path / "base.qcow2", "16M")
    disk = make_image(tmp_path / "a.qcow2", "16M", "qcow2", "-b", str(base), "-F", "qcow2")
    subprocess.run(["qemu-img", "bitmap", "--add", "-g", "131072", str(disk), "mark"], check=True)

    seen = image.info(disk)

    assert (seen.format, seen.size_bytes, seen.compat, seen.backing) == ("qcow2", 16 * MIB, "1.1", str(base))
    assert seen.bitmaps == (image.ImageBitmap("mark", 131072, usable=True),)
    assert seen.allocated_bytes < MIB


def test_info_tells_a_bitmap_that_was_torn_by_a_killed_writer(tmp_path: Path) -> None:
    disk = make_image(tmp_path / "a.qcow2")
    subprocess.run(["qemu-img", "bitmap", "--add", str(disk), "mark"], check=True)
    writer = subprocess.Popen(["qemu-nbd", "-t", "-f", "qcow2", "-k", str(tmp_path / "s"), str(disk)])
    assert wait_for((tmp_path / "s").exists)
    subprocess.run(["nbdinfo", "--size", f"nbd+unix:///?socket={tmp_path / 's'}"], check=True, capture_output=True)
    writer.kill()
    writer.wait()

    assert [bitmap.usable for bitmap in image.info(disk).bitmaps] == [False]


def test_info_of_a_disk_that_pretends_to_be_an_image_can_be_told_that_it_is_raw(tmp_path: Path) -> None:
    disk = make_image(tmp_path / "liar.raw", "1G")

    assert image.info(disk).size_bytes == 1 << 30
    assert image.info(disk, "raw").size_bytes < MIB


def test_an_old_qcow2_holds_no_bitmaps(tmp_path: Path) -> None:
    disk = make_image(tmp_path / "old.qcow2", "1M", "qcow2", "-o", "compat=0.10")

    assert image.info(disk).compat == "0.10"


def test_same_content_looks_at_what_the_guest_reads(tmp_path: Path) -> None:
    raw = make_raw(tmp_path / "a.raw", b"a" * MIB)
    longer = make_raw(tmp_path / "longer.raw", b"a" * MIB + bytes(MIB))
    other = make_raw(tmp_path / "other.raw", b"a" * (MIB - 1) + b"b")

    assert image.same_content(raw, longer, formats=("raw", "raw"))
    assert not image.same_content(raw, other, formats=("raw", "raw"))
    with pytest.raises(image.ImageMissing):
        image.same_content(raw, tmp_path / "missing", formats=("raw", "raw"))
