"""Cold backups: a clean shutdown, the downtime of a reboot, and a guest that is back before its disks are read."""

import os
import pty
import time
from collections.abc import Iterator

import pytest

from engine.errors import ExitCode
from engine.hosts import agent
from engine.hosts.model import VmState
from engine.lab.journal import ask_journal, prove
from engine.repository import Consistency
from engine.settings import Method
from tests.command import newhope
from tests.e2e.conftest import Operator
from tests.hosts.live import in_guest

pytestmark = pytest.mark.lab


def test_a_cold_backup_costs_a_reboot_and_holds_all_that_the_guest_had_written(operator: Operator):
    original = operator.vm("web")
    lane = operator.lanes[original.host]
    before = ask_journal(lane, original.uuid)

    point = operator.back_up("web", Method.COLD)

    agent.wait_until_answering(lane, original.uuid, timeout_s=120)
    after = ask_journal(lane, original.uuid)
    assert point.manifest.consistency is Consistency.OFF
    assert point.manifest.downtime_s > 0
    assert after.boots == before.boots + 1
    restored = operator.restore(point, "coruscant")
    found = ask_journal(operator.lanes["coruscant"], restored.uuid)
    # The guest had shut down: what it found at its own next boot is what the recovery point holds.
    assert (found.found_last, found.found_bytes) == (after.found_last, after.found_bytes)
    prove((lane, original.uuid), (operator.lanes["coruscant"], restored.uuid), before, after)


@pytest.mark.guests("legacy")
def test_a_guest_without_an_agent_is_shut_down_by_its_power_button(operator: Operator):
    point = operator.back_up("legacy", Method.COLD)

    assert point.manifest.consistency is Consistency.OFF
    assert operator.vm("legacy").state is VmState.RUNNING


def test_cold_leaves_a_vm_that_is_off_off(operator: Operator):
    point = operator.back_up("build", Method.COLD)

    assert point.manifest.downtime_s == 0
    assert operator.vm("build").state is VmState.OFF


class Terminal:
    """`newhope backup web --method cold`, typed at a terminal."""

    def __init__(self, operator: Operator) -> None:
        words = ("backup", "web", "--method", "cold", "--shutdown-timeout", "3s", "--plain")
        command = newhope(operator.lab.settings_file, *words)
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execv(command[0], command)
        self.shown = ""
        self.said = ""

    def answer(self, question: str, answer: str) -> None:
        while question not in self.shown:
            assert self._read(), self.said
        self.shown = self.shown.partition(question)[2]
        # What is typed before the question is complete may be thrown away.
        time.sleep(0.2)
        os.write(self.terminal, f"{answer}\n".encode())

    def end(self) -> tuple[int, str]:
        """Its exit status, and all that it showed."""
        while self._read():
            pass
        _, status = os.waitpid(self.pid, 0)
        os.close(self.terminal)
        return os.waitstatus_to_exitcode(status), " ".join(self.said.split())

    def _read(self) -> bool:
        try:
            piece = os.read(self.terminal, 4096).decode(errors="replace")
        except OSError:
            return False
        self.shown += piece
        self.said += piece
        return bool(piece)


@pytest.fixture
def stubborn(operator: Operator) -> Iterator[Operator]:
    """An operator whose guest `web` neither shuts down for its agent nor for its power button."""
    vm, lane = operator.vm("web"), operator.lane("web")
    # An agent that cannot shut down says so at once; for one that merely does not, libvirt waits a minute.
    deaf = "cp /sbin/shutdown /tmp/kept; printf '#!/bin/sh\nexit 1\n' >/sbin/shutdown"
    in_guest(lane, vm, deaf)
    yield operator
    in_guest(lane, vm, "if [ -e /tmp/kept ]; then cp /tmp/kept /sbin/shutdown; fi")


@pytest.mark.long
def test_whoever_sits_there_is_asked_what_to_do_with_a_guest_that_ignores_its_shutdown(stubborn: Operator) -> None:
    known = {point.id for point in stubborn.points("web")}
    lane, uuid = stubborn.lane("web"), stubborn.vm("web").uuid
    before = ask_journal(lane, uuid)
    terminal = Terminal(stubborn)

    terminal.answer("Type web to go on", "web")
    terminal.answer("What now?", "wait")
    terminal.answer("What now?", "hot")
    code, _ = terminal.end()

    assert code == ExitCode.OK
    (made,) = [point for point in stubborn.points("web") if point.id not in known]
    assert made.manifest.consistency is Consistency.FILESYSTEM
    assert ask_journal(lane, uuid).boot_id == before.boot_id
    hot, waited, first = stubborn.journal.jobs(limit=3)
    assert "--method hot" in hot.again
    assert "--shutdown-timeout 6s" in waited.again
    assert "--shutdown-timeout 3s" in first.again


def test_giving_up_on_a_guest_that_ignores_its_shutdown_leaves_it_running_and_names_the_ways_on(stubborn: Operator):
    known = {point.id for point in stubborn.points("web")}
    terminal = Terminal(stubborn)

    terminal.answer("Type web to go on", "web")
    terminal.answer("What now?", "")
    code, said = terminal.end()

    assert code == ExitCode.GUEST
    assert "newhope backup web --method cold --shutdown-timeout 6s" in said
    assert "newhope backup web --method hot" in said
    assert {point.id for point in stubborn.points("web")} == known
    assert stubborn.vm("web").state is VmState.RUNNING
