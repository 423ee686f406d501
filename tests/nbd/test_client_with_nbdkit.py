"""The client against nbdkit, whose filters make a server be slow, fail, or do without what it need not have."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from engine.errors import ExitCode
from engine.nbd import (
    BASE_ALLOCATION,
    Client,
    ExportFull,
    NbdError,
    OptionRefused,
    ProtocolViolation,
    ReadRequest,
    RequestFailed,
    ServerSilent,
    TcpAddress,
    UnixAddress,
    list_contexts,
)
from tests.nbd.peers import MIB, Servers, random_bytes


def test_memory_can_be_written_and_read_back(servers: Servers) -> None:
    content = random_bytes(3 * MIB)

    with Client.connect(servers.nbdkit("memory", "8M"), contexts=[BASE_ALLOCATION]) as client:
        client.write(MIB, content)
        buffer = bytearray(8 * MIB)
        client.read_into(0, memoryview(buffer))
        data = [extent for extent in client.extents(BASE_ALLOCATION) if not extent.is_zero]

    assert buffer == bytes(MIB) + content + bytes(4 * MIB)
    assert [(extent.offset, extent.length) for extent in data] == [(MIB, 3 * MIB)]


def test_a_server_without_structured_replies_is_read_by_simple_ones(servers: Servers) -> None:
    content = random_bytes(MIB)

    address = servers.nbdkit("--no-sr", "--filter=error", "memory", "4M", "error-trim-rate=1")
    with Client.connect(address, contexts=[BASE_ALLOCATION]) as client:
        assert client.contexts == ()
        client.write(0, content)
        requests = [ReadRequest(at, memoryview(bytearray(5000))) for at in range(0, MIB - 5000, 5000)]
        finished = list(client.read_many(requests))
        with pytest.raises(RequestFailed, match="EIO"):
            client.trim(0, 4096)
        client.flush()

    assert len(finished) == len(requests)
    assert all(request.buffer == content[request.offset : request.offset + 5000] for request in finished)
    assert list_contexts(address) == ()


def test_a_server_that_knows_only_export_names_is_opened_by_one(servers: Servers) -> None:
    with Client.connect(servers.nbdkit("--mask-handshake=0", "memory", "1M"), "any") as client:
        assert client.size_bytes == MIB
        client.write(0, b"hello")
        buffer = bytearray(5)
        client.read_into(0, memoryview(buffer))

    assert buffer == b"hello"


def test_an_oldstyle_server_is_refused_in_words(servers: Servers) -> None:
    with pytest.raises(ProtocolViolation, match="oldstyle"):
        Client.connect(servers.nbdkit("--oldstyle", "memory", "1M"))


def test_replies_out_of_order_reach_their_own_buffers(servers: Servers, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    address = servers.nbdkit(
        "eval",
        "get_size=echo 64k",
        "thread_model=echo parallel",
        f"pread=if [ $4 -eq 0 ]; then read line < {gate}; fi; printf %04096d $4",
    )
    requests = [ReadRequest(at, memoryview(bytearray(4096))) for at in range(0, 65536, 4096)]

    with Client.connect(address) as client:
        reading = client.read_many(requests, in_flight=16)
        overtaking = [next(reading).offset for _ in range(15)]
        gate.write_text("go\n")
        last = next(reading)

    assert sorted(overtaking) == list(range(4096, 65536, 4096))
    assert last is requests[0]
    assert all(int(bytes(request.buffer)) == request.offset for request in requests)


def test_a_read_error_names_its_offset_and_the_next_read_works(servers: Servers, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    address = servers.nbdkit(
        "--filter=error", "memory", "1M", "error-pread=EIO", "error-pread-rate=100%", f"error-file={broken}"
    )

    with Client.connect(address) as client:
        broken.touch()
        with pytest.raises(RequestFailed) as caught:
            client.read_into(8192, memoryview(bytearray(512)))
        broken.unlink()
        client.read_into(8192, memoryview(bytearray(512)))

    assert caught.value.errno_name == "EIO"
    assert caught.value.offset == 8192
    assert "8192" in caught.value.what


def test_one_error_among_many_requests_ends_the_loop_and_keeps_the_connection(servers: Servers) -> None:
    address = servers.nbdkit(
        "eval",
        "get_size=echo 64k",
        "thread_model=echo parallel",
        "pread=if [ $4 -eq 8192 ]; then echo EIO bad sector >&2; exit 1; fi; printf %04096d $4",
    )
    buffer = memoryview(bytearray(4096))

    with Client.connect(address) as client:
        with pytest.raises(RequestFailed) as caught:
            for _ in client.read_many(ReadRequest(at, memoryview(bytearray(4096))) for at in range(0, 65536, 4096)):
                pass
        client.read_into(4096, buffer)

    assert caught.value.offset == 8192
    assert int(bytes(buffer)) == 4096


def test_a_full_disk_under_the_server_has_an_exit_code_of_its_own(servers: Servers) -> None:
    with Client.connect(servers.nbdkit("full", "1M")) as client, pytest.raises(ExportFull) as caught:
        client.write(4096, b"x" * 4096)

    assert caught.value.errno_name == "ENOSPC"
    assert caught.value.exit_code is ExitCode.NO_SPACE
    assert "make room" in caught.value.next_step


def test_a_server_that_cannot_zero_gets_zeroes_sent(servers: Servers) -> None:
    with Client.connect(servers.nbdkit("--filter=nozero", "memory", "4M")) as client:
        assert not client.can_write_zeroes
        client.write(0, b"x" * 4 * MIB)
        client.write_zeroes(1, 3 * MIB, may_trim=True)
        buffer = bytearray(4 * MIB)
        client.read_into(0, memoryview(buffer))

    assert buffer == b"x" + bytes(3 * MIB) + b"x" * (MIB - 1)


def test_a_server_that_cannot_trim_is_not_asked(servers: Servers) -> None:
    with Client.connect(servers.nbdkit("eval", "get_size=echo 1M", "pread=exit 1", "pwrite=exit 1")) as client:
        assert not client.can_trim
        client.trim(0, 4096)


def test_a_flush_that_nobody_can_promise_is_an_error(servers: Servers) -> None:
    with Client.connect(servers.nbdkit("eval", "get_size=echo 1M", "pread=exit 1")) as client:
        assert not client.can_flush
        with pytest.raises(NbdError, match="flush"):
            client.flush()


def test_block_sizes_that_a_server_insists_on_are_kept(servers: Servers) -> None:
    content = random_bytes(MIB)
    address = servers.nbdkit(
        "--filter=blocksize-policy", "memory", "4M", "blocksize-error-policy=error",
        "blocksize-minimum=512", "blocksize-preferred=4096", "blocksize-maximum=65536",
    )  # fmt: skip

    with Client.connect(address, contexts=[BASE_ALLOCATION]) as client:
        assert (client.minimum_block_bytes, client.preferred_block_bytes) == (512, 4096)
        assert client.maximum_block_bytes == 65536
        client.write(MIB, content)
        buffer = bytearray(MIB - 7)
        client.read_into(MIB + 3, memoryview(buffer))
        client.write_zeroes(0, MIB, may_trim=True)
        extents = list(client.extents(BASE_ALLOCATION, MIB + 1, 100))

    assert buffer == content[3:-4]
    assert [(extent.offset, extent.length) for extent in extents] == [(MIB + 1, 100)]


def test_a_silent_server_is_given_up_after_the_timeout(servers: Servers) -> None:
    address = servers.nbdkit("--filter=delay", "memory", "1M", "delay-read=60")

    with Client.connect(address, timeout_s=1.0) as client, pytest.raises(ServerSilent) as caught:
        client.read_into(0, memoryview(bytearray(512)))

    assert "1 requests unanswered" in caught.value.what


def test_something_that_accepts_and_says_nothing_is_given_up_too(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "mute.sock"))
        listening.listen()

        with pytest.raises(ServerSilent, match="did not finish the handshake"):
            Client.connect(UnixAddress(str(tmp_path / "mute.sock")), timeout_s=0.1)


def test_a_refused_export_says_what_the_server_said(servers: Servers) -> None:
    address = servers.nbdkit("--filter=exportname", "memory", "1M", "exportname=vda", "exportname-strict=true")

    with pytest.raises(OptionRefused):
        Client.connect(address, "vdb")


def test_a_server_that_demands_tls_is_refused_with_a_way_out(servers: Servers, tmp_path: Path) -> None:
    keys = tmp_path / "keys.psk"
    keys.write_text("newhope:" + "00" * 32 + "\n")
    address = servers.nbdkit("--tls=require", f"--tls-psk={keys}", "memory", "1M")

    with pytest.raises(OptionRefused) as caught:
        Client.connect(address)

    assert "SSH" in caught.value.next_step


def test_tcp_works_like_a_unix_socket(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        activate = f'exec 3<&{listening.fileno()}; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'
        server = subprocess.Popen(
            ["bash", "-c", activate, "bash", "nbdkit", "--foreground", "pattern", "1M"],
            pass_fds=(listening.fileno(),),
        )
    try:
        with Client.connect(TcpAddress("127.0.0.1", port)) as client:
            buffer = memoryview(bytearray(MIB))
            client.read_into(0, buffer)
    finally:
        server.kill()
        server.wait()

    assert int.from_bytes(buffer[-8:], "big") == MIB - 8
