"""Everything a recovery point must hold, of VMs on real hosts: every kind of disk, TPM state, secrets, snapshots."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from engine import backup
from engine.cli.launching import launch_backup
from engine.cli.point_page import snapshot_tree
from engine.errors import ExitCode
from engine.fleet import create_repository, open_repository
from engine.hosts import HostLane, HostLanes, define, definition, image, power_off, start, tpm_state, undefine, vm_state
from engine.hosts.model import Definition, Vm, VmState
from engine.jobs import Journal
from engine.lab import Lab
from engine.lab.account import lab_account
from engine.repository import Consistency, Point, five_volumes
from engine.settings import Method, find_repository
from tests.e2e.conftest import Operator
from tests.hosts.live import lab_of_its_own

pytestmark = pytest.mark.lab

MIB = 1 << 20
PASSPHRASE = b"the key of the guest"
LUKS = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"
VNC_PASSWORD = "sesame42"
VNC = f"<graphics type='vnc' autoport='yes' passwd='{VNC_PASSWORD}'/>"


@pytest.fixture(scope="module")
def own_lab() -> Iterator[Lab]:
    with lab_of_its_own(hosts=("alderaan", "yavin"), guests=()) as made:
        bare = made.layout.folder / "bare"
        with made.settings.file.open("a") as file:
            file.write(f'\n[repositories.bare]\npath = "{bare}"\n')
        create_repository(find_repository(made.settings, "bare"), None).close()
        yield made


@pytest.fixture
def operator(own_lab: Lab) -> Iterator[Operator]:
    with HostLanes(own_lab.settings) as lanes, Journal(own_lab.settings.state) as journal:
        at_work = Operator(own_lab, lanes, journal)
        yield at_work
        at_work.remove_restored()


@pytest.fixture
def lane(operator: Operator) -> HostLane:
    return operator.lanes["alderaan"]


@pytest.fixture
def folder(own_lab: Lab) -> Path:
    return own_lab.layout.host("alderaan").pool


@pytest.fixture
def vm_of(operator: Operator, lane: HostLane) -> Iterator[object]:
    """Make a VM without an operating system on alderaan; it goes at the end of the test."""
    made: list[str] = []

    def make(name: str, devices: str, *, running: bool = True) -> Vm:
        uuid_text = str(uuid.uuid4())
        xml = (
            f"<domain type='qemu'><name>{name}</name><uuid>{uuid_text}</uuid><memory unit='MiB'>32</memory>"
            "<os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features>"
            f"<devices>{devices}<memballoon model='none'/></devices></domain>"
        )
        define(lane, Definition(live=None, inactive=xml.encode()))
        made.append(uuid_text)
        if running:
            start(lane, uuid_text)
        return operator.vm(name)

    yield make
    for each in made:
        if vm_state(lane, each) is not VmState.OFF:
            power_off(lane, each)
        undefine(lane, each)


def content(number: int, size: int = 4 * MIB) -> bytes:
    """Data, then a hole, then data: the same for the same number."""
    source = random.Random(number)
    return source.randbytes(size // 4) + bytes(size // 2) + source.randbytes(size // 4)


def raw_image(path: Path, number: int) -> Path:
    path.write_bytes(content(number))
    lab_account().own(path)
    return path


def qcow2_image(path: Path, number: int, tmp_path: Path) -> Path:
    (tmp_path / "plain").write_bytes(content(number))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", tmp_path / "plain", path], check=True)
    lab_account().own(path)
    return path


def seal(plain: Path, locked: Path, key: Path) -> None:
    """Make a LUKS image. On a busy machine QEMU may say that it cannot measure its own speed: then once more."""
    command = ["qemu-img", "convert", "--object", f"secret,id=s,file={key}", "-f", "raw", "-O", "qcow2", "-o", LUKS]
    for _ in range(20):
        made = subprocess.run([*command, plain, locked], capture_output=True, text=True, check=False)
        if "accurate CPU usage" not in made.stderr:
            break
    assert made.returncode == 0, made.stderr
    lab_account().own(locked)


def disk(target: str, source: str, *, kind: str = "file", form: str = "raw", more: str = "") -> str:
    return (
        f"<disk type='{kind}' device='disk'><driver name='qemu' type='{form}'/><source {source}/>"
        f"<target dev='{target}' bus='virtio'/>{more}</disk>"
    )


@pytest.fixture
def loop_device(tmp_path: Path) -> Iterator[str]:
    """A block device of the host with known content, which the lab's QEMU may use."""
    if os.geteuid() != 0 or shutil.which("losetup") is None or not Path("/dev/loop-control").exists():
        pytest.skip("only root can make a block device here, with losetup")
    path = tmp_path / "device"
    path.write_bytes(content(1))
    device = subprocess.run(
        ["losetup", "--find", "--show", path], check=True, capture_output=True, text=True
    ).stdout.strip()
    before = os.stat(device)
    lab_account().own(Path(device))
    yield device
    os.chown(device, before.st_uid, before.st_gid)
    subprocess.run(["losetup", "--detach", device], check=True)


