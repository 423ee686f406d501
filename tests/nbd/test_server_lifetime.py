"""Where the server listens, what it leaves behind, and how fast it ends."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from engine.nbd import Client, NbdError, NotServable, Server
from tests.nbd.peers import MemoryExport, random_bytes


@pytest.fixture
def disk() -> MemoryExport:
    return MemoryExport(random_bytes(64 * 1024))


def threads_of_nbd() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("nbd")]


def test_the_socket_is_its_owners_alone_and_gone_after_closing(tmp_path: Path, disk: MemoryExport) -> None:
    path = tmp_path / "ours.sock"

    with Server(path, {"vda": disk}):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    assert not path.exists()


def test_closing_ends_idle_clients_and_every_thread(tmp_path: Path, disk: MemoryExport) -> None:
    server = Server(tmp_path / "ours.sock", {"vda": disk})
    server.start()
    clients = [Client.connect(server.address) for _ in range(5)]
    half_way = socket.socket(socket.AF_UNIX)
    half_way.connect(server.address.path)

    server.close()
    server.close()

    assert not threads_of_nbd()
    assert server.connections == 0
    half_way.close()
    for client in clients:
        with pytest.raises(NbdError):
            client.read_into(0, memoryview(bytearray(10)))


def test_closing_does_not_wait_for_a_disk_that_hangs(tmp_path: Path, disk: MemoryExport) -> None:
    reading, go, gone_on = threading.Event(), threading.Event(), threading.Event()

    def hang(offset: int, length: int) -> None:
        reading.set()
        go.wait(60)
        gone_on.set()

    disk.before_read = hang
    server = Server(tmp_path / "ours.sock", {"vda": disk})
    server.start()
    failures: list[NbdError] = []

    def read() -> None:
        with Client.connect(server.address) as client:
            try:
                client.read_into(0, memoryview(bytearray(10)))
            except NbdError as failure:
                failures.append(failure)

    reader = threading.Thread(target=read)
    reader.start()
    reading.wait(60)

    server.close()
    reader.join()
    still_hung = not gone_on.is_set()
    go.set()

    assert still_hung
    assert len(failures) == 1


def test_the_socket_of_a_killed_server_is_replaced(tmp_path: Path, disk: MemoryExport) -> None:
    path = tmp_path / "ours.sock"
    dead = subprocess.Popen(
        [sys.executable, "-c", "import socket, sys; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]);"
         "s.listen(); print(flush=True); input()", path],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert dead.stdout
    dead.stdout.readline()
    dead.send_signal(signal.SIGKILL)
    dead.communicate()
    assert path.exists()

    with Server(path, {"vda": disk}) as server, Client.connect(server.address) as client:
        assert client.size_bytes == disk.size_bytes


def test_the_socket_of_a_living_server_is_left_alone(tmp_path: Path, disk: MemoryExport) -> None:
    path = tmp_path / "ours.sock"

    with Server(path, {"vda": disk}) as first:
        with pytest.raises(NotServable, match="Another server listens"):
            Server(path, {"vda": disk}).start()
        with Client.connect(first.address) as client:
            assert client.size_bytes == disk.size_bytes


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path, disk: MemoryExport) -> None:
    path = tmp_path / "precious"
    path.write_text("not yours")

    with pytest.raises(NotServable, match="is not a socket"):
        Server(path, {"vda": disk}).start()

    assert path.read_text() == "not yours"


def test_closing_leaves_a_socket_that_somebody_else_has_put_in_its_place(tmp_path: Path, disk: MemoryExport) -> None:
    path = tmp_path / "ours.sock"
    with Server(path, {"vda": disk}):
        path.unlink()
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(path))

    assert path.exists()


@pytest.mark.parametrize("name", ["x" * 200, "missing/folder.sock"])
def test_a_path_that_cannot_be_says_why(tmp_path: Path, disk: MemoryExport, name: str) -> None:
    with pytest.raises(NotServable) as caught:
        Server(tmp_path / name, {"vda": disk}).start()

    assert "folder" in caught.value.next_step or "exists" in caught.value.next_step


def test_several_starters_of_one_path_leave_exactly_one_server(tmp_path: Path, disk: MemoryExport) -> None:
    path = tmp_path / "ours.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(path))
    stale.close()
    servers = [Server(path, {"vda": disk}) for _ in range(8)]
    refused: list[NotServable] = []

    def start(server: Server) -> None:
        try:
            server.start()
        except NotServable as failure:
            refused.append(failure)

    starters = [threading.Thread(target=start, args=(server,)) for server in servers]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()

    assert len(refused) == 7
    with Client.connect(servers[0].address) as client:
        assert client.size_bytes == disk.size_bytes
    for server in servers:
        server.close()
    assert not path.exists()


def test_a_server_leaks_no_descriptors(tmp_path: Path, disk: MemoryExport) -> None:
    before = len(os.listdir("/proc/self/fd"))

    with Server(tmp_path / "ours.sock", {"vda": disk}) as server:
        for _ in range(50):
            with Client.connect(server.address) as client:
                client.read_into(0, memoryview(bytearray(10)))

    assert len(os.listdir("/proc/self/fd")) == before
