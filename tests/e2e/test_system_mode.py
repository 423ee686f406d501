"""A host as distributions install it: `qemu:///system`, QEMU under an account of its own, images that are root's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.lab import Lab
from tests.e2e.system_host import POOL, SystemHost, why_not
from tests.lab.live import libvirt_of
from tests.waiting import wait_for

REASON = why_not()

pytestmark = [
    pytest.mark.lab,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(REASON is not None, reason=REASON or ""),
]

VM = "build"


@pytest.fixture(scope="module")
def host(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemHost]:
    """A system-mode host on which the practice guest `build` runs."""
    layout = lab.layout.host("yavin")
    with libvirt_of(lab, "yavin") as opened:
        definition = opened.lookupByName(VM).XMLDesc()
    folder = tmp_path_factory.mktemp("system")
    made = SystemHost(emulated="type='qemu'" in definition, log=folder / "daemon.log")
    try:
        made.take_in(layout.pool / f"{VM}-vda.qcow2", POOL)
        for name in ("vmlinuz", "initrd"):
            made.take_in(layout.boot / name, Path("/var/lib/libvirt/boot"))
        moved = definition.replace(str(layout.pool), str(POOL)).replace(str(layout.boot), "/var/lib/libvirt/boot")
        (folder / "build.xml").write_text(moved)
        made.virsh("pool-define-as", "default", "dir", "--target", str(POOL))
        made.virsh("pool-start", "default")
        made.virsh("define", str(folder / "build.xml"))
        made.virsh("start", VM)
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def as_root(host: SystemHost) -> SystemHost:
    """Settings and a repository of root's, as `newhope init` writes them."""
    set_up(host, "root")
    return host


def set_up(host: SystemHost, user: str) -> None:
    for words in (["init", "--repository", f"/run/libvirt/{user}/vault"], ["repo", "init", "--no-encryption"]):
        code, text = host.newhope(*words, user=user)
        assert code == 0, text


def backed_up(host: SystemHost, *words: str, user: str = "root") -> dict[str, object]:
    """The recovery point that a backup makes, as `newhope points` tells of it."""
    code, text = host.newhope("backup", VM, *words, "--yes", user=user)
    assert code in (0, 1), text
    return host.told("points", "show", f"{VM}@latest", user=user)


def state(host: SystemHost, name: str) -> str:
    return host.virsh("domstate", name).strip()


def left_of_jobs(host: SystemHost) -> str:
    """Files in the folder in which QEMU of the VM keeps its sockets, and with them backup jobs theirs."""
    (folder,) = host.run("sh", "-c", f"ls -d /var/lib/libvirt/qemu/domain-*-{VM}").split()
    return host.run("ls", folder)


def wait_for_agent(host: SystemHost) -> None:
    ping = ["virsh", "-c", "qemu:///system", "qemu-agent-command", VM, '{"execute":"guest-ping"}']
    assert wait_for(lambda: host.run(*ping, check=False) != "", 300), "the guest's agent does not answer"


def test_images_of_root_are_backed_up_and_restored_byte_for_byte(as_root: SystemHost) -> None:
    wait_for_agent(as_root)
    backed_up(as_root)
    as_root.virsh("suspend", VM)
    try:
        second = backed_up(as_root)
        code, text = as_root.newhope("restore", f"{VM}@latest", "--to", "vm", "--name", "copy", "--no-start", "--yes")
        assert code == 0, text
        as_root.run("qemu-img", "compare", "-U", POOL / f"{VM}-vda.qcow2", POOL / "copy-vda.qcow2")
    finally:
        as_root.virsh("resume", VM)

    assert "what was written since" in str(second)
    assert "newhope" not in left_of_jobs(as_root)
    as_root.virsh("undefine", "copy", "--checkpoints-metadata", "--remove-all-storage")


def test_every_method_and_a_restore_in_place_of_the_original_work(as_root: SystemHost) -> None:
    before = as_root.run("ls", POOL)
    cold, memory = backed_up(as_root, "--method", "cold"), backed_up(as_root, "--method", "memory")
    assert "shut down" in str(cold)
    assert "saved state" in str(memory)

    code, text = as_root.newhope("restore", f"{VM}@latest", "--to", "vm", "--mode", "replace", "--yes")
    assert code == 0, text
    assert state(as_root, VM) == "running"
    (kept,) = as_root.told("restores", "list", "--open")["restores"]
    code, text = as_root.newhope("restores", "undo", kept["id"], "--yes")
    assert code == 0, text

    assert state(as_root, VM) == "running"
    assert as_root.virsh("list", "--all", "--name").split() == [VM]
    assert as_root.run("ls", POOL) == before


def test_qemu_reads_a_recovery_point_from_a_socket_of_its_own_when_a_vm_starts_at_once(as_root: SystemHost) -> None:
    before = as_root.run("ls", POOL)

    how = ("--to", "vm", "--name", "at-once", "--instant", "--no-memory", "--keep-for", "1h", "--yes")
    code, text = as_root.newhope("restore", f"{VM}@latest", *how)

    assert code == 0, text
    assert "its agent answered" in text
    assert str(POOL / "at-once-vda.qcow2") in as_root.virsh("domblklist", "at-once")
    (kept,) = as_root.told("restores", "list", "--open")["restores"]
    code, text = as_root.newhope("restores", "undo", kept["id"], "--yes")
    assert code == 0, text
    assert as_root.run("ls", POOL) == before


def test_who_is_not_root_needs_the_group_of_qemu_and_is_told_so(host: SystemHost) -> None:
    set_up(host, "client")
    set_up(host, "operator")
    before = left_of_jobs(host)

    code, text = host.newhope("backup", VM, "--yes", user="client")
    assert code != 0
    assert "this user may not use it" in text
    assert "usermod -aG libvirt-qemu USER" in text
    assert left_of_jobs(host) == before

    made = backed_up(host, user="operator")
    assert "froze 1 file system" in str(made)
    assert left_of_jobs(host) == before
    code, text = host.newhope(
        *("restore", f"{VM}@latest", "--to", "vm", "--name", "twin", "--start", "--yes"), user="operator"
    )
    assert code == 0, text
    assert state(host, "twin") == "running"
