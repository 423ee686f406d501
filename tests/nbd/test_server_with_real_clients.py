"""The server against the clients that will use it: QEMU's tools and libnbd's."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.nbd import Server
from tests.nbd.peers import MIB, MemoryExport, random_bytes


def run(*command: str | Path) -> str:
    finished = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.fixture
def content() -> bytearray:
    """8 MiB: data, zeroes, data."""
    return random_bytes(2 * MIB) + bytes(4 * MIB) + random_bytes(2 * MIB)


@pytest.fixture
def disk(content: bytearray) -> MemoryExport:
    return MemoryExport(content)


@pytest.fixture
def blank() -> MemoryExport:
    return MemoryExport(bytearray(8 * MIB), read_only=False)


@pytest.fixture
def server(tmp_path: Path, disk: MemoryExport, blank: MemoryExport) -> Iterator[Server]:
    with Server(tmp_path / "ours.sock", {"vda": disk, "new disk": blank}) as server:
        yield server


def test_nbdcopy_reads_the_disk_over_several_connections(server: Server, content: bytearray, tmp_path: Path) -> None:
    run("nbdcopy", "--connections=4", server.address.uri("vda"), tmp_path / "copy.raw")

    assert (tmp_path / "copy.raw").read_bytes() == content
    assert server.failures == ()


def test_nbdcopy_writes_a_disk(server: Server, content: bytearray, blank: MemoryExport, tmp_path: Path) -> None:
    (tmp_path / "source.raw").write_bytes(content)

    run("nbdcopy", "--flush", tmp_path / "source.raw", server.address.uri("new disk"))

    assert blank.content == content
    assert blank.flushes >= 1


def test_nbdinfo_lists_both_exports_and_what_they_can_do(server: Server) -> None:
    listing: dict[str, Any] = json.loads(run("nbdinfo", "--list", "--json", server.address.uri()))

    disk, blank = listing["exports"]
    assert (disk["export-name"], disk["export-size"]) == ("vda", 8 * MIB)
    assert disk["is_read_only"]
    assert disk["can_multi_conn"]
    assert disk["can_df"]
    assert disk["contexts"] == ["base:allocation"]
    assert disk["block_size_maximum"] == 32 * MIB
    assert blank["export-name"] == "new disk"
    assert not blank["is_read_only"]
    assert not blank["can_multi_conn"]
    assert all(blank[ability] for ability in ("can_flush", "can_fua", "can_trim", "can_zero"))


def test_nbdinfo_maps_data_and_zeroes(server: Server) -> None:
    extents: list[dict[str, int]] = json.loads(run("nbdinfo", "--map", "--json", server.address.uri("vda")))

    told = [(extent["offset"], extent["length"], extent["type"]) for extent in extents]
    assert told == [(0, 2 * MIB, 0), (2 * MIB, 4 * MIB, 3), (6 * MIB, 2 * MIB, 0)]


def test_a_single_export_is_found_without_its_name(disk: MemoryExport, tmp_path: Path) -> None:
    with Server(tmp_path / "one.sock", {"vda": disk}) as server:
        assert run("nbdinfo", "--size", server.address.uri()).strip() == str(8 * MIB)


@pytest.mark.parametrize("options", [[], ["-W", "-m", "16"]])
def test_qemu_img_converts_the_disk(server: Server, content: bytearray, tmp_path: Path, options: list[str]) -> None:
    image = tmp_path / "copy.qcow2"
    run("qemu-img", "convert", *options, "-f", "raw", "-O", "qcow2", server.address.uri("vda"), image)

    (tmp_path / "expected.raw").write_bytes(content)
    run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", tmp_path / "expected.raw", image)
    # Holes were told as such: they cost neither time nor space.
    assert image.stat().st_size < 5 * MIB


def test_an_overlay_on_a_served_disk_reads_through_and_keeps_writes_to_itself(
    server: Server, content: bytearray, tmp_path: Path
) -> None:
    overlay = tmp_path / "overlay.qcow2"
    run("qemu-img", "create", "-f", "qcow2", "-b", server.address.uri("vda"), "-F", "raw", overlay)
    run("qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 64k", overlay)
    run("qemu-img", "convert", "-O", "raw", overlay, tmp_path / "seen.raw")

    expected = content[:]
    expected[MIB : MIB + 65536] = b"\x07" * 65536
    assert (tmp_path / "seen.raw").read_bytes() == expected
    assert server.failures == ()


def test_qemu_io_reads_writes_zeroes_trims_and_flushes(server: Server, blank: MemoryExport) -> None:
    run(
        "qemu-io", "-f", "raw",
        "-c", "write -P 5 0 1M", "-c", "write -f -P 6 1M 512", "-c", "write -z 4k 4k", "-c", "write -zu 8k 4k",
        "-c", "discard 12k 4k", "-c", "flush", "-c", "read -P 5 0 4k", "-c", "read -P 0 4k 12k",
        server.address.uri("new disk"),
    )  # fmt: skip

    assert blank.content[:4096] == b"\x05" * 4096
    assert blank.content[4096:16384] == bytes(12288)
    assert blank.content[16384:MIB] == b"\x05" * (MIB - 16384)
    assert blank.content[MIB : MIB + 512] == b"\x06" * 512
    assert blank.flushes >= 2


def test_a_read_only_disk_cannot_be_written_by_anybody(server: Server, content: bytearray) -> None:
    before = bytes(content)

    finished = subprocess.run(
        ["qemu-io", "-f", "raw", "-c", "write 0 4k", server.address.uri("vda")], capture_output=True, text=True
    )

    assert finished.returncode != 0
    assert content == before


def test_a_failing_disk_is_an_io_error_to_the_client_and_a_reason_to_the_operator(
    server: Server, disk: MemoryExport
) -> None:
    def fail(offset: int, length: int) -> None:
        raise OSError(5, "the repository is away")

    disk.before_read = fail

    finished = subprocess.run(
        ["qemu-io", "-r", "-f", "raw", "-c", "read 4k 4k", server.address.uri("vda")], capture_output=True, text=True
    )

    assert "Input/output error" in finished.stdout + finished.stderr
    failure = server.failures[-1]
    assert (failure.export, failure.command, failure.offset, failure.length) == ("vda", "read", 4096, 4096)
    assert "the repository is away" in failure.reason
