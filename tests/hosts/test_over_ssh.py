"""What an operator is told of hosts over SSH: real servers on loopback, real reasons."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.hosts import HostLane, HostUnreachable, image
from engine.hosts.files_of_host import FilesOutOfReach, LocalFiles
from engine.hosts.model import Way
from engine.hosts.ssh_reach import ForwardingForbidden
from engine.nbd import Client
from engine.settings import Host
from tests.hosts.conftest import BareHost
from tests.sshd import Sshd, free_port, host_at


def reason_of(host: Host) -> HostUnreachable:
    lane = HostLane(host)
    try:
        with pytest.raises(HostUnreachable) as failure:
            lane.run(lambda connection: connection.getType(), timeout_s=60)
    finally:
        lane.close()
    return failure.value


def test_a_host_answers_as_if_it_were_here_and_again_after_its_link_was_cut(
    ssh_server: Sshd, bare_host: BareHost
) -> None:
    lane = HostLane(host_at(ssh_server, f"/session?socket={bare_host.layout.socket}"))

    try:
        first = lane.run(lambda connection: connection.listAllStoragePools()[0].name(), timeout_s=60)
        ssh_server.cut()
        again = _until_it_answers(lane)
        way = lane.reach.way()
    finally:
        lane.close()

    assert (first, again, way) == ("default", "default", Way.SSH)


def _until_it_answers(lane: HostLane) -> str:
    deadline = time.monotonic() + 60
    while True:
        try:
            return lane.run(lambda connection: connection.listAllStoragePools()[0].name(), timeout_s=60)
        except HostUnreachable:
            # The call that meets the broken connection is told so.
            assert time.monotonic() < deadline
            lane.forget_failure()


def test_a_wrong_key(ssh_server: Sshd, ssh_folder: Path) -> None:
    other = ssh_folder / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    ssh_server.config.write_text(ssh_server.config.read_text().replace(str(ssh_server.key), str(other)))

    assert reason_of(host_at(ssh_server)).reason == "SSH did not let us in"


def test_a_host_key_that_is_not_known_and_one_that_has_changed(ssh_server: Sshd, ssh_folder: Path) -> None:
    known = ssh_folder / "kvm01.known_hosts"
    right = known.read_text()
    known.write_text("")
    unknown = reason_of(host_at(ssh_server))
    known.write_text(right.replace(right.split()[2], (ssh_folder / "kvm01.key.pub").read_text().split()[1]))
    changed = reason_of(host_at(ssh_server))

    assert unknown.reason == changed.reason == "its SSH host key is not known or has changed"


def test_no_verify_accepts_an_unknown_host_key_as_libvirt_does(ssh_server: Sshd, ssh_folder: Path) -> None:
    (ssh_folder / "kvm01.known_hosts").write_text("")
    ssh_server.config.write_text(ssh_server.config.read_text().replace(" StrictHostKeyChecking yes\n", ""))

    assert "no socket" in reason_of(host_at(ssh_server, "/session?socket=/nonexistent/libvirt-sock&no_verify=1")).reason


def test_a_jump_host_that_is_down_and_one_that_cannot_reach_the_host(ssh_server: Sshd, ssh_folder: Path) -> None:
    gate = Sshd(ssh_folder, "gate")
    ssh_server.behind(gate)
    down = reason_of(host_at(ssh_server))
    gate.start()
    try:
        through = reason_of(host_at(ssh_server))
        ssh_server.stop()
        no_way = reason_of(host_at(ssh_server))
    finally:
        gate.stop()

    assert down.reason == f"127.0.0.1 port {gate.port} refuses connections"
    assert "no socket" in through.reason
    assert no_way.reason.startswith("its jump host cannot reach it")


def test_a_server_that_forwards_no_sockets(ssh_folder: Path, bare_host: BareHost) -> None:
    server = Sshd(ssh_folder, "kvm01", "DisableForwarding yes")
    server.start()
    lane = HostLane(host_at(server, f"/session?socket={bare_host.layout.socket}"))
    try:
        with pytest.raises(ForwardingForbidden, match="forwards no Unix sockets") as failure:
            lane.run(lambda connection: connection.getType(), timeout_s=60)
    finally:
        lane.close()
        server.stop()

    assert "AllowStreamLocalForwarding" in failure.value.next_step


def test_a_socket_that_is_not_there_and_one_that_may_not_be_used(
    ssh_server: Sshd, ssh_folder: Path, bare_host: BareHost
) -> None:
    forbidden = ssh_folder / "libvirt-sock"
    shutil.copyfile(os.devnull, forbidden)

    assert reason_of(host_at(ssh_server)).reason.startswith("there is no socket /nonexistent/libvirt-sock")
    if not ssh_server.account.is_caller:
        forbidden.unlink()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(forbidden))
            forbidden.chmod(0o600)
            refused = reason_of(host_at(ssh_server, f"/system?socket={forbidden}"))
        assert refused.reason == f"this user may not use the socket {forbidden}"
        assert "libvirt" in refused.next_step


def test_a_socket_whose_daemon_has_died(ssh_server: Sshd, ssh_folder: Path) -> None:
    dead = ssh_server.account.folder(ssh_folder / "run") / "libvirt-sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(dead))
    ssh_server.account.own(dead)

    assert reason_of(host_at(ssh_server, f"/session?socket={dead}")).reason.startswith(
        f"nobody listens on the socket {dead}"
    )


def test_a_host_that_is_not_there(ssh_server: Sshd) -> None:
    ssh_server.config.write_text(
        ssh_server.config.read_text().replace(f"Port {ssh_server.port}", f"Port {free_port()}")
    )

    assert "refuses connections" in reason_of(host_at(ssh_server)).reason


def test_without_a_shell_libvirt_is_reached_and_files_are_not(ssh_server: Sshd, bare_host: BareHost) -> None:
    ssh_server.allow('command="/bin/false"')
    lane = HostLane(host_at(ssh_server, f"/session?socket={bare_host.layout.socket}"))

    try:
        pools = lane.run(lambda connection: len(connection.listAllStoragePools()), timeout_s=60)
        way, files = lane.reach.way(), lane.files
        with pytest.raises(FilesOutOfReach, match="its SSH login has no shell"):
            files.read(Path("/etc/hostname"))
    finally:
        lane.close()

    assert (pools, way, files.reachable) == (1, Way.SSH_WITHOUT_SHELL, False)


def test_files_of_the_host_are_seen_with_the_rights_of_its_login(ssh_server: Sshd, ssh_folder: Path) -> None:
    lane = HostLane(host_at(ssh_server))
    odd = ssh_server.account.folder(ssh_folder / "an odd 'name' $HOME") / "file;rm -rf *"
    odd.write_bytes(b"\x00content\n")
    secret = ssh_folder / "secret"
    secret.write_bytes(b"x")
    secret.chmod(0o600)

    try:
        files = lane.files
        assert files.read(odd) == b"\x00content\n"
        assert files.names(odd.parent) == (odd.name,)
        assert files.heads([odd, ssh_folder / "gone"], 4) == {odd: b"\x00con"}
        assert files.start_ticks(os.getpid()) == LocalFiles().start_ticks(os.getpid())
        assert files.start_ticks(2**22 + 1) is None
        room = os.statvfs(ssh_folder)
        told = files.free_bytes([ssh_folder, ssh_folder / "gone"])
        assert abs(told.pop(ssh_folder) - room.f_bavail * room.f_frsize) < 4 << 30
        assert told == {}
        with pytest.raises(FileNotFoundError):
            files.read(ssh_folder / "gone")
        with pytest.raises(NotADirectoryError):
            files.require_usable(odd)
        if not ssh_server.account.is_caller:
            with pytest.raises(PermissionError):
                files.read(secret)
            assert not files.may_write(ssh_folder)
        assert files.may_write(odd.parent)
        files.remove([odd, ssh_folder / "gone"])
        assert files.names(odd.parent) == ()
    finally:
        lane.close()


def test_an_image_of_the_host_is_served_and_looked_at_by_programs_there(ssh_server: Sshd, ssh_folder: Path) -> None:
    lane = HostLane(host_at(ssh_server))
    room = ssh_server.account.folder(ssh_folder / "images")
    path = room / "a.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "8M"], check=True, cwd=room)
    ssh_server.account.own(path)
    listening = room / "s.sock"

    try:
        seen = image.info(path, "qcow2", files=lane.files)
        serving = image.serve(path, "qcow2", listening, writable=True, reach=lane.reach)
        with serving as address, Client.connect(address) as client:
            client.write(0, b"from afar")
            client.flush()
        with pytest.raises(image.ImageMissing), image.serve(room / "gone", "qcow2", listening, reach=lane.reach):
            pass
        if not ssh_server.account.is_caller:
            path.chmod(0o600)
            os.chown(path, 0, 0)
            with pytest.raises(image.ImageError, match="may not open"):
                image.info(path, "qcow2", files=lane.files)
    finally:
        lane.close()

    assert (seen.format, seen.size_bytes) == ("qcow2", 8 << 20)
    done = subprocess.run(["qemu-io", "-r", "-c", "read -v 0 16", str(path)], capture_output=True, check=True)
    assert b"from.afar" in done.stdout
    assert not listening.exists()


def test_what_a_killed_process_left_here_is_removed_by_the_next_one(ssh_server: Sshd) -> None:
    script = f"""
import sys, time
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from engine.hosts import HostLane
from engine.settings import Host
uri = {ssh_server.uri("/session?socket=/x/s")!r}
lane = HostLane(Host(name="far", uri=uri, ssh_config=Path({str(ssh_server.config)!r})))
print(lane.reach.connection()._folder, flush=True)
time.sleep(600)
"""
    dying = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert dying.stdout is not None
    left = Path(dying.stdout.readline().decode().strip())
    assert left.is_dir()
    connections = ssh_server.connections()
    dying.send_signal(signal.SIGKILL)
    dying.wait()

    deadline = time.monotonic() + 60
    while any(pid in ssh_server.connections() for pid in connections):
        assert time.monotonic() < deadline, "the connection outlived its process"
        time.sleep(0.05)
    lane = HostLane(host_at(ssh_server))
    lane.reach.way()
    lane.close()

    assert not left.exists()
