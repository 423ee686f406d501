"""A backup that is killed after each of its calls to libvirt: the guest goes on, and nothing is left for the next.

With `NEWHOPE_KILLED_BACKUPS=all` that is after every call, in ten minutes; the suite takes every third, of each method
other ones.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from pathlib import Path

import pytest

from engine.backup.leftovers import find
from engine.backup.vm_notes import VmNotes
from engine.errors import NewhopeError
from engine.hosts import agent, checkpoints, resume, suspend
from engine.hosts.model import Vm
from engine.lab.journal import ask_journal
from engine.repository import Point
from engine.settings import Method
from tests.e2e.conftest import Operator
from tests.e2e.killing import back_up_killed_after
from tests.e2e.test_incremental import content_now, content_of
from tests.faults.figures import Fault, count
from tests.hosts.live import files_in, in_guest
from tests.waiting import wait_for

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.timeout(900)]

METHODS = (Method.HOT, Method.COLD, Method.MEMORY)
EVERY_SO_MANY_CALLS = 1 if os.environ.get("NEWHOPE_KILLED_BACKUPS") == "all" else len(METHODS)


class Killer:
    """Backups of one VM that are killed, and what is left then."""

    def __init__(self, operator: Operator, vm: Vm, method: Method, folder: Path) -> None:
        self.operator = operator
        self.vm = vm
        self.lane = operator.lanes[vm.host]
        self.notes = VmNotes(operator.settings.state)
        self.first_call = 1 + METHODS.index(method) % EVERY_SO_MANY_CALLS
        self._method = method
        self._folder = folder

    def back_up_killed_after(self, calls: int) -> str | None:
        """The call after which it was killed; None if it came to its end."""
        return back_up_killed_after(self.operator, self.vm, self._method, calls, self._folder)

    def wait_until_guest_goes_on(self, step: str) -> None:
        """Until the guest is seen to write; what it counts begins anew where it was booted meanwhile."""
        since: int | None = None

        def writes() -> bool:
            nonlocal since
            now = self._acked()
            if now is None or since is None or now < since:
                since = now
                return False
            return now > since + 1

        wait_for(writes, 240, what=f"a write of the guest after {step}")

    def _acked(self) -> int | None:
        try:
            return ask_journal(self.lane, self.vm.uuid).acked
        except NewhopeError:
            return None

    def next_point_and_truth(self) -> tuple[Point, str]:
        """A point of the guest while it stands still, and what its disk holds then."""
        suspend(self.lane, self.vm.uuid)
        try:
            return self.operator.back_up(self.vm.name), content_now(self.operator, self.vm)
        finally:
            resume(self.lane, self.vm.uuid)

    def nothing_is_left(self) -> None:
        assert find(self.lane, self.vm, self.notes) == ()
        assert files_in(self.lane.host.scratch) == []
        assert self.notes.kept() == ()
        assert len(checkpoints.own_checkpoints(self.lane, self.vm.uuid)) == 1
        assert wait_for(lambda: self._guards() == "", 30)

    def _guards(self) -> str:
        return subprocess.run(["pgrep", "-af", f"_guard .*{self.vm.uuid}"], capture_output=True, text=True).stdout


@pytest.fixture(
    params=[Method.HOT, *(pytest.param(each, marks=pytest.mark.long) for each in METHODS if each is not Method.HOT)]
)
def killer(operator: Operator, request: pytest.FixtureRequest, tmp_path: Path) -> Killer:
    vm = operator.vm("web")
    # The test before may have had it boot at its very end.
    agent.wait_until_answering(operator.lanes[vm.host], vm.uuid, timeout_s=240)
    return Killer(operator, vm, request.param, tmp_path)


def test_nothing_is_left_of_a_backup_that_was_killed(killer: Killer) -> None:
    killer.operator.back_up("web")
    killed: list[str] = []
    wrong: list[str] = []

    for calls in itertools.count(killer.first_call, EVERY_SO_MANY_CALLS):
        in_guest(killer.lane, killer.vm, "head -c 300000 /dev/urandom > /data/step; sync")
        call = killer.back_up_killed_after(calls)
        if call is None:
            break
        killed.append(call)
        step = f"{calls}: {call}"
        killer.operator.back_up("web")
        killer.wait_until_guest_goes_on(step)
        killer.nothing_is_left()
        point, truth = killer.next_point_and_truth()
        if content_of(killer.operator, point) != truth:
            wrong.append(step)
        assert point.manifest.disks[0].read_reason.startswith("what was written since"), step

    print(killed)
    assert wrong == []
    assert len(killed) > 5 // EVERY_SO_MANY_CALLS
    count(Fault.KILL, "libvirt calls of a backup", len(killed))
