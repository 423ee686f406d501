"""Writing a restored disk: every format, from many threads, with holes where nothing was."""

from __future__ import annotations

import random
import resource
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.errors import ExitCode
from engine.hosts import image
from engine.hosts.disk_sink import open_sink

MIB = 1 << 20


def new_image(path: Path, image_format: str, size_bytes: int) -> Path:
    subprocess.run(["qemu-img", "create", "-q", "-f", image_format, str(path), str(size_bytes)], check=True)
    return path


def content_of(path: Path, image_format: str, into: Path) -> bytes:
    subprocess.run(["qemu-img", "convert", "-f", image_format, "-O", "raw", str(path), str(into)], check=True)
    return into.read_bytes()


@pytest.mark.parametrize("image_format", ["raw", "qcow2"])
def test_what_many_threads_write_is_at_its_place(tmp_path: Path, image_format: str) -> None:
    size_bytes = 24 * MIB + 512
    expected = bytearray(size_bytes)
    pieces = [(number * MIB, random.Random(number).randbytes(256 << 10)) for number in range(24)] + [
        (24 * MIB, b"e" * 512)
    ]
    for offset, piece in pieces:
        expected[offset : offset + len(piece)] = piece
    random.Random(5).shuffle(pieces)
    target = new_image(tmp_path / "disk", image_format, size_bytes)

    with open_sink(target, image_format, tmp_path / "s") as sink:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda piece: sink.write(*piece), pieces))
        sink.flush()

    assert content_of(target, image_format, tmp_path / "seen") == expected
    assert image.info(target, image_format).allocated_bytes < 10 * MIB


def test_zeroes_in_a_raw_file_stay_holes(tmp_path: Path) -> None:
    target = new_image(tmp_path / "disk", "raw", 8 * MIB)
    content = b"a" * 65536 + bytes(6 * MIB) + b"b" * 65536 + bytes(100)

    with open_sink(target, "raw", tmp_path / "s") as sink:
        sink.write(MIB, content)
        sink.flush()

    assert target.read_bytes() == bytes(MIB) + content + bytes(7 * MIB - len(content))
    assert image.info(target, "raw").allocated_bytes < MIB


def test_what_a_raw_file_held_before_is_gone(tmp_path: Path) -> None:
    target = tmp_path / "disk"
    target.write_bytes(b"old" * MIB)

    with open_sink(target, "raw", tmp_path / "s") as sink:
        sink.write(5, b"new")
        sink.flush()

    assert target.read_bytes() == bytes(5) + b"new" + bytes(3 * MIB - 8)


def test_a_raw_image_that_a_vm_has_is_refused_and_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "disk"
    target.write_bytes(b"a" * MIB)

    with (
        image.serve(target, "raw", tmp_path / "vm", writable=True),
        pytest.raises(image.ImageInUse) as refusal,
        open_sink(target, "raw", tmp_path / "s"),
    ):
        pass

    assert refusal.value.exit_code == ExitCode.CONFLICT
    assert target.read_bytes() == b"a" * MIB


def test_no_vm_can_have_a_raw_image_that_is_being_written(tmp_path: Path) -> None:
    target = new_image(tmp_path / "disk", "raw", MIB)

    with (
        open_sink(target, "raw", tmp_path / "s"),
        pytest.raises(image.ImageInUse),
        image.serve(target, "raw", tmp_path / "vm", writable=True),
    ):
        pass


def test_a_raw_image_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(image.ImageMissing), open_sink(tmp_path / "nothing", "raw", tmp_path / "s"):
        pass


def test_a_file_that_may_not_grow_is_full(tmp_path: Path) -> None:
    target = new_image(tmp_path / "disk", "raw", 4 * MIB)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    with open_sink(target, "raw", tmp_path / "s") as sink:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2 * MIB, hard))
        try:
            with pytest.raises(image.ImageFull):
                sink.write(3 * MIB, b"x" * MIB)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_more_than_is_written_back_at_once_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.hosts.raw_file.WRITE_BACK_BYTES", MIB)
    content = random.Random(6).randbytes(16 * MIB)
    target = new_image(tmp_path / "disk", "raw", len(content))

    with open_sink(target, "raw", tmp_path / "s") as sink:
        for offset in range(0, len(content), 256 << 10):
            sink.write(offset, content[offset : offset + (256 << 10)])
        sink.flush()

    assert target.read_bytes() == content
