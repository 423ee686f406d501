"""A practice host as libvirt itself shows it, for tests that look behind newhope's back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import libvirt

from engine.hosts import event_loop
from engine.lab import Lab, console
from engine.lab.hosts_up import lane_to
from tests.waiting import wait_for


@contextmanager
def libvirt_of(lab: Lab, host: str) -> Iterator[libvirt.virConnect]:
    event_loop.ensure_running()
    connection = libvirt.open(lab.uri(host))
    try:
        yield connection
    finally:
        connection.close()


def journal(lab: Lab, host: str, vm: str) -> dict[str, int]:
    """What the guest says of its journal, through its agent."""
    return json.loads(lab.run_in_guest(host, vm, ["/usr/bin/journal", "status"]).stdout)


def asked_on_the_console(lab: Lab, host: str, vm: str) -> dict[str, int]:
    """The same from the console, which answers without an agent and while file systems are frozen."""
    with lane_to(lab.layout.host(host)) as lane:
        return json.loads(console.ask_status(lane, lab.uuid(vm), timeout_s=60))


def is_off_within(lab: Lab, host: str, vm: str, timeout_s: float) -> bool:
    with libvirt_of(lab, host) as connection:
        return wait_for(lambda: not connection.lookupByName(vm).isActive(), timeout_s)
