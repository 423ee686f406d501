"""Disks over TLS, with qemu-nbd at the other end: verified, or not read at all."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.nbd import Certificates, Client, OptionRefused, ServerGone, ServerUnreachable, TlsAddress
from tests.sshd import free_port
from tests.x509 import Authority

MIB = 1 << 20


class Server:
    """qemu-nbd on a port of loopback, with certificates of an authority, and what a client needs to reach it."""

    def __init__(self, folder: Path, name: str = "localhost", *, tls: bool = True) -> None:
        authority = Authority()
        server, client = folder / "server", folder / "client"
        server.mkdir()
        client.mkdir()
        authority.write(server / "ca-cert.pem")
        authority.issue(server / "server-cert.pem", server / "server-key.pem", name, "127.0.0.1")
        self.certificates = Certificates(
            authority.write(client / "cacert.pem"), client / "clientcert.pem", client / "clientkey.pem"
        )
        authority.issue(self.certificates.certificate, self.certificates.key, "newhope")
        self.image = folder / "disk.raw"
        self.image.write_bytes(bytes(MIB) + bytes(range(256)) * 4096 * 7)
        self.port = free_port()
        secured = ["--object", f"tls-creds-x509,id=t,endpoint=server,dir={server},verify-peer=yes", "--tls-creds=t"]
        self.process = subprocess.Popen(
            [
                "qemu-nbd", "--persistent", "--format=raw", "--bind=127.0.0.1", f"--port={self.port}",
                *(secured if tls else []), str(self.image),
            ],
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def address(self, name: str = "localhost", certificates: Certificates | None = None) -> TlsAddress:
        return TlsAddress("127.0.0.1", self.port, name, certificates or self.certificates)

    def connect(self, address: TlsAddress) -> Client:
        deadline = time.monotonic() + 60
        while True:
            try:
                return Client.connect(address)
            except ServerUnreachable as not_yet:
                if "refused" not in str(not_yet) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    started = Server(tmp_path)
    yield started
    started.process.kill()
    started.process.wait()


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
def test_what_is_written_and_read_through_tls_is_what_is_there(server: Server, name: str) -> None:
    whole = server.image.read_bytes()

    with server.connect(server.address(name)) as client:
        buffer = memoryview(bytearray(client.size_bytes))
        client.read_into(0, buffer)
        client.write(5 * MIB, b"\xa5" * 2 * MIB)
        client.flush()

    assert bytes(buffer) == whole
    assert server.image.read_bytes() == whole[: 5 * MIB] + b"\xa5" * 2 * MIB + whole[7 * MIB :]


def test_a_server_that_cannot_prove_its_name_is_not_read(server: Server) -> None:
    with pytest.raises(ServerUnreachable, match=r"does not prove to be kvm01\.example\.org"):
        server.connect(server.address("kvm01.example.org"))


def test_a_server_that_another_authority_vouches_for_is_not_read(server: Server, tmp_path: Path) -> None:
    other = Authority("somebody else").write(tmp_path / "other.pem")
    trusting = Certificates(other, server.certificates.certificate, server.certificates.key)

    with pytest.raises(ServerUnreachable, match="does not prove"):
        server.connect(server.address(certificates=trusting))


def test_a_client_without_the_right_certificate_is_told_so(server: Server, tmp_path: Path) -> None:
    Authority("somebody else").issue(tmp_path / "c.pem", tmp_path / "k.pem", "newhope")
    wrong = Certificates(server.certificates.authority, tmp_path / "c.pem", tmp_path / "k.pem")

    # With TLS 1.3 the server's no comes only with its first answer.
    with pytest.raises((ServerUnreachable, ServerGone)):
        server.connect(server.address(certificates=wrong))


def test_certificates_that_are_missing_are_named(server: Server, tmp_path: Path) -> None:
    missing = Certificates(tmp_path / "gone.pem", tmp_path / "c.pem", tmp_path / "k.pem")

    with pytest.raises(ServerUnreachable, match=r"gone\.pem") as failure:
        server.connect(server.address(certificates=missing))

    assert "pkipath" in failure.value.next_step


def test_a_server_without_tls_is_never_read_in_clear_text(tmp_path: Path) -> None:
    plain = Server(tmp_path, tls=False)
    try:
        with pytest.raises(OptionRefused, match="does not speak TLS"):
            plain.connect(plain.address())
    finally:
        plain.process.kill()
        plain.process.wait()


def test_a_server_that_dies_in_the_middle_is_gone(server: Server) -> None:
    with server.connect(server.address()) as client:
        client.read_into(0, memoryview(bytearray(MIB)))
        server.process.kill()
        server.process.wait()
        with pytest.raises(ServerGone):
            client.read_into(0, memoryview(bytearray(MIB)))
