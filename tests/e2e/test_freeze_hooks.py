"""Freeze hooks of a guest in a whole backup: what they leave in the guest, and what the recovery point says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.hosts import HostLane, agent, thaw
from engine.hosts.model import Vm
from engine.lab.journal import ask_journal
from engine.repository import Consistency, Point
from tests.e2e.conftest import Operator
from tests.hosts.live import in_guest
from tests.waiting import wait_for

pytestmark = pytest.mark.lab

HOOK = "/etc/qemu/fsfreeze-hook.d/database"
RUNNER = "/etc/qemu/fsfreeze-hook"
LEFT = "/run/hook-left"


class Hooked:
    """The guest `web` with a hook."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.vm: Vm = operator.vm("web")
        self.lane: HostLane = operator.lanes[self.vm.host]

    def install(self, path: str, body: str) -> None:
        script = f"cat >{path} <<'END'\n#!/bin/sh\necho $1 >>{LEFT}\n{body}\nEND\nchmod 755 {path}"
        in_guest(self.lane, self.vm, script)

    def left(self) -> list[str]:
        return in_guest(self.lane, self.vm, f"cat {LEFT}").split()

    def thawed(self) -> bool:
        return agent.ping(self.lane, self.vm.uuid) and thaw.freeze_status(self.lane, self.vm.uuid) == "thawed"

    def backed_up(self) -> Point:
        """A recovery point; afterwards the guest is thawed, as it was, and writes on."""
        before = ask_journal(self.lane, self.vm.uuid)
        point = self.operator.back_up("web")
        assert wait_for(self.thawed)
        after = ask_journal(self.lane, self.vm.uuid)
        assert after.boot_id == before.boot_id
        assert wait_for(lambda: ask_journal(self.lane, self.vm.uuid).acked > after.acked)
        return point


@pytest.fixture
def hooked(operator: Operator) -> Iterator[Hooked]:
    made = Hooked(operator)
    in_guest(made.lane, made.vm, f"cp {RUNNER} /tmp/runner")
    yield made
    in_guest(made.lane, made.vm, f"cp /tmp/runner {RUNNER}; rm -f {HOOK} {LEFT} /tmp/runner")


def test_a_hook_runs_at_freeze_and_at_thaw_and_the_point_is_of_frozen_file_systems(hooked: Hooked) -> None:
    hooked.install(HOOK, "")

    point = hooked.backed_up()

    assert hooked.left()[:2] == ["freeze", "thaw"]
    assert set(hooked.left()[2:]) <= {"thaw"}
    assert point.manifest.consistency is Consistency.FILESYSTEM
    assert point.manifest.consistency_note == "The guest agent froze 1 file system."


def test_a_hook_that_fails_is_thawed_and_the_point_is_as_after_a_power_cut_and_says_why(hooked: Hooked) -> None:
    hooked.install(HOOK, "[ $1 = thaw ] || exit 3")

    point = hooked.backed_up()

    assert hooked.left()[:2] == ["freeze", "thaw"]
    assert point.manifest.consistency is Consistency.CRASH
    assert "a freeze hook in the guest failed" in point.manifest.consistency_note
    assert "3" in point.manifest.consistency_note


def test_a_guest_that_hangs_in_freezing_is_backed_up_as_after_a_power_cut_and_thawed_when_it_comes_back(
    hooked: Hooked,
) -> None:
    # In the runner's own place, as with the one that QEMU brings: nothing in the guest ends it.
    hooked.install(RUNNER, "[ $1 = thaw ] || sleep 25")

    point = hooked.backed_up()

    assert hooked.left()[:2] == ["freeze", "thaw"]
    assert point.manifest.consistency is Consistency.CRASH
    assert point.manifest.consistency_note == "Not frozen: the guest did not finish freezing within 10 s."
