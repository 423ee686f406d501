"""Hosts and repositories in a settings file: their names, where they are, and what can be neither."""

from __future__ import annotations

import pytest

from engine.settings import read_text
from tests.settings.problems_of_text import FILE, host, only_problem_of, problems_of


@pytest.mark.parametrize("name", ['"my host"', '""', '"a/b"', '"-x"', '".hidden"', '"web@latest"', '"höst"', '" "'])
def test_a_name_that_would_be_ambiguous_elsewhere_is_refused(name: str) -> None:
    problems = problems_of(f'[hosts.{name}]\nuri = "qemu:///system"\n')

    assert [problem.line for problem in problems] == [1]
    assert "name" in problems[0].what


@pytest.mark.parametrize("name", ["alderaan", "node-1", "rack_2", "7", '"kvm01.example.org"', "_x"])
def test_a_plain_name_is_taken(name: str) -> None:
    settings = read_text(f'[hosts.{name}]\nuri = "qemu:///system"\n', FILE)

    assert settings.hosts[0].name == name.strip('"')


@pytest.mark.parametrize(
    "uri",
    [
        "qemu:///system",
        "qemu:///session",
        "qemu+unix:///session?socket=/run/user/1000/libvirt/libvirt-sock",
        "qemu+unix:///system",
        "qemu+ssh://root@kvm01/system",
        "qemu+ssh://root@kvm01:2222/system?keyfile=/root/.ssh/id&no_tty=1",
        "qemu+tls://kvm01/system",
        "qemu+tcp://[::1]:16509/system",
        "qemu+libssh2://kvm01/session",
        "test:///default",
    ],
)
def test_a_uri_that_libvirt_would_take_is_taken(uri: str) -> None:
    assert read_text(f'[hosts.a]\nuri = "{uri}"\n', FILE).hosts[0].uri == uri


@pytest.mark.parametrize(
    ("uri", "what", "fix"),
    [
        ("quemu:///system", '"quemu"', '"qemu"'),
        ("http://kvm01/", '"http"', "qemu:///system"),
        ("xen:///system", '"xen"', "qemu:///system"),
        ("kvm01", "not a libvirt URI", "qemu+ssh://"),
        ("/run/libvirt-sock", "not a libvirt URI", "qemu:///system"),
        ("qemu://system", "name of a machine", "qemu:///system"),
        ("qemu:///", "which daemon", "/system"),
        ("qemu+ssh://kvm01", "which daemon", "/system"),
        ("qemu:///sytem", '"/sytem"', '"/system"'),
        ("qemu+ssh:///system", "name of a machine", "qemu+ssh://root@HOST/system"),
        ("qemu+shh://kvm01/system", '"shh"', "qemu+ssh"),
        ("qemu+://kvm01/system", "transport", "qemu"),
        ("qemu+unix://kvm01/system", "stays on this machine", "qemu+ssh://kvm01/system"),
        ("qemu+unix:///session?socket=", "missing", "?socket=/"),
        ("qemu+unix:///session?socket=run/x", "absolute", "?socket=/"),
        ("qemu+unix:///session?soket=/run/x", '"soket"', '"socket="'),
        ("qemu+ssh://kvm01:notaport/system", "garbled", "qemu"),
        ("qemu:///system ", "space", "Remove"),
    ],
)
def test_a_uri_that_would_lead_nowhere_is_told_before_anything_connects(uri: str, what: str, fix: str) -> None:
    problem = only_problem_of(f'[hosts.a]\nuri = "{uri}"\n')

    assert problem.key == "hosts.a.uri"
    assert what in problem.what
    assert fix in problem.fix


def test_a_password_in_a_uri_is_refused_and_not_repeated() -> None:
    problem = only_problem_of('[hosts.a]\nuri = "qemu+ssh://root:hunter2@kvm01/system"\n')

    assert "password" in problem.what
    assert "hunter2" not in str(problem)


def test_a_host_without_uri_is_told_with_its_section() -> None:
    problem = only_problem_of("[hosts.alderaan]\npool = 'x'\n")

    assert (problem.key, problem.line) == ("hosts.alderaan", 1)
    assert '"uri"' in problem.what


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("qemu:///system", "qemu:///system"),
        ("qemu:///system", "qemu:///system/"),
        ("qemu+ssh://root@kvm01/system", "qemu+ssh://root@KVM01/system"),
        ("qemu+ssh://h/system?no_tty=1&keyfile=/k", "qemu+ssh://h/system?keyfile=/k&no_tty=1"),
    ],
)
def test_two_hosts_with_one_uri_are_one_machine(first: str, second: str) -> None:
    problem = only_problem_of(f'[hosts.a]\nuri = "{first}"\n[hosts.b]\nuri = "{second}"\n')

    assert (problem.key, problem.line) == ("hosts.b.uri", 4)
    assert '"a" and "b"' in problem.what


def test_two_sockets_are_two_hosts() -> None:
    uri = "qemu+unix:///session?socket="

    settings = read_text(f'[hosts.a]\nuri = "{uri}/run/a"\n[hosts.b]\nuri = "{uri}/run/b"\n', FILE)

    assert len(settings.hosts) == 2


@pytest.mark.parametrize(("first", "second"), [("/srv/x", "/srv/x"), ("/srv/x", "/srv/y/../x"), ("/srv/x", "/srv/x/")])
def test_two_repositories_in_one_folder_are_one_copy(first: str, second: str) -> None:
    problem = only_problem_of(f'[repositories.a]\npath = "{first}"\n[repositories.b]\npath = "{second}"\n')

    assert problem.key == "repositories.b.path"
    assert "one copy" in problem.what


def test_a_repository_on_a_host_that_does_not_exist_is_answered_with_the_nearest() -> None:
    problem = only_problem_of(host('[repositories.v]\npath = "/v"\non_host = "alderan"'))

    assert (problem.key, problem.line) == ("repositories.v.on_host", 5)
    assert '"alderaan"' in problem.fix


def test_a_host_with_a_wrong_uri_still_counts_as_a_host_that_a_repository_is_on() -> None:
    text = '[hosts.a]\nuri = "zzz"\n[repositories.v]\npath = "/v"\non_host = "a"\n'

    assert only_problem_of(text).key == "hosts.a.uri"
