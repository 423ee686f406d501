"""Freezing real guests, and every way in which the thaw could be forgotten."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import ExitCode
from engine.hosts import HostLane, agent, freeze, power_off, resume, start, suspend, thaw
from engine.hosts.model import Vm
from engine.lab import Lab
from engine.settings import Host
from tests.hosts.live import in_guest, lab_of_its_own, lane_to, restart_daemon, vm_of
from tests.waiting import wait_for

pytestmark = [pytest.mark.lab, pytest.mark.slow]


@pytest.fixture(scope="module")
def own_lab() -> Iterator[Lab]:
    with lab_of_its_own(guests=("web", "db")) as made:
        yield made


@pytest.fixture(scope="module")
def lane(own_lab: Lab) -> Iterator[HostLane]:
    with lane_to(own_lab, "alderaan") as opened:
        yield opened


@pytest.fixture
def web(lane: HostLane) -> Iterator[Vm]:
    vm = vm_of(lane, "web")
    yield vm
    assert thaw.until_thawed(lane, vm.uuid, timeout_s=120).thawed


def is_thawed(lane: HostLane, vm: Vm) -> bool:
    return thaw.freeze_status(lane, vm.uuid) == "thawed"


def journal_grows(lane: HostLane, vm: Vm) -> bool:
    before = in_guest(lane, vm, "cat /run/journal/acked")
    return wait_for(lambda: in_guest(lane, vm, "cat /run/journal/acked") != before)


def guards(lane: HostLane) -> list[int]:
    """Second processes that guard a guest of this host now, whoever started them."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"engine.hosts.thaw_guard" in words and any(lane.host.uri.encode() in word for word in words):
                found.append(int(entry.name))
    return found


def freeze_in_another_process(host: Host, vm: Vm, body: str, **options: float) -> subprocess.Popen[bytes]:
    """A process that freezes the guest, says so, and then does `body`."""
    given = "".join(f", {name}={value}" for name, value in options.items())
    code = textwrap.dedent(f"""\
        import os, time
        from engine.hosts import HostLane, freeze
        from engine.settings import Host
        host = Host("alderaan", {host.uri!r})
        with freeze.frozen(host, HostLane(host), {vm.uuid!r}{given}) as outcome:
            print(outcome.frozen, flush=True)
            {body}
        """)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.getcwd()}
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"True\n"
    return process


def test_the_file_systems_stand_still_inside_and_go_on_afterwards(lane: HostLane, web: Vm) -> None:
    with freeze.frozen(lane.host, lane, web.uuid) as outcome:
        status_inside = thaw.freeze_status(lane, web.uuid)

    assert outcome == freeze.FreezeOutcome(frozen=True, note="The guest agent froze 1 file system.")
    assert status_inside == "frozen"
    assert is_thawed(lane, web)
    assert journal_grows(lane, web)
    assert guards(lane) == []


def test_all_file_systems_are_frozen(lane: HostLane) -> None:
    database = vm_of(lane, "db")

    with freeze.frozen(lane.host, lane, database.uuid) as outcome:
        pass

    assert outcome.note == "The guest agent froze 2 file systems."
    assert is_thawed(lane, database)


def test_an_error_inside_thaws_and_is_the_error_that_is_told(lane: HostLane, web: Vm) -> None:
    with pytest.raises(ZeroDivisionError), freeze.frozen(lane.host, lane, web.uuid):
        raise ZeroDivisionError

    assert is_thawed(lane, web)


@pytest.mark.guests("legacy")
def test_a_guest_without_an_agent_is_not_frozen_and_the_reason_is_kept(lab: Lab) -> None:
    with lane_to(lab, "coruscant") as coruscant:
        legacy = vm_of(coruscant, "legacy")

        with freeze.frozen(coruscant.host, coruscant, legacy.uuid) as outcome:
            pass

    assert outcome == freeze.FreezeOutcome(frozen=False, note="Not frozen: legacy has no channel for a guest agent.")


