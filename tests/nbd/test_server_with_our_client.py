"""Both halves together: what only shows when many requests meet on one connection."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import NewhopeError
from engine.nbd import (
    BASE_ALLOCATION,
    Client,
    ExportFull,
    Extent,
    NbdError,
    ReadRequest,
    RequestFailed,
    Server,
    WriteRequest,
    list_contexts,
    list_exports,
)
from tests.nbd.peers import MIB, MemoryExport, random_bytes


@pytest.fixture
def disk() -> MemoryExport:
    return MemoryExport(random_bytes(2 * MIB) + bytes(2 * MIB), read_only=False)


@pytest.fixture
def server(tmp_path: Path, disk: MemoryExport) -> Iterator[Server]:
    with Server(tmp_path / "ours.sock", {"vda": disk}) as server:
        yield server


def test_several_requests_of_one_connection_are_worked_on_at_the_same_time(server: Server, disk: MemoryExport) -> None:
    together = threading.Barrier(4, timeout=60)
    disk.before_read = lambda offset, length: together.wait() and None

    with Client.connect(server.address) as client:
        requests = [ReadRequest(at * 4096, memoryview(bytearray(4096))) for at in range(8)]
        finished = list(client.read_many(requests, in_flight=8))

    assert len(finished) == 8
    assert all(request.buffer == disk.content[request.offset : request.offset + 4096] for request in finished)


def test_a_slow_read_does_not_hold_up_the_others(server: Server, disk: MemoryExport) -> None:
    go = threading.Event()
    disk.before_read = lambda offset, length: None if offset else (go.wait(60) and None)

    with Client.connect(server.address) as client:
        requests = [ReadRequest(at * 4096, memoryview(bytearray(4096))) for at in range(16)]
        reading = client.read_many(requests, in_flight=16)
        overtaking = [next(reading) for _ in range(15)]
        go.set()
        last = next(reading)

    assert last is requests[0]
    assert requests[0] not in overtaking


def test_a_large_read_is_answered_in_pieces_and_holes(server: Server, disk: MemoryExport) -> None:
    asked: list[tuple[int, int]] = []
    disk.before_read = lambda offset, length: asked.append((offset, length))

    with Client.connect(server.address) as client:
        buffer = bytearray(b"?" * 4 * MIB)
        client.read_into(0, memoryview(buffer))

    assert buffer == disk.content
    assert asked == [(0, MIB), (MIB, MIB)]


def test_a_failure_in_the_middle_of_a_large_read_names_its_place(server: Server, disk: MemoryExport) -> None:
    class Lost(NewhopeError):
        pass

    def fail(offset: int, length: int) -> None:
        if offset == MIB:
            raise Lost("Block 17 of pack ab is damaged.", next_step="repair it.")

    disk.before_read = fail

    with Client.connect(server.address) as client:
        with pytest.raises(RequestFailed, match="Block 17 of pack ab is damaged") as caught:
            client.read_into(0, memoryview(bytearray(2 * MIB)))
        assert caught.value.offset == MIB
        client.read_into(0, memoryview(bytearray(4096)))


def test_an_export_that_reads_too_little_is_an_error_and_not_a_short_disk(
    server: Server, disk: MemoryExport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "read", lambda offset, length: b"short")

    with Client.connect(server.address) as client, pytest.raises(RequestFailed, match="5 bytes were read"):
        client.read_into(0, memoryview(bytearray(512)))


def test_a_map_that_fails_does_not_fail_the_reads(
    server: Server, disk: MemoryExport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(offset: int, length: int) -> Iterator[Extent]:
        raise OSError(5, "no map")

    monkeypatch.setattr(disk, "extents", fail)

    with Client.connect(server.address, contexts=[BASE_ALLOCATION]) as client:
        buffer = bytearray(MIB)
        client.read_into(0, memoryview(buffer))
        with pytest.raises(RequestFailed, match="no map"):
            list(client.extents(BASE_ALLOCATION))

    assert buffer == disk.content[:MIB]


def test_a_fragmented_map_takes_several_answers(tmp_path: Path) -> None:
    content = bytearray()
    for at in range(40_000):
        content += bytes(4096) if at % 2 else b"x" * 4096

    with (
        Server(tmp_path / "many.sock", {"vda": MemoryExport(content)}) as server,
        Client.connect(server.address, contexts=[BASE_ALLOCATION]) as client,
    ):
        first = client.block_status(0, len(content))[BASE_ALLOCATION]
        extents = list(client.extents(BASE_ALLOCATION))

    assert len(first) == 32 * 1024
    assert len(extents) == 40_000
    assert sum(extent.length for extent in extents) == len(content)


def test_writes_zeroes_and_trims_reach_the_export(server: Server, disk: MemoryExport) -> None:
    content = random_bytes(3 * MIB)

    with Client.connect(server.address) as client:
        assert len(list(client.write_many([WriteRequest(5, content), WriteRequest(4 * MIB - 9, b"123456789")]))) == 2
        client.write_zeroes(100, 200, may_trim=False)
        client.trim(1000, 24)
        client.flush()

    assert disk.content[5:100] == content[:95]
    assert not any(disk.content[100:300])
    assert not any(disk.content[1000:1024])
    assert disk.content[-9:] == b"123456789"
    assert disk.flushes == 1


def test_an_export_that_is_full_says_so_to_the_writer(
    server: Server, disk: MemoryExport, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(offset: int, content: memoryview) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(disk, "write", full)

    with Client.connect(server.address) as client, pytest.raises(ExportFull):
        client.write(0, b"x")


def test_exports_and_contexts_are_listed(server: Server) -> None:
    assert [export.name for export in list_exports(server.address)] == ["vda"]
    assert list_contexts(server.address, "vda") == (BASE_ALLOCATION,)
    with pytest.raises(NbdError, match="no export 'vdb'; it has 'vda'"):
        list_contexts(server.address, "vdb")


def test_many_clients_read_at_once(server: Server, disk: MemoryExport) -> None:
    failures: list[BaseException] = []

    def read_all() -> None:
        try:
            with Client.connect(server.address, "vda") as client:
                requests = (ReadRequest(at, memoryview(bytearray(65536))) for at in range(0, 4 * MIB, 65536))
                for request in client.read_many(requests):
                    assert request.buffer == disk.content[request.offset : request.offset + 65536]
        except BaseException as failure:
            failures.append(failure)

    readers = [threading.Thread(target=read_all) for _ in range(8)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()

    assert not failures
