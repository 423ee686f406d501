"""Bare libvirt hosts for the tests of `engine.hosts`: a real daemon each, without guests, to define on and to break."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.hosts import HostLane
from engine.lab import daemon
from engine.lab.account import lab_account
from engine.lab.layout import HostLayout
from engine.settings import Host
from tests.sshd import Sshd

MIB = 1024 * 1024


class BareHost:
    """A libvirt daemon of its own, an empty pool `default`, and ways to hurt it."""

    def __init__(self, folder: Path) -> None:
        self.layout = HostLayout(name="bare", folder=folder, short=folder)
        self.account = lab_account()
        self.host = Host(name="bare", uri=self.layout.uri, pool="default")

    def start(self) -> None:
        daemon.start(self.layout, self.account)

    def signal_daemon(self, number: int) -> None:
        running = daemon.running(self.layout)
        assert running is not None
        os.kill(running.pid, number)

    def stop(self) -> None:
        if daemon.running(self.layout) is not None:
            self.signal_daemon(signal.SIGCONT)
        daemon.cut_power(self.layout)

    def make_pool(self, lane: HostLane) -> None:
        self.account.folder(self.layout.pool)

        def work(connection) -> None:
            xml = f"<pool type='dir'><name>default</name><target><path>{self.layout.pool}</path></target></pool>"
            connection.storagePoolDefineXML(xml).create()

        lane.run(work, timeout_s=30)

    def image(self, name: str, *options: str, size: str = "64M", image_format: str = "qcow2") -> Path:
        """An empty image in the pool's folder, made beside libvirt."""
        path = self.layout.pool / name
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", image_format, *options, str(path), size],
            check=True,
            cwd=self.layout.pool,
        )
        self.account.own(path)
        return path


@pytest.fixture
def bare_host_factory() -> Iterator[Callable[[], BareHost]]:
    """Hosts of a test's own, to stop and kill."""
    made: list[BareHost] = []

    def make() -> BareHost:
        folder = Path(tempfile.mkdtemp(prefix="nhb-", dir="/tmp"))
        host = BareHost(folder)
        made.append(host)
        host.start()
        return host

    yield make
    for host in made:
        host.stop()
        shutil.rmtree(host.layout.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_bare_host() -> Iterator[BareHost]:
    folder = Path(tempfile.mkdtemp(prefix="nhb-", dir="/tmp"))
    host = BareHost(folder)
    host.start()
    lane = HostLane(host.host)
    host.make_pool(lane)
    lane.close()
    yield host
    host.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def bare_host(shared_bare_host: BareHost) -> Iterator[BareHost]:
    """One bare host for all tests of this process, empty again after each."""
    yield shared_bare_host
    lane = HostLane(shared_bare_host.host)
    lane.run(_remove_all_vms, timeout_s=60)
    for file in shared_bare_host.layout.pool.iterdir():
        file.unlink()
    lane.run(lambda connection: connection.storagePoolLookupByName("default").refresh())
    lane.close()


@pytest.fixture
def lane(bare_host: BareHost) -> Iterator[HostLane]:
    lane = HostLane(bare_host.host)
    yield lane
    lane.close()


@pytest.fixture
def tiny_vm() -> Callable[..., str]:
    """The XML of a VM without an operating system: it starts, and does nothing."""

    def make(
        name: str = "tiny", *, devices: str = "", os: str = "", uuid_text: str = "", kind: str = "qemu", extra: str = ""
    ) -> str:
        return (
            f"<domain type='{kind}'><name>{name}</name><uuid>{uuid_text or uuid.uuid4()}</uuid>"
            f"<memory unit='MiB'>32</memory><vcpu>1</vcpu>"
            f"<os><type arch='x86_64' machine='q35'>hvm</type>{os}</os>"
            f"<features><acpi/></features>{extra}<devices>{devices}<memballoon model='none'/></devices></domain>"
        )

    return make


def _remove_all_vms(connection) -> None:
    import libvirt

    for domain in connection.listAllDomains():
        persistent = domain.isPersistent()
        if domain.isActive():
            domain.destroy()
        if persistent:
            domain.undefineFlags(
                libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
                | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
            )


@pytest.fixture
def ssh_folder() -> Iterator[Path]:
    """Where paths are short, and another user may go."""
    made = Path(tempfile.mkdtemp(prefix="nhs-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def ssh_server(ssh_folder: Path) -> Iterator[Sshd]:
    started = Sshd(ssh_folder, "kvm01")
    started.start()
    yield started
    started.stop()