def test_a_paused_guest_is_not_frozen(lane: HostLane, web: Vm) -> None:
    suspend(lane, web.uuid)
    try:
        with freeze.frozen(lane.host, lane, web.uuid) as outcome:
            pass
    finally:
        resume(lane, web.uuid)

    assert outcome == freeze.FreezeOutcome(frozen=False, note="Not frozen: the VM was paused.")


def test_a_freeze_by_somebody_else_is_neither_claimed_nor_thawed(lane: HostLane, web: Vm) -> None:
    lane.run(lambda connection: connection.lookupByUUIDString(web.uuid).fsFreeze())

    with freeze.frozen(lane.host, lane, web.uuid) as outcome:
        pass
    still = thaw.freeze_status(lane, web.uuid)

    assert not outcome.frozen
    assert "somebody else" in outcome.note
    assert still == "frozen"


def test_a_killed_parent_leaves_no_frozen_guest(lane: HostLane, web: Vm) -> None:
    process = freeze_in_another_process(lane.host, web, "time.sleep(600)")
    assert thaw.freeze_status(lane, web.uuid) == "frozen"

    process.kill()
    process.wait()

    assert wait_for(lambda: is_thawed(lane, web))
    assert journal_grows(lane, web)
    assert wait_for(lambda: guards(lane) == [])


def test_a_killed_parent_whose_pipe_somebody_else_holds_is_noticed_too(lane: HostLane, web: Vm) -> None:
    # A forked child keeps every pipe of its parent open, so the second process never reads an end.
    process = freeze_in_another_process(lane.host, web, "os.fork() or time.sleep(300); time.sleep(600)")

    process.kill()
    process.wait()

    assert wait_for(lambda: is_thawed(lane, web))


def test_a_parent_that_hangs_is_thawed_for_when_its_time_is_over(lane: HostLane, web: Vm) -> None:
    process = freeze_in_another_process(lane.host, web, "time.sleep(600)", freeze_timeout_s=5, longest_s=1)
    process.send_signal(signal.SIGSTOP)
    try:
        assert wait_for(lambda: is_thawed(lane, web))
    finally:
        process.kill()
        process.wait()


def test_a_second_process_that_is_asked_to_end_thaws_first(lane: HostLane, web: Vm) -> None:
    process = freeze_in_another_process(lane.host, web, "time.sleep(600)")
    (guard,) = guards(lane)

    os.kill(guard, signal.SIGTERM)

    assert wait_for(lambda: is_thawed(lane, web))
    process.kill()
    process.wait()


def test_a_thaw_by_somebody_else_is_not_passed_off_as_a_freeze(lane: HostLane, web: Vm) -> None:
    with pytest.raises(freeze.FreezeDidNotHold) as failure, freeze.frozen(lane.host, lane, web.uuid):
        lane.run(lambda connection: connection.lookupByUUIDString(web.uuid).fsThaw())

    assert "web" in failure.value.what
    assert is_thawed(lane, web)


def test_a_guest_that_is_switched_off_while_frozen_is_no_error(lane: HostLane, own_lab: Lab, web: Vm) -> None:
    with freeze.frozen(lane.host, lane, web.uuid) as outcome:
        power_off(lane, web.uuid)

    assert outcome.frozen
    start(lane, web.uuid)
    own_lab.wait_until_up("alderaan", "web")


def test_a_guest_that_cannot_be_thawed_is_told_loudly_and_thawed_later_by_the_second_process(
    lane: HostLane, web: Vm
) -> None:
    with (
        pytest.raises(freeze.GuestStillFrozen) as failure,
        freeze.frozen(lane.host, lane, web.uuid, thaw_timeout_s=1),
    ):
        suspend(lane, web.uuid)
    resume(lane, web.uuid)

    assert "is still frozen" in failure.value.what
    assert "domfsthaw web" in failure.value.next_step
    assert failure.value.exit_code == ExitCode.GUEST
    assert wait_for(lambda: is_thawed(lane, web))
    assert wait_for(lambda: guards(lane) == [])


