"""Cold backups: a clean shutdown, the downtime of a reboot, and a guest that is back before its disks are read."""

import pytest

from engine.hosts import agent
from engine.hosts.model import VmState
from engine.lab.journal import ask_journal, prove
from engine.repository import Consistency
from engine.settings import Method
from tests.e2e.conftest import Operator

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


def test_a_guest_without_an_agent_is_shut_down_by_its_power_button(operator: Operator):
    point = operator.back_up("legacy", Method.COLD)

    assert point.manifest.consistency is Consistency.OFF
    assert operator.vm("legacy").state is VmState.RUNNING


def test_cold_leaves_a_vm_that_is_off_off(operator: Operator):
    point = operator.back_up("build", Method.COLD)

    assert point.manifest.downtime_s == 0
    assert operator.vm("build").state is VmState.OFF
