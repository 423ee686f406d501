"""What a URI says to ssh, and what the answers of a host's shell mean."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from engine.hosts.files_over_ssh import heads_in
from engine.hosts.ssh_hello import Login, read_login
from engine.hosts.ssh_login import forward_argument, ssh_login
from engine.settings import Host


def login(uri: str, **more: object):
    return ssh_login(Host(name="far", uri=uri, **more))  # type: ignore[arg-type]


def after(options: tuple[str, ...], option: str) -> list[str]:
    return [value for name, value in itertools.pairwise(options) if name == option]


def test_user_port_and_key_come_from_the_uri_and_the_rest_from_the_operators_configuration() -> None:
    said = login("qemu+ssh://anna%40corp@KVM01.example.org:2222/system?keyfile=/k/id&no_tty=1")

    assert (said.program, said.destination) == ("ssh", "KVM01.example.org")
    assert (after(said.options, "-l"), after(said.options, "-p"), after(said.options, "-i")) == (
        ["anna@corp"], ["2222"], ["/k/id"],
    )  # fmt: skip
    assert "-F" not in said.options
    assert not [option for option in said.options if "StrictHostKeyChecking" in option or "KnownHosts" in option]
    assert "BatchMode=yes" in said.options


def test_an_alias_says_nothing_that_the_configuration_could_not_say() -> None:
    said = login("qemu+ssh://kvm01/system")

    assert not {"-l", "-p", "-i"} & set(said.options)


@pytest.mark.parametrize(
    ("query", "option"),
    [
        ("no_verify=1", "StrictHostKeyChecking=no"),
        ("known_hosts=/k/hosts", "UserKnownHostsFile=/k/hosts"),
        ("known_hosts=/my%20keys/hosts", 'UserKnownHostsFile="/my keys/hosts"'),
    ],
)
def test_parameters_that_libvirt_users_know_are_honoured(query: str, option: str) -> None:
    assert option in after(login(f"qemu+ssh://h/system?{query}").options, "-o")


def test_no_verify_0_verifies() -> None:
    assert "StrictHostKeyChecking=no" not in login("qemu+ssh://h/system?no_verify=0").options


def test_the_program_and_the_configuration_can_be_others() -> None:
    said = login("qemu+ssh://h/system?command=/opt/ssh", ssh_config=Path("/etc/newhope/ssh"))

    assert said.program == "/opt/ssh"
    assert said.options[:2] == ("-F", "/etc/newhope/ssh")


def test_an_ipv6_address_loses_its_brackets() -> None:
    assert login("qemu+ssh://root@[fe80::1]:22/system").destination == "fe80::1"


@pytest.mark.parametrize(
    ("uri", "sockets"),
    [
        ("qemu+ssh://h/system", ("virtqemud-sock", "libvirt-sock")),
        ("qemu+ssh://h/system?mode=legacy", ("libvirt-sock",)),
        ("qemu+ssh://h/system?mode=direct", ("virtqemud-sock",)),
        ("qemu+ssh://h/session?socket=/x/s", ("/x/s",)),
    ],
)
def test_which_socket_of_libvirt_is_wanted(uri: str, sockets: tuple[str, ...]) -> None:
    assert login(uri).sockets == sockets


def test_colons_in_a_path_do_not_end_it() -> None:
    assert forward_argument(Path("/a/1.sock"), Path("/b/domain-3-web:1\\x")) == "/a/1.sock:/b/domain-3-web\\:1\\\\x"


def test_a_shells_answer_is_read_whatever_the_server_says_before_it() -> None:
    said = "Welcome!\nnewhope-login\n/home/anna/.cache\n1000\n3d12\nqemu-nbd \nforbidden /run/libvirt/libvirt-sock\n"

    assert read_login(said) == Login(
        has_shell=True,
        cache=Path("/home/anna/.cache"),
        user_id=1000,
        machine_id="3d12",
        missing_programs=("qemu-nbd",),
        forbidden_sockets=(Path("/run/libvirt/libvirt-sock"),),
    )


@pytest.mark.parametrize("said", ["", "This account is currently not available.\n", "newhope-login\n/x\n"])
def test_anything_else_is_no_shell(said: str) -> None:
    assert read_login(said) == Login(has_shell=False)


def test_heads_of_files_are_told_apart_whatever_they_hold() -> None:
    paths = [Path(f"/{name}") for name in ("a", "gone", "b", "empty", "short", "c")]
    said = (
        b"==> /a <==\n==> /b <\n==> /b <==\nQFI\xfb\0\0\0\3\n==> /empty <==\n"
        b"\n==> /short <==\nab\n==> /c <==\n" + b"\n" * 8
    )

    found = heads_in(said, paths, 8)

    assert found == {
        Path("/a"): b"==> /b <", Path("/b"): b"QFI\xfb\0\0\0\3", Path("/empty"): b"", Path("/short"): b"ab",
        Path("/c"): b"\n" * 8,
    }  # fmt: skip
