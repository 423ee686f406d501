"""Whatever else is at work on a VM is found before a backup touches it, is named, and goes on."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import libvirt
import pytest

from engine.errors import ExitCode
from engine.hosts import checkpoints
from engine.hosts.model import Vm
from engine.jobs import JobState
from tests.e2e.conftest import Operator
from tests.waiting import wait_for

pytestmark = [pytest.mark.lab, pytest.mark.slow]


@contextmanager
def done_by_somebody(uri: str, work: Callable[[libvirt.virDomain], object]) -> Iterator[None]:
    """Another program with a connection of its own, busy with the VM `web` for the length of the context."""

    def carry_out() -> None:
        connection = libvirt.open(uri)
        try:
            work(connection.lookupByName("web"))
        except libvirt.libvirtError:
            # It is stopped in the middle, on purpose.
            pass
        finally:
            connection.close()

    thread = threading.Thread(target=carry_out)
    thread.start()
    try:
        yield
    finally:
        thread.join(60)
        assert not thread.is_alive()


def refused(operator: Operator, vm: Vm, owner: str) -> None:
    """A backup fails because of `owner`, which goes on; nothing was begun."""
    known = len(operator.points(vm.name))
    marks = checkpoints.own_checkpoints(operator.lanes[vm.host], vm.uuid)

    assert wait_for(lambda: operator.vm(vm.name).job is not None, 30)
    job = operator.finish(operator.start_backup(vm.name))

    assert job.state is JobState.FAIL
    assert job.failure is not None
    assert job.failure.exit_code == ExitCode.CONFLICT
    assert owner in job.failure.what
    assert operator.vm(vm.name).job is not None
    assert len(operator.points(vm.name)) == known
    assert checkpoints.own_checkpoints(operator.lanes[vm.host], vm.uuid) == marks


def test_a_migration_is_named(operator: Operator) -> None:
    web = operator.vm("web")
    lane = operator.lane("web")
    target = operator.lanes["coruscant"].host.uri
    flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER | libvirt.VIR_MIGRATE_UNSAFE
    slowly = {"bandwidth": 1, "migrate_uri": "tcp://127.0.0.1:49917"}

    with done_by_somebody(lane.host.uri, lambda domain: domain.migrateToURI3(target, slowly, flags)):
        try:
            refused(operator, web, "a migration to another host")
        finally:
            lane.run(lambda connection: connection.lookupByUUIDString(web.uuid).abortJob())

    assert wait_for(lambda: operator.vm("web").job is None)


def test_a_snapshot_is_named(operator: Operator) -> None:
    web = operator.vm("web")
    lane = operator.lane("web")
    assert lane.host.scratch is not None
    # A memory file that nobody reads: the snapshot waits until its reader goes away.
    pipe = lane.host.scratch / "memory"
    os.mkfifo(pipe)
    pipe.chmod(0o666)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    snapshot = (
        f"<domainsnapshot><memory snapshot='external' file='{pipe}'/><disks><disk name='vda' snapshot='no'/></disks>"
        "</domainsnapshot>"
    )
    flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_LIVE

    with done_by_somebody(lane.host.uri, lambda domain: domain.snapshotCreateXML(snapshot, flags)):
        try:
            refused(operator, web, "a snapshot")
        finally:
            os.close(reader)
            pipe.unlink(missing_ok=True)

    assert wait_for(lambda: operator.vm("web").job is None)


def test_a_backup_of_another_program_is_named(operator: Operator) -> None:
    web = operator.vm("web")
    lane = operator.lane("web")
    folder = lane.host.scratch
    job = (
        f"<domainbackup mode='pull'><server transport='unix' socket='{folder}/virtnbdbackup.77'/><disks>"
        f"<disk name='vda' type='file'><scratch file='{folder}/backup.ABCDE.vda'/></disk></disks></domainbackup>"
    )
    lane.run(lambda connection: connection.lookupByUUIDString(web.uuid).backupBegin(job, None))
    try:
        refused(operator, web, "a backup by virtnbdbackup, process 77")
    finally:
        lane.run(lambda connection: connection.lookupByUUIDString(web.uuid).abortJob())
    assert wait_for(lambda: operator.vm("web").job is None)


def test_a_block_job_is_named(operator: Operator) -> None:
    web = operator.vm("web")
    lane = operator.lane("web")
    assert lane.host.scratch is not None
    copied = lane.host.scratch / "copied.qcow2"
    disk = f"<disk type='file'><source file='{copied}'/><driver type='qcow2'/></disk>"
    flags = libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB
    lane.run(
        lambda connection: connection.lookupByUUIDString(web.uuid).blockCopy("vda", disk, {"bandwidth": 1 << 20}, flags)
    )
    try:
        refused(operator, web, "a block copy of vda")
    finally:
        lane.run(lambda connection: connection.lookupByUUIDString(web.uuid).blockJobAbort("vda"))
        copied.unlink()
