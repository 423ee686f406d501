from __future__ import annotations

import uuid

import pytest

from engine.errors import Conflict, ExitCode
from engine.hosts import (
    GuestDidNotShutDown,
    HostRefused,
    MissingOnHost,
    define,
    power_off,
    resume,
    shut_down,
    start,
    suspend,
    undefine,
    vm_state,
)
from engine.hosts.model import Definition, VmState


@pytest.fixture
def defined(lane, tiny_vm) -> str:
    uuid_text = str(uuid.uuid4())
    define(lane, Definition(live=None, inactive=tiny_vm(uuid_text=uuid_text).encode()))
    return uuid_text


def test_a_vm_is_defined_off_started_paused_resumed_suspended_and_powered_off(lane, defined) -> None:
    assert vm_state(lane, defined) is VmState.OFF

    start(lane, defined, paused=True)
    assert vm_state(lane, defined) is VmState.PAUSED
    resume(lane, defined)
    assert vm_state(lane, defined) is VmState.RUNNING
    suspend(lane, defined)
    assert vm_state(lane, defined) is VmState.PAUSED
    power_off(lane, defined)
    assert vm_state(lane, defined) is VmState.OFF


def test_what_is_so_already_is_fine(lane, defined) -> None:
    power_off(lane, defined)
    shut_down(lane, defined, timeout_s=1)
    start(lane, defined)
    resume(lane, defined)
    suspend(lane, defined)
    suspend(lane, defined)

    assert vm_state(lane, defined) is VmState.PAUSED


def test_a_guest_that_does_not_follow_is_told_of_and_left_running(lane, defined) -> None:
    start(lane, defined)

    with pytest.raises(GuestDidNotShutDown) as refused:
        shut_down(lane, defined, timeout_s=1)

    assert refused.value.exit_code is ExitCode.GUEST
    assert "no guest agent answered" in refused.value.what
    assert vm_state(lane, defined) is VmState.RUNNING


def test_a_paused_guest_cannot_shut_down(lane, defined) -> None:
    start(lane, defined, paused=True)

    with pytest.raises(GuestDidNotShutDown, match="paused"):
        shut_down(lane, defined, timeout_s=1)


@pytest.mark.parametrize("same", ["name", "uuid", "both"])
def test_a_vm_that_exists_is_never_silently_redefined(lane, tiny_vm, defined, same) -> None:
    name = "other" if same == "uuid" else "tiny"
    uuid_text = str(uuid.uuid4()) if same == "name" else defined
    before = lane.run(lambda connection: connection.lookupByUUIDString(defined).XMLDesc())

    with pytest.raises(Conflict, match="already has a VM"):
        define(
            lane, Definition(live=None, inactive=tiny_vm(name, uuid_text=uuid_text, extra="<title>x</title>").encode())
        )

    assert lane.run(lambda connection: connection.lookupByUUIDString(defined).XMLDesc()) == before


def test_what_the_host_cannot_run_is_refused_in_its_own_words(lane, tiny_vm) -> None:
    xml = tiny_vm().replace("machine='q35'", "machine='pc-q35-99.9'")

    with pytest.raises(HostRefused, match=r"pc-q35-99\.9"):
        define(lane, Definition(live=None, inactive=xml.encode()))


def test_a_vm_that_cannot_start_says_why(lane, tiny_vm) -> None:
    missing = (
        "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/nonexistent.qcow2'/>"
        "<target dev='vda'/></disk>"
    )
    uuid_text = str(uuid.uuid4())
    define(lane, Definition(live=None, inactive=tiny_vm(devices=missing, uuid_text=uuid_text).encode()))

    with pytest.raises(HostRefused, match=r"/nonexistent\.qcow2"):
        start(lane, uuid_text)

    assert vm_state(lane, uuid_text) is VmState.OFF


def test_an_unknown_vm_is_missing_and_undefining_it_is_fine(lane) -> None:
    nobody = str(uuid.uuid4())

    with pytest.raises(MissingOnHost):
        vm_state(lane, nobody)
    undefine(lane, nobody)


def test_undefining_takes_nvram_and_checkpoints_along(lane, bare_host, tiny_vm) -> None:
    image = bare_host.image("a.qcow2")
    disk = (
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{image}'/>"
        "<target dev='vda' bus='virtio'/></disk>"
    )
    uuid_text = str(uuid.uuid4())
    xml = tiny_vm("uefi", devices=disk, uuid_text=uuid_text).replace("<os>", "<os firmware='efi'>")
    define(lane, Definition(live=None, inactive=xml.encode()))
    start(lane, uuid_text)
    checkpoint = "<domaincheckpoint><name>cp1</name></domaincheckpoint>"
    lane.run(lambda connection: connection.lookupByUUIDString(uuid_text).checkpointCreateXML(checkpoint) and None)
    power_off(lane, uuid_text)
    nvram = bare_host.layout.configuration / "libvirt/qemu/nvram/uefi_VARS.fd"
    assert nvram.exists()

    undefine(lane, uuid_text)

    assert not nvram.exists()
    assert image.exists()
    with pytest.raises(MissingOnHost):
        vm_state(lane, uuid_text)
