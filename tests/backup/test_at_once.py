"""Which of several backups may begin while others run."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.backup import Request, serves, startable
from engine.settings import Host, Method, Repository, Settings
from tests.builders import make_settings, uuid_of


def request(
    vm: str, host: str = "alderaan", repository: str = "vault", method: Method = Method.HOT, *, full: bool = False
) -> Request:
    return Request(uuid_of(vm), vm, host, repository, method, full)


SETTINGS = make_settings()


def names(waiting: list[Request], running: list[Request], settings: Settings = SETTINGS) -> list[str]:
    return [each.vm for each in startable(settings, waiting, running)]


ROOMY = make_settings(
    hosts=[Host(name="alderaan", uri="qemu:///system", backups_at_once=3), Host(name="yavin", uri="qemu:///session")],
    repositories=[Repository(name="vault", path=Path("/srv/vault"), backups_at_once=4)],
)


def test_one_at_a_time_on_a_host_and_the_first_is_the_first_in_order() -> None:
    assert names([request("a"), request("b")], []) == ["a"]
    assert names([request("b")], [request("a")]) == []


def test_a_busy_host_does_not_keep_the_others_waiting() -> None:
    assert names([request("b"), request("c", "yavin")], [request("a")]) == ["c"]


def test_two_at_a_time_into_a_repository() -> None:
    waiting = [request("a"), request("b", "yavin"), request("c", "coruscant")]

    assert names(waiting, []) == ["a", "b"]


def test_the_settings_may_allow_more() -> None:
    waiting = [request(vm) for vm in "abcd"] + [request("e", "yavin"), request("f", "yavin")]

    assert names(waiting, [], ROOMY) == ["a", "b", "c", "e"]


def test_a_vm_that_is_being_backed_up_into_another_repository_waits() -> None:
    assert names([request("a"), request("b")], [request("a", repository="attic")], ROOMY) == ["b"]


@pytest.mark.parametrize(
    ("done", "good"),
    [
        (request("a"), True),
        (request("a", "yavin"), True),
        (request("a", full=True), True),
        (request("b"), False),
        (request("a", repository="attic"), False),
        (request("a", method=Method.COLD), False),
    ],
    ids=["the same", "on the host where it was", "more than was wanted", "of another VM", "elsewhere", "another way"],
)
def test_what_somebody_else_backed_up_serves_if_it_is_as_good(done: Request, good: bool) -> None:
    assert serves(done, request("a")) is good


def test_a_full_backup_is_not_served_by_one_that_need_not_be() -> None:
    assert not serves(request("a"), request("a", full=True))