@pytest.fixture
def nbd_volume(folder: Path) -> Iterator[Path]:
    """A disk that lies elsewhere: on an NBD server, as on any storage over the network."""
    listening = folder / "far.sock"
    far = raw_image(folder / "far.img", 6)
    server = subprocess.Popen(
        ["qemu-nbd", "-k", listening, "-f", "raw", "-t", "-e", "4", "-x", "far", far], **lab_account().identity()
    )
    deadline = time.monotonic() + 60
    while not listening.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    yield listening
    server.terminate()
    server.wait()
    far.unlink()


def holds(point: Point, role: str) -> bool:
    return any(file.role == role for file in point.manifest.files)


def check_content(path: str | None, form: str, number: int, tmp_path: Path) -> None:
    expected = tmp_path / f"expected-{number}"
    expected.write_bytes(content(number))
    assert path is not None
    assert image.same_content(expected, path, formats=("raw", form)), path


def test_every_kind_of_disk_is_read_at_one_moment_and_comes_back(
    operator: Operator, vm_of, loop_device: str, nbd_volume: Path, folder: Path, tmp_path: Path
) -> None:
    pooled = raw_image(folder / "pooled.img", 5)
    operator.lanes["alderaan"].run(lambda connection: connection.storagePoolLookupByName("default").refresh())
    original = vm_of(
        "kinds",
        disk("vda", f"dev='{loop_device}'", kind="block")
        + disk("vdb", f"file='{qcow2_image(folder / 'kinds.qcow2', 2, tmp_path)}'", form="qcow2")
        + disk("vdc", f"file='{raw_image(folder / 'transient.img', 3)}'", more="<transient/>")
        + disk("vdd", f"file='{raw_image(folder / 'readonly.img', 4)}'", more="<readonly/>")
        + disk("vde", "pool='default' volume='pooled.img'", kind="volume")
        + "<disk type='network' device='disk'><driver name='qemu' type='raw'/><source protocol='nbd' name='far'>"
        f"<host transport='unix' socket='{nbd_volume}'/></source><target dev='vdf' bus='virtio'/></disk>"
        + disk("vdg", f"file='{raw_image(folder / 'shared.img', 7)}'", more="<shareable/>"),
    )
    assert original.state is VmState.RUNNING

    point = operator.back_up("kinds")
    restored = operator.restore(point, "yavin", start=False)

    assert [each.target for each in point.manifest.disks] == [each.target for each in original.disks]
    assert {each.target: each.kind for each in point.manifest.disks}["vda"] == "block"
    assert [each.size_bytes for each in point.manifest.disks] == [4 * MIB] * 7
    for number, each in enumerate(restored.disks, 1):
        check_content(each.source, each.format, number, tmp_path)
    assert next(each for each in restored.disks if each.target == "vdd").read_only
    notes = "\n".join(point.manifest.notes)
    assert "vdc is transient" in notes
    assert "vdg is shared" in notes
    assert pooled.exists()

    power_off(operator.lanes["alderaan"], original.uuid)
    off = vm_of("off", disk("vda", f"dev='{loop_device}'", kind="block"), running=False)
    resting = operator.restore(operator.back_up("off"), "yavin", start=False)
    assert off.state is VmState.OFF
    check_content(resting.disks[0].source, "raw", 1, tmp_path)


