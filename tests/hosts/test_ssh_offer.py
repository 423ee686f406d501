"""A socket on a host over SSH that leads to a server of this machine: real servers on loopback, real reasons."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from engine.hosts.reach import Offer
from engine.hosts.ssh_offer import OfferRefused, SshOffer
from engine.hosts.ssh_reach import SshReach
from tests.sshd import Sshd, host_at


@contextmanager
def answering(path: Path) -> Iterator[None]:
    """A server on this machine that answers `here` to everybody."""
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(path))
        listener.listen()

        def answer() -> None:
            while True:
                try:
                    with closing(listener.accept()[0]) as asked:
                        asked.sendall(b"here")
                except OSError:
                    return

        threading.Thread(target=answer, daemon=True).start()
        yield


def asked(there: Path) -> bytes:
    with closing(socket.socket(socket.AF_UNIX)) as client:
        client.settimeout(30)
        client.connect(str(there))
        return client.recv(4)


@contextmanager
def offered(server: Sshd, there: Path, owner: tuple[int, int] | None = None) -> Iterator[Offer]:
    with closing(SshReach(host_at(server)).offer(there, owner)) as offer, answering(offer.listening):
        yield offer


def test_whoever_connects_on_the_host_is_answered_here_again_after_the_link_was_cut(ssh_server: Sshd) -> None:
    there = ssh_server.account.folder(ssh_server.folder / "run", 0o700) / "offered.nbd"

    with offered(ssh_server, there) as offer:
        begun = offer.renew()
        first = asked(there)
        owner, mode = there.stat().st_uid, there.stat().st_mode & 0o777
        unchanged = offer.renew()
        ssh_server.cut()
        while not offer.renew():
            pass
        again = asked(there)

    assert (begun, first, unchanged, again) == (True, b"here", False, b"here")
    assert (owner, mode) == (ssh_server.account.uid, 0o600)
    assert isinstance(offer, SshOffer) and not offer.listening.parent.exists()


def test_what_a_dead_process_left_does_not_stand_in_the_way(ssh_server: Sshd) -> None:
    there = ssh_server.account.folder(ssh_server.folder / "run", 0o700) / "offered.nbd"
    with closing(socket.socket(socket.AF_UNIX)) as left:
        left.bind(str(there))

    with offered(ssh_server, there) as offer:
        offer.renew()
        assert asked(there) == b"here"


def test_a_server_that_opens_no_sockets_and_a_folder_that_is_somebody_elses(ssh_folder: Path, ssh_server: Sshd) -> None:
    strict = Sshd(ssh_folder, "strict", "DisableForwarding yes")
    strict.start()
    there = ssh_server.account.folder(ssh_server.folder / "run", 0o700) / "offered.nbd"

    try:
        with offered(strict, there) as offer, pytest.raises(OfferRefused) as forbidden:
            offer.renew()
        with offered(ssh_server, Path("/proc/offered.nbd")) as offer, pytest.raises(OfferRefused) as no_room:
            offer.renew()
    finally:
        strict.stop()

    assert "opens no socket" in forbidden.value.what and "AllowStreamLocalForwarding" in forbidden.value.next_step
    assert "no socket in /proc" in no_room.value.what and "scratch" in no_room.value.next_step
