from __future__ import annotations

import time

import pytest

from engine.hosts import HostLane, shut_down, start, vm_state
from engine.hosts.model import VmState
from engine.settings import find_host

pytestmark = pytest.mark.lab


def test_a_guest_shuts_down_by_its_agent_and_one_without_by_its_power_button(lab_factory) -> None:
    lab = lab_factory(hosts=("alderaan", "coruscant"), guests=("web", "legacy"))

    for name, guest in (("alderaan", "web"), ("coruscant", "legacy")):
        lane = HostLane(find_host(lab.settings, name))
        uuid = lab.uuid(guest)
        started = time.monotonic()

        shut_down(lane, uuid, timeout_s=90)

        assert vm_state(lane, uuid) is VmState.OFF
        print(f"{guest}: off after {time.monotonic() - started:.1f} s")
        start(lane, uuid)
        lane.close()