def test_a_tpm_comes_back_as_it_was_under_the_uuid_of_the_restored_vm(
    operator: Operator, vm_of, lane: HostLane, folder: Path, tmp_path: Path
) -> None:
    secret = str(uuid.uuid4())
    described = f"<secret><uuid>{secret}</uuid><usage type='vtpm'><name>keys</name></usage></secret>"
    lane.run(lambda connection: connection.secretDefineXML(described).setValue(PASSPHRASE))
    tpm = f"<tpm model='tpm-crb'><backend type='emulator' version='2.0'><encryption secret='{secret}'/></backend></tpm>"
    source = qcow2_image(folder / "keys.qcow2", 2, tmp_path)
    original = vm_of("keys", tpm + disk("vda", f"file='{source}'", form="qcow2"))
    assert tpm_state.read(lane, original.uuid) is not None

    point = operator.back_up("keys")
    plan = operator.plan_restore(point, "yavin", start=False)
    restored = operator.restore(point, "yavin", start=False)
    there = operator.lanes["yavin"]
    put = tpm_state.read(there, restored.uuid)

    assert any("TPM state" in step.detail for step in plan.steps)
    assert put is not None
    with open_repository(operator.settings.repositories[0]) as opened, opened.reader() as reader:
        assert put.content == reader.file(next(file for file in point.manifest.files if file.role == "tpm"))
    assert restored.uuid in str(put.path)
    start(there, restored.uuid)
    # QEMU runs only if swtpm could open the state, which is sealed with a secret that yavin did not have.
    assert operator.vm("keys-restored").state is VmState.RUNNING
    power_off(there, restored.uuid)
    undefine(there, restored.uuid)
    assert not put.path.exists()
    there.run(lambda connection: connection.secretLookupByUUIDString(secret).undefine())
    lane.run(lambda connection: connection.secretLookupByUUIDString(secret).undefine())


