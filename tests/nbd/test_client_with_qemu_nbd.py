"""The client against qemu-nbd, the server that restores write to and cold backups read from."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.nbd import (
    BASE_ALLOCATION,
    Client,
    ExportUnknown,
    NbdError,
    ReadRequest,
    ServerGone,
    WriteRequest,
    dirty_bitmap_context,
    list_contexts,
    list_exports,
)
from tests.nbd.peers import MIB, Servers, random_bytes


def run(*command: str | Path) -> None:
    subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """4 MiB: data, a hole, data."""
    image = tmp_path / "disk.raw"
    with image.open("wb") as file:
        file.write(random_bytes(MIB))
        file.seek(3 * MIB)
        file.write(random_bytes(MIB))
    return image


@pytest.fixture
def qcow2_with_bitmap(tmp_path: Path) -> Path:
    """8 MiB, of which [1 MiB, +64 KiB), [4 MiB, +128 KiB) and the zeroed [6 MiB, +64 KiB) are dirty in `since`."""
    image = tmp_path / "disk.qcow2"
    run("qemu-img", "create", "-f", "qcow2", image, "8M")
    run("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 2M", "-c", "write -P 6 6M 64k", image)
    run("qemu-img", "bitmap", "--add", "-g", "64k", image, "since")
    run(
        "qemu-io", "-f", "qcow2",
        "-c", "write -P 2 1M 64k", "-c", "write -P 3 4M 128k", "-c", "write -z 6M 64k", image,
    )  # fmt: skip
    return image


def test_opening_tells_what_the_export_is_and_can_do(servers: Servers, raw: Path) -> None:
    with Client.connect(servers.qemu_nbd(raw, "--read-only")) as client:
        assert client.size_bytes == 4 * MIB
        assert client.read_only
        assert client.can_multi_conn
        assert client.maximum_block_bytes == 32 * MIB
        assert client.contexts == ()

    with Client.connect(servers.qemu_nbd(raw)) as client:
        assert not client.read_only
        assert client.can_write_zeroes
        assert client.can_trim
        assert client.can_flush


def test_a_read_of_any_range_gives_the_image(servers: Servers, raw: Path) -> None:
    content = raw.read_bytes()

    with Client.connect(servers.qemu_nbd(raw)) as client:
        for offset, length in [(0, 4 * MIB), (1, 1), (4 * MIB - 7, 7), (MIB - 3, 2 * MIB + 6)]:
            buffer = bytearray(length)
            client.read_into(offset, memoryview(buffer))
            assert buffer == content[offset : offset + length]


def test_many_reads_in_flight_fill_every_buffer_with_its_own_range(servers: Servers, raw: Path) -> None:
    content = raw.read_bytes()
    requests = [ReadRequest(at, memoryview(bytearray(10_000))) for at in range(0, 4 * MIB - 10_000, 9_973)]

    with Client.connect(servers.qemu_nbd(raw)) as client:
        finished = list(client.read_many(requests, in_flight=40))

    assert sorted(request.offset for request in finished) == [request.offset for request in requests]
    assert all(request.buffer == content[request.offset : request.offset + 10_000] for request in finished)


def test_reading_with_few_reused_buffers_needs_no_more_of_them_than_are_in_flight(servers: Servers, raw: Path) -> None:
    content = raw.read_bytes()
    free = [memoryview(bytearray(64 * 1024)) for _ in range(4)]
    read = bytearray(len(content))

    with Client.connect(servers.qemu_nbd(raw)) as client:
        requests = (ReadRequest(at, free.pop()) for at in range(0, 4 * MIB, 64 * 1024))
        for request in client.read_many(requests, in_flight=4):
            read[request.offset : request.offset + len(request.buffer)] = request.buffer
            free.append(request.buffer)

    assert read == content


def test_a_read_longer_than_the_server_takes_is_split(servers: Servers, tmp_path: Path) -> None:
    image = tmp_path / "large.raw"
    pattern = random_bytes(MIB) * 70
    image.write_bytes(pattern)

    with Client.connect(servers.qemu_nbd(image)) as client:
        buffer = bytearray(70 * MIB - 5)
        client.read_into(5, memoryview(buffer))

    assert buffer == pattern[5:]


def test_unaligned_reads_work_where_the_server_takes_only_whole_blocks(servers: Servers, raw: Path) -> None:
    content = raw.read_bytes()
    options = f"driver=blkdebug,align=4096,image.driver=file,image.filename={raw}"

    with Client.connect(servers.start("qemu-nbd", "-t", "--image-opts", options)) as client:
        assert client.minimum_block_bytes == 4096
        buffer = bytearray(10_000)
        client.read_into(4095, memoryview(buffer))
        with pytest.raises(ValueError, match="whole blocks of 4096"):
            client.write(1, b"x")

    assert buffer == content[4095:14_095]


def test_extents_tell_data_and_holes(servers: Servers, raw: Path) -> None:
    with Client.connect(servers.qemu_nbd(raw), contexts=[BASE_ALLOCATION]) as client:
        extents = list(client.extents(BASE_ALLOCATION))
        clipped = list(client.extents(BASE_ALLOCATION, MIB - 100, 200))

    told = [(extent.offset, extent.length, extent.is_zero) for extent in extents]
    assert told == [(0, MIB, False), (MIB, 2 * MIB, True), (3 * MIB, MIB, False)]
    assert [(extent.offset, extent.length, extent.is_zero) for extent in clipped] == [
        (MIB - 100, 100, False),
        (MIB, 100, True),
    ]


def test_a_dirty_bitmap_is_told_beside_the_allocation(servers: Servers, qcow2_with_bitmap: Path) -> None:
    dirty = dirty_bitmap_context("since")
    address = servers.qemu_nbd(qcow2_with_bitmap, "--read-only", "--bitmap=since", image_format="qcow2")

    with Client.connect(address, contexts=[BASE_ALLOCATION, dirty]) as client:
        dirty_extents = [extent for extent in client.extents(dirty) if extent.is_dirty]
        both = client.block_status(0, client.size_bytes)

    assert [(extent.offset, extent.length) for extent in dirty_extents] == [
        (MIB, 64 * 1024),
        (4 * MIB, 128 * 1024),
        (6 * MIB, 64 * 1024),
    ]
    assert set(both) == {BASE_ALLOCATION, dirty}
    zeroed = next(extent for extent in both[BASE_ALLOCATION] if extent.end > 6 * MIB)
    assert zeroed.is_zero


def test_a_context_that_the_server_does_not_have_is_left_out_and_asking_for_it_fails(
    servers: Servers, raw: Path
) -> None:
    absent = dirty_bitmap_context("none")

    with Client.connect(servers.qemu_nbd(raw), contexts=[BASE_ALLOCATION, absent]) as client:
        assert client.contexts == (BASE_ALLOCATION,)
        with pytest.raises(NbdError, match="does not tell the context"):
            client.extents(absent)


def test_a_disk_larger_than_four_gibibytes_is_mapped_piece_by_piece(servers: Servers, tmp_path: Path) -> None:
    image = tmp_path / "vast.qcow2"
    run("qemu-img", "create", "-f", "qcow2", image, "5T")
    run("qemu-io", "-f", "qcow2", "-c", f"write {3 * 1024**4} 64k", image)

    with Client.connect(servers.qemu_nbd(image, image_format="qcow2"), contexts=[BASE_ALLOCATION]) as client:
        data = [extent for extent in client.extents(BASE_ALLOCATION) if not extent.is_zero]

    assert [(extent.offset, extent.length) for extent in data] == [(3 * 1024**4, 64 * 1024)]


def test_what_is_written_is_read_back_and_lasts(servers: Servers, tmp_path: Path) -> None:
    image = tmp_path / "new.qcow2"
    run("qemu-img", "create", "-f", "qcow2", image, "64M")
    content = random_bytes(40 * MIB)

    address = servers.qemu_nbd(image, "--discard=unmap", "--detect-zeroes=unmap", image_format="qcow2")
    with Client.connect(address) as client:
        client.write(3, content)
        client.flush()
        buffer = bytearray(len(content))
        client.read_into(3, memoryview(buffer))
    servers.kill_last()

    assert buffer == content
    run("qemu-img", "convert", "-O", "raw", "-U", image, tmp_path / "after.raw")
    assert (tmp_path / "after.raw").read_bytes()[3 : 3 + len(content)] == content


def test_many_writes_in_flight_all_arrive(servers: Servers, tmp_path: Path) -> None:
    image = tmp_path / "new.raw"
    content = random_bytes(16 * MIB)
    image.write_bytes(bytes(len(content)))
    requests = [WriteRequest(at, memoryview(content)[at : at + 100_000]) for at in range(0, len(content), 100_000)]

    with Client.connect(servers.qemu_nbd(image)) as client:
        finished = list(client.write_many(requests, in_flight=32))
        client.flush()

    assert len(finished) == len(requests)
    assert image.read_bytes() == content


def test_writing_while_reads_are_in_flight_gets_neither_side_stuck(servers: Servers, tmp_path: Path) -> None:
    image = tmp_path / "disk.raw"
    content = random_bytes(32 * MIB)
    image.write_bytes(content)
    copy = memoryview(bytearray(16 * MIB))

    with Client.connect(servers.qemu_nbd(image), timeout_s=10) as client:
        requests = (ReadRequest(at, copy[at : at + MIB]) for at in range(0, 16 * MIB, MIB))
        for request in client.read_many(requests, in_flight=16):
            client.write(16 * MIB + request.offset, request.buffer)

    assert image.read_bytes() == content[: 16 * MIB] * 2


@pytest.mark.parametrize("may_trim", [True, False])
def test_zeroes_free_their_storage_only_if_they_may(servers: Servers, raw: Path, may_trim: bool) -> None:
    with Client.connect(servers.qemu_nbd(raw, "--discard=unmap"), contexts=[BASE_ALLOCATION]) as client:
        client.write_zeroes(0, MIB, may_trim=may_trim)
        client.flush()
        buffer = bytearray(b"x" * MIB)
        client.read_into(0, memoryview(buffer))

    assert not any(buffer)
    punched = os.stat(raw).st_blocks * 512 < 2 * MIB
    assert punched is may_trim


def test_a_trimmed_range_gives_its_storage_back(servers: Servers, raw: Path) -> None:
    with Client.connect(servers.qemu_nbd(raw, "--discard=unmap")) as client:
        client.trim(3 * MIB, MIB)
        client.flush()

    assert os.stat(raw).st_blocks * 512 <= MIB + 64 * 1024


def test_terabytes_are_zeroed_by_several_requests(servers: Servers, tmp_path: Path) -> None:
    image = tmp_path / "vast.raw"
    with image.open("wb") as file:
        file.write(b"x" * MIB)
        file.truncate(1024**4)

    with Client.connect(servers.qemu_nbd(image, "--discard=unmap")) as client:
        client.write_zeroes(0, client.size_bytes, may_trim=True)
        client.flush()

    assert os.stat(image).st_blocks * 512 < 64 * 1024


def test_a_read_only_export_is_not_even_asked_to_write(servers: Servers, raw: Path) -> None:
    with Client.connect(servers.qemu_nbd(raw, "--read-only")) as client:
        with pytest.raises(NbdError, match="read-only"):
            client.write(0, b"x")
        with pytest.raises(NbdError, match="read-only"):
            client.write_zeroes(0, 512, may_trim=True)


def test_ranges_outside_the_disk_are_refused_without_asking(servers: Servers, raw: Path) -> None:
    with Client.connect(servers.qemu_nbd(raw)) as client:
        with pytest.raises(ValueError, match="not within"):
            client.read_into(4 * MIB - 1, memoryview(bytearray(2)))
        with pytest.raises(ValueError, match="not within"):
            client.write(-1, b"x")


def test_leaving_a_read_early_leaves_the_connection_usable_and_the_buffers_alone(servers: Servers, raw: Path) -> None:
    content = raw.read_bytes()
    requests = [ReadRequest(at, memoryview(bytearray(64 * 1024))) for at in range(0, MIB, 64 * 1024)]

    with Client.connect(servers.qemu_nbd(raw)) as client:
        reading = client.read_many(requests, in_flight=16)
        first = next(reading)
        reading.close()
        untouched = [request for request in requests if request is not first]
        before = [bytes(request.buffer) for request in untouched]
        buffer = bytearray(MIB)
        client.read_into(3 * MIB, memoryview(buffer))

    assert buffer == content[3 * MIB :]
    assert [bytes(request.buffer) for request in untouched] == before


def test_requests_may_be_made_from_extents_that_are_asked_for_meanwhile(servers: Servers, raw: Path) -> None:
    content = raw.read_bytes()

    with Client.connect(servers.qemu_nbd(raw), contexts=[BASE_ALLOCATION]) as client:
        requests = (
            ReadRequest(extent.offset, memoryview(bytearray(extent.length)))
            for at in range(0, client.size_bytes, 100_000)
            for extent in client.extents(BASE_ALLOCATION, at, min(100_000, client.size_bytes - at))
        )
        read = {request.offset: bytes(request.buffer) for request in client.read_many(requests, in_flight=8)}

    assert b"".join(read[offset] for offset in sorted(read)) == content


def test_an_iterator_of_requests_that_fails_leaves_the_connection_usable(servers: Servers, raw: Path) -> None:
    def requests() -> Iterator[ReadRequest]:
        yield ReadRequest(0, memoryview(bytearray(4096)))
        raise OSError("the caller's own trouble")

    with Client.connect(servers.qemu_nbd(raw)) as client:
        with pytest.raises(OSError, match="own trouble"):
            list(client.read_many(requests(), in_flight=1))
        client.read_into(0, memoryview(bytearray(10)))


def test_a_killed_server_ends_the_read_with_a_clear_error(servers: Servers, raw: Path) -> None:
    with Client.connect(servers.qemu_nbd(raw)) as client:
        client.read_into(0, memoryview(bytearray(10)))

        servers.kill_last()

        with pytest.raises(ServerGone) as caught:
            client.read_into(0, memoryview(bytearray(10)))
        assert caught.value.untouched == "Nothing was changed."
        assert "still runs" in caught.value.next_step
        with pytest.raises(ServerGone, match="cannot be used any more"):
            client.read_into(0, memoryview(bytearray(10)))


def test_a_server_killed_under_writes_says_what_may_have_changed(servers: Servers, raw: Path) -> None:
    with Client.connect(servers.qemu_nbd(raw)) as client:
        client.write(0, b"x" * 512)

        servers.kill_last()

        with pytest.raises(ServerGone) as caught:
            client.write(0, b"x" * MIB)
        assert "may have changed" in caught.value.untouched


def test_an_unknown_export_is_reported_with_those_that_exist(servers: Servers, raw: Path) -> None:
    address = servers.qemu_nbd(raw, "--export-name=vda")

    with pytest.raises(ExportUnknown) as caught:
        Client.connect(address, "vdb")

    assert caught.value.exports == ("vda",)
    assert "'vda'" in caught.value.what


def test_exports_and_contexts_are_listed(servers: Servers, qcow2_with_bitmap: Path) -> None:
    address = servers.qemu_nbd(
        qcow2_with_bitmap, "-r", "-B", "since", "-x", "vda", "-D", "the first disk", image_format="qcow2"
    )

    assert [(export.name, export.description) for export in list_exports(address)] == [("vda", "the first disk")]
    assert list_contexts(address, "vda") == (BASE_ALLOCATION, "qemu:dirty-bitmap:since")
    assert list_contexts(address, "vda", queries=["qemu:dirty-bitmap:"]) == ("qemu:dirty-bitmap:since",)
    with pytest.raises(ExportUnknown):
        list_contexts(address, "vdb")