def test_a_daemon_that_is_restarted_while_the_guest_is_frozen_is_waited_for(
    own_lab: Lab, lane: HostLane, web: Vm
) -> None:
    with freeze.frozen(lane.host, lane, web.uuid) as outcome:
        restart_daemon(own_lab, "alderaan")

    assert outcome.frozen
    assert is_thawed(lane, web)
    assert journal_grows(lane, web)


class TestHooks:
    """What the agent of `web` runs at freeze and thaw is replaced: no runner of ours ends what hangs."""

    @pytest.fixture(autouse=True)
    def own_hook(self, lane: HostLane, web: Vm) -> Iterator[None]:
        in_guest(lane, web, "cp /etc/qemu/fsfreeze-hook /tmp/hook.kept")
        yield
        assert wait_for(lambda: agent.ping(lane, web.uuid) and is_thawed(lane, web))
        in_guest(lane, web, "cp /tmp/hook.kept /etc/qemu/fsfreeze-hook")

    def hook(self, lane: HostLane, web: Vm, script: str) -> None:
        in_guest(lane, web, f"printf '#!/bin/sh\n{script}\n' > /etc/qemu/fsfreeze-hook")

    def test_a_hook_that_fails_is_a_reason_and_not_an_error(self, lane: HostLane, web: Vm) -> None:
        self.hook(lane, web, "exit 3")

        with freeze.frozen(lane.host, lane, web.uuid) as outcome:
            pass

        assert not outcome.frozen
        assert "hook" in outcome.note
        assert "3" in outcome.note
        assert is_thawed(lane, web)

    def test_a_freeze_that_comes_true_after_its_time_is_thawed_all_the_same(self, lane: HostLane, web: Vm) -> None:
        self.hook(lane, web, "[ $1 = thaw ] || sleep 12; exit 0")

        with freeze.frozen(lane.host, lane, web.uuid, freeze_timeout_s=2) as outcome:
            pass

        assert outcome == freeze.FreezeOutcome(
            frozen=False, note="Not frozen: the guest did not finish freezing within 2 s."
        )
        assert is_thawed(lane, web)
        assert journal_grows(lane, web)
        time.sleep(1)
        assert is_thawed(lane, web)

    def test_a_freeze_that_is_done_when_its_answer_is_overdue_counts(self, lane: HostLane, web: Vm) -> None:
        self.hook(lane, web, "[ $1 = thaw ] || sleep 4; exit 0")

        with freeze.frozen(lane.host, lane, web.uuid, freeze_timeout_s=2) as outcome:
            status_inside = thaw.freeze_status(lane, web.uuid)

        assert outcome.frozen
        assert "late" in outcome.note
        assert status_inside == "frozen"
        assert is_thawed(lane, web)
        assert journal_grows(lane, web)

    def test_a_freeze_that_the_agent_lost_is_no_freeze(self, lane: HostLane, web: Vm) -> None:
        self.hook(lane, web, "[ $1 = thaw ] || kill -9 $(pidof qemu-ga); exit 0")

        with freeze.frozen(lane.host, lane, web.uuid) as outcome:
            pass

        assert outcome == freeze.FreezeOutcome(
            frozen=False, note="Not frozen: the guest agent lost the command; it was restarted, or gave up."
        )
        assert is_thawed(lane, web)

    def test_a_parent_killed_while_the_guest_still_freezes_leaves_no_frozen_guest(
        self, lane: HostLane, web: Vm
    ) -> None:
        self.hook(lane, web, "[ $1 = thaw ] || sleep 6; exit 0")
        code = (
            "from engine.hosts import HostLane, freeze\nfrom engine.settings import Host\n"
            f"host = Host('alderaan', {lane.host.uri!r})\n"
            f"freeze.frozen(host, HostLane(host), {web.uuid!r}, freeze_timeout_s=20).__enter__()\n"
        )
        process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.getcwd()})
        assert wait_for(lambda: guards(lane) != [])
        time.sleep(1)

        process.kill()
        process.wait()
        time.sleep(8)

        assert wait_for(lambda: agent.ping(lane, web.uuid) and is_thawed(lane, web))
        assert wait_for(lambda: guards(lane) == [])
        assert journal_grows(lane, web)