def test_encrypted_disks_are_refused_by_a_plain_repository_and_sealed_by_an_encrypted_one(
    operator: Operator, vm_of, lane: HostLane, folder: Path, tmp_path: Path, own_lab: Lab
) -> None:
    key, plain, locked, secret = tmp_path / "key", tmp_path / "plain", folder / "locked.qcow2", str(uuid.uuid4())
    key.write_bytes(PASSPHRASE)
    plain.write_bytes(content(8))
    seal(plain, locked, key)
    lane.run(
        lambda connection: connection.secretDefineXML(
            f"<secret><uuid>{secret}</uuid><usage type='volume'><volume>{locked}</volume></usage></secret>"
        ).setValue(PASSPHRASE)
    )
    encryption = f"<encryption format='luks'><secret type='passphrase' uuid='{secret}'/></encryption>"
    original = vm_of("locked", VNC + disk("vda", f"file='{locked}'", form="qcow2", more=encryption))
    bare = find_repository(operator.settings, "bare")
    request = backup.Request(original.uuid, "locked", "alderaan", "bare", Method.HOT)

    with pytest.raises(backup.PlainRepository) as refused:
        backup.plan(operator.settings, operator.fleet(), request)
    refused_job = operator.finish(launch_backup(operator.settings, operator.journal, request))
    assert refused.value.exit_code is ExitCode.PREFLIGHT
    assert "--allow-plain" in refused.value.next_step
    assert refused_job.failure is not None
    assert "is not encrypted" in refused_job.failure.what
    allowed = operator.finish(launch_backup(operator.settings, operator.journal, replace(request, allow_plain=True)))
    assert allowed.failure is None
    with open_repository(bare) as opened:
        (in_plain,) = opened.points(original.uuid)
    assert holds(in_plain, "secret") and not holds(in_plain, "secret-value")
    assert "vda is encrypted on its host" in "\n".join(in_plain.manifest.notes)
    with open_repository(bare) as opened, opened.reader() as reader:
        kept = b"".join(reader.file(file) for file in in_plain.manifest.files)
    assert PASSPHRASE not in kept
    assert VNC_PASSWORD.encode() not in kept
    assert "passwords in its definition" in "\n".join(in_plain.manifest.notes)

    in_sealed = operator.back_up("locked")
    assert in_sealed.manifest.disks[0].encrypted
    with open_repository(operator.settings.repositories[0]) as opened, opened.reader() as reader:
        value = next(file for file in in_sealed.manifest.files if file.role == "secret-value")
        assert reader.file(value) == PASSPHRASE
    restored = operator.restore(in_sealed, "yavin", start=False)
    check_content(restored.disks[0].source, "qcow2", 8, tmp_path)
    there = definition.read(operator.lanes["yavin"], restored.uuid)
    assert VNC_PASSWORD.encode() in there.inactive
    assert secret.encode() not in there.inactive

    for file in own_lab.settings.state.rglob("*"):
        if file.is_file():
            assert PASSPHRASE not in file.read_bytes(), file
            assert VNC_PASSWORD.encode() not in file.read_bytes(), file
    lane.run(lambda connection: connection.secretLookupByUUIDString(secret).undefine())


def test_snapshots_are_listed_and_what_stays_behind_is_said(
    operator: Operator, vm_of, lane: HostLane, folder: Path, tmp_path: Path
) -> None:
    source = qcow2_image(folder / "layers.qcow2", 2, tmp_path)
    original = vm_of("layers", disk("vda", f"file='{source}'", form="qcow2"), running=False)

    def take(connection) -> None:
        import libvirt

        domain = connection.lookupByUUIDString(original.uuid)
        domain.snapshotCreateXML("<domainsnapshot><name>before</name></domainsnapshot>")
        domain.create()
        domain.snapshotCreateXML(
            "<domainsnapshot><name>over</name><memory snapshot='no'/><disks>"
            f"<disk name='vda' snapshot='external'><source file='{source}.over'/></disk></disks></domainsnapshot>",
            libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY,
        )

    lane.run(take, timeout_s=60)

    point = operator.back_up("layers")

    before, over = point.manifest.snapshots
    assert (before.name, before.internal, before.parent) == ("before", ("vda",), None)
    assert (over.name, over.external, over.parent, over.current) == ("over", ("vda",), "before", True)
    first, second = snapshot_tree(point.manifest.snapshots)
    assert first.startswith("before ") and second.startswith("  over ")
    notes = "\n".join(point.manifest.notes)
    assert "internal snapshots stays on the host" in notes and "external snapshots" in notes
    restored = operator.restore(point, "yavin", start=False)
    check_content(restored.disks[0].source, "qcow2", 2, tmp_path)


def test_a_vm_that_was_saved_and_not_shut_down_is_not_called_clean(
    operator: Operator, vm_of, lane: HostLane, folder: Path, tmp_path: Path
) -> None:
    original = vm_of("saved", disk("vda", f"file='{qcow2_image(folder / 'saved.qcow2', 2, tmp_path)}'", form="qcow2"))
    lane.run(lambda connection: connection.lookupByUUIDString(original.uuid).managedSave(0), timeout_s=60)

    point = operator.back_up("saved")

    assert operator.vm("saved").managed_save
    assert point.manifest.consistency is Consistency.CRASH
    assert "managed save" in point.manifest.consistency_note
    assert [each.kind.value for each in five_volumes(point.manifest) if not each.parts] == [
        "virtual networks",
        "saved state",
    ]
