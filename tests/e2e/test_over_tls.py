"""A host that is spoken to over TLS alone: no files, no programs, and nothing in clear text."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine import backup
from engine.doctor import examine_host
from engine.errors import Conflict
from engine.hosts import HostLane, HostLanes, power_off, pull_backup, start
from engine.hosts.model import Vm, VmState, Way
from engine.hosts.power import vm_state
from engine.hosts.pull_backup import NoBackupCertificates
from engine.jobs import Journal
from engine.lab import Lab, daemon, processes
from engine.lab.account import lab_account
from engine.lab.journal import ask_journal, prove
from engine.nbd import Client, NbdError, TcpAddress, TlsAddress
from engine.settings import Method, Settings, save
from tests.e2e.conftest import Operator
from tests.hosts.live import in_guest, lab_of_its_own
from tests.sshd import free_port, listens
from tests.waiting import wait_for
from tests.x509 import Authority

pytestmark = [pytest.mark.lab, pytest.mark.slow]


class TlsHost:
    """alderaan, listening on a port of loopback with certificates of its own."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.layout = lab.layout.host("alderaan")
        self.account = lab_account()
        self.folder = self.account.folder(self.layout.folder / "pki", 0o755)
        authority = Authority()
        for file in (self.folder / "cacert.pem", self.folder / "ca-cert.pem"):
            authority.write(file)
        for who, name in (("server", "localhost"), ("client", "newhope")):
            files = (self.folder / f"{who}cert.pem", self.folder / f"{who}key.pem")
            authority.issue(*files, name, "127.0.0.1")
            for file, link in zip(files, (f"{who}-cert.pem", f"{who}-key.pem"), strict=True):
                self.account.own(file)
                (self.folder / link).symlink_to(file.name)
        self.port = free_port()
        configuration = self.layout.configuration / "libvirt" / "libvirtd.conf"
        # libvirt takes the first line that says something.
        configuration.write_text(
            f'listen_tls = 1\nlisten_addr = "127.0.0.1"\ntls_port = "{self.port}"\nauth_tls = "none"\n'
            f'ca_file = "{self.folder}/cacert.pem"\ncert_file = "{self.folder}/servercert.pem"\n'
            f'key_file = "{self.folder}/serverkey.pem"\n{configuration.read_text()}'
        )
        host = replace(lab.settings.hosts[0], uri=f"qemu+tls://localhost:{self.port}/session?pkipath={self.folder}")
        self.settings: Settings = replace(lab.settings, hosts=(host,), file=lab.folder / "tls.toml")
        save(self.settings, self.settings.file)
        self.restart()

    def give_qemu_certificates(self) -> None:
        with (self.layout.configuration / "libvirt" / "qemu.conf").open("a") as configuration:
            configuration.write(f'backup_tls_x509_cert_dir = "{self.folder}"\nbackup_tls_x509_verify = 1\n')
        self.restart()

    def restart(self) -> None:
        """Start the daemon anew with `--listen`, while its VMs run on."""
        running = daemon.running(self.layout)
        assert running is not None
        process = Path("/proc") / str(running.pid)
        command = [word for word in (process / "cmdline").read_text().split("\0") if word and word != "--listen"]
        surroundings = dict(each.split("=", 1) for each in (process / "environ").read_text().split("\0") if each)
        os.kill(running.pid, signal.SIGKILL)
        assert wait_for(lambda: daemon.running(self.layout) is None)
        self.layout.socket.unlink()
        with self.layout.log.open("ab") as log:
            started = subprocess.Popen(
                [*command, "--listen"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=surroundings,
                start_new_session=True,
                **self.account.identity(),
            )
        mark = processes.mark(started.pid)
        assert mark is not None
        processes.write_mark(self.layout.daemon_mark, mark)
        assert wait_for(lambda: listens(self.port)), self.layout.log.read_text()


@pytest.fixture(scope="module")
def tls_host() -> Iterator[TlsHost]:
    with lab_of_its_own() as lab:
        yield TlsHost(lab)


@pytest.fixture
def operator(tls_host: TlsHost) -> Iterator[Operator]:
    with HostLanes(tls_host.settings) as lanes, Journal(tls_host.settings.state) as journal:
        at_work = Operator(tls_host.lab, lanes, journal)
        at_work.settings = tls_host.settings
        yield at_work
        at_work.remove_restored()


@pytest.fixture
def lane(operator: Operator) -> HostLane:
    return operator.lanes["alderaan"]


@pytest.fixture
def web(operator: Operator) -> Vm:
    return operator.vm("web")


# The tests of this file run in order: the host gets its certificates in the second one.


def test_without_certificates_for_qemu_the_exact_line_to_add_is_told(lane: HostLane, web: Vm) -> None:
    with pytest.raises(NoBackupCertificates, match="no certificates to serve disks") as failure:
        pull_backup.begin(lane, web, checkpoint=None)

    assert "backup_tls_x509_cert_dir = " in failure.value.next_step
    assert pull_backup.own_checkpoints(lane, web.uuid) == ()


def test_a_vm_is_backed_up_twice_and_restored_through_tls(tls_host: TlsHost, operator: Operator, web: Vm) -> None:
    tls_host.give_qemu_certificates()
    lane = operator.lanes["alderaan"]
    lane.forget_failure()
    first = operator.back_up("web")
    in_guest(lane, web, "head -c 3000000 /dev/urandom > /data/fresh; sync")
    before = ask_journal(lane, web.uuid)

    second = operator.back_up("web")
    after = ask_journal(lane, web.uuid)
    restored = operator.restore(second, "alderaan")

    assert second.manifest.disks[0].read_reason == f"what was written since web@{first.id[:8]}"
    assert restored.disks[0].format == "raw"
    assert prove((lane, web.uuid), (lane, restored.uuid), before, after).compared_bytes > 0
    assert in_guest(lane, restored, "md5sum < /data/fresh") == in_guest(lane, web, "md5sum < /data/fresh")
    assert list(tls_host.layout.scratch.iterdir()) == []


def test_nobody_reads_a_disk_in_clear_text(lane: HostLane, web: Vm) -> None:
    backup = pull_backup.begin(lane, web, checkpoint=None)
    try:
        address = backup.exports[0].address
        assert isinstance(address, TlsAddress)
        with pytest.raises(NbdError, match="TLS"):
            Client.connect(TcpAddress(address.host, address.port), "vda").close()
        with pytest.raises(Conflict, match="already, by process"):
            pull_backup.begin(lane, web, checkpoint=None)
    finally:
        pull_backup.finish(lane, backup)


def test_a_vm_that_is_off_is_opened_by_its_qemu_and_stays_off(operator: Operator, lane: HostLane, web: Vm) -> None:
    (snapshot,) = operator.fleet().snapshots
    assert snapshot.facts is not None
    assert snapshot.facts.way is Way.TLS
    check, (vm,) = examine_host(lane)
    assert (check.way, check.faults, check.scratch) == (Way.TLS, (), None)
    assert ["over TLS" in limit.what for limit in check.limits] == [True]
    assert backup.dead_work_on(lane, vm, operator.settings) == backup.leftovers_on_host(lane, [vm]) == ()
    power_off(lane, web.uuid)
    try:
        point = operator.back_up("web")

        assert vm_state(lane, web.uuid) is VmState.OFF
    finally:
        start(lane, web.uuid)
    assert "its CPUs did not run" in point.manifest.consistency_note


def test_memory_is_not_kept_where_its_file_could_not_be_read(operator: Operator, lane: HostLane, web: Vm) -> None:
    job = operator.finish(operator.start_backup("web", Method.MEMORY))

    assert job.failure is not None
    assert "The memory of web cannot be kept" in job.failure.what
    assert vm_state(lane, web.uuid) is VmState.RUNNING
