"""What a host lacks is said with what it costs and what to do."""

from __future__ import annotations

import pytest

from engine.fleet.host_lacks import lacks
from engine.hosts.model import Way
from tests.builders import make_host_facts


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"way": Way.TLS}, "it is reached over TLS, which brings no files: VMs that are off cannot be backed up"),
        ({"way": Way.SSH_WITHOUT_SHELL}, "its SSH login has no shell: VMs that are off"),
        ({"way": Way.LIBVIRT_ALONE}, "its uri brings libvirt's words and nothing else"),
        ({"way": Way.SSH, "missing_programs": ("qemu-nbd",)}, "qemu-nbd is not installed there"),
        ({"way": Way.SSH, "missing_programs": ("qemu-nbd", "qemu-img")}, "qemu-nbd and qemu-img are not installed"),
    ],
)
def test_what_is_missing_is_said_with_a_next_step(facts: dict[str, object], what: str) -> None:
    (lack,) = lacks("kvm01", make_host_facts("kvm01", local=False, **facts))

    assert lack.what.startswith(what)
    assert lack.next_step


@pytest.mark.parametrize("way", [Way.HERE, Way.SSH])
def test_a_host_that_gives_everything_lacks_nothing(way: Way) -> None:
    assert lacks("kvm01", make_host_facts("kvm01", way=way)) == ()


def test_disks_are_written_through_libvirt_where_nobody_runs_qemu_nbd_for_us() -> None:
    over_ssh = make_host_facts("kvm01", local=False, way=Way.SSH)
    without = make_host_facts("kvm01", local=False, way=Way.SSH, missing_programs=("qemu-nbd",))

    assert over_ssh.runs_qemu_nbd
    assert not without.runs_qemu_nbd
    assert not make_host_facts("kvm01", local=False, way=Way.TLS).runs_qemu_nbd
