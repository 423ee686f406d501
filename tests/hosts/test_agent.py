"""The guest agent, asked of real guests."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.etree import ElementTree

import libvirt
import pytest

from engine.errors import ExitCode
from engine.hosts import GuestDidNotAnswer, HostLane, MissingOnHost, agent, resume, suspend
from engine.hosts.model import Vm
from engine.lab import Lab, console
from tests.hosts.live import in_guest, lane_to, vm_of
from tests.waiting import wait_for

pytestmark = [pytest.mark.lab, pytest.mark.slow]


@pytest.fixture(scope="module")
def lane(lab: Lab) -> Iterator[HostLane]:
    with lane_to(lab, "alderaan") as opened:
        yield opened


@pytest.fixture(scope="module")
def web(lane: HostLane) -> Vm:
    return vm_of(lane, "web")


@dataclass
class Clock:
    """Stands for the module `time`: it moves only by the pauses that are made, and these take no time."""

    now_s: float = 0.0
    pauses_s: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.pauses_s.append(seconds)
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(agent, "time", clock)
    return clock


def plug_network(lane: HostLane, vm: Vm, state: str) -> None:
    """Pull a guest's network cable or put it back: something that a guest sees without being spoken to."""

    def change(connection: libvirt.virConnect) -> None:
        domain = connection.lookupByUUIDString(vm.uuid)
        card = ElementTree.fromstring(domain.XMLDesc()).find("devices/interface")
        assert card is not None
        for link in card.findall("link"):
            card.remove(link)
        ElementTree.SubElement(card, "link", state=state)
        domain.updateDeviceFlags(ElementTree.tostring(card, encoding="unicode"), libvirt.VIR_DOMAIN_AFFECT_LIVE)

    lane.run(change)


def hostname_on_console(lane: HostLane, vm: Vm) -> str:
    return json.loads(console.ask_status(lane, vm.uuid, timeout_s=60))["vm"]


def test_a_guest_with_an_agent_answers(lane: HostLane, web: Vm) -> None:
    assert agent.ping(lane, web.uuid)
    assert agent.wait_until_answering(lane, web.uuid, timeout_s=120) >= 0


@pytest.mark.guests("legacy")
def test_a_vm_without_a_channel_never_answers_and_is_not_waited_for(lab: Lab, clock: Clock) -> None:
    with lane_to(lab, "coruscant") as coruscant:
        legacy = vm_of(coruscant, "legacy")

        assert not agent.ping(coruscant, legacy.uuid)
        with pytest.raises(GuestDidNotAnswer) as failure:
            agent.wait_until_answering(coruscant, legacy.uuid, timeout_s=30)

    assert clock.pauses_s == []
    assert failure.value.what == "legacy has no channel for a guest agent."


def test_a_vm_that_is_off_is_not_waited_for(lab: Lab, clock: Clock) -> None:
    with lane_to(lab, "yavin") as yavin:
        build = vm_of(yavin, "build")

        assert not agent.ping(yavin, build.uuid)
        with pytest.raises(GuestDidNotAnswer) as failure:
            agent.wait_until_answering(yavin, build.uuid, timeout_s=30)

    assert clock.pauses_s == []
    assert "not running" in failure.value.what
    assert failure.value.exit_code == ExitCode.GUEST


def test_a_paused_guest_does_not_answer_and_is_well_afterwards(lane: HostLane, web: Vm) -> None:
    suspend(lane, web.uuid)
    try:
        assert not agent.ping(lane, web.uuid)
        with pytest.raises(GuestDidNotAnswer):
            agent.run(lane, web.uuid, ["true"])
    finally:
        resume(lane, web.uuid)

    assert agent.ping(lane, web.uuid)


def test_a_vm_that_is_not_there_is_said_to_be_missing(lane: HostLane) -> None:
    with pytest.raises(MissingOnHost):
        agent.ping(lane, "00000000-0000-4000-8000-000000000000")


def test_a_silent_agent_costs_its_time_limit_and_is_heard_when_it_speaks_again(lane: HostLane, web: Vm) -> None:
    # Stopped, not killed: the channel stays open and nobody reads it. The guest stops it when its cable is pulled, says
    # so on its console, and lets it go on only when the cable is back: nothing here depends on how long things take.
    carrier = '[ "$(cat /sys/class/net/eth0/carrier)" = {} ]'
    in_guest(
        lane,
        web,
        f"(until {carrier.format(0)}; do usleep 100000; done; kill -STOP $(pidof qemu-ga); hostname silent;"
        f" until {carrier.format(1)}; do usleep 100000; done; hostname web; kill -CONT $(pidof qemu-ga))"
        " >/dev/null 2>&1 &",
    )
    plug_network(lane, web, "down")
    try:
        assert wait_for(lambda: hostname_on_console(lane, web) == "silent", 120)

        answered = agent.ping(lane, web.uuid, timeout_s=2)
        with pytest.raises(GuestDidNotAnswer) as failure:
            agent.wait_until_answering(lane, web.uuid, timeout_s=2)
        still = hostname_on_console(lane, web)
    finally:
        plug_network(lane, web, "up")

    assert (answered, still) == (False, "silent")
    assert "within 2 s" in failure.value.what
    assert agent.wait_until_answering(lane, web.uuid, timeout_s=120) >= 0


def test_a_command_tells_its_output_and_exit_code(lane: HostLane, web: Vm) -> None:
    result = agent.run(lane, web.uuid, ["/bin/sh", "-c", "echo out; echo err >&2; exit 3"])

    assert result == agent.CommandResult(exit_code=3, stdout=b"out\n", stderr=b"err\n")


def test_output_is_bytes_and_may_be_large(lane: HostLane, web: Vm) -> None:
    result = agent.run(lane, web.uuid, ["/bin/sh", "-c", "head -c 1000000 /dev/urandom | tee /tmp/noise; sync"])

    assert len(result.stdout) == 1_000_000
    assert agent.read_file(lane, web.uuid, "/tmp/noise") == result.stdout


def test_a_command_that_a_signal_ended_says_which(lane: HostLane, web: Vm) -> None:
    result = agent.run(lane, web.uuid, ["/bin/sh", "-c", "kill -9 $$"])

    assert (result.exit_code, result.signal) == (137, 9)


def test_a_command_that_does_not_exist_is_the_agents_refusal(lane: HostLane, web: Vm) -> None:
    with pytest.raises(agent.AgentRefused) as failure:
        agent.run(lane, web.uuid, ["/no/such/program"])

    assert "No such file" in failure.value.reason
    assert failure.value.exit_code == ExitCode.GUEST


def test_a_command_that_takes_too_long_is_given_up_and_the_lane_is_free_meanwhile(
    lane: HostLane, web: Vm, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    pings: list[bool] = []
    pause = clock.sleep
    monkeypatch.setattr(clock, "sleep", lambda seconds: (pause(seconds), pings.append(agent.ping(lane, web.uuid))))

    with pytest.raises(GuestDidNotAnswer) as failure:
        agent.run(lane, web.uuid, ["sleep", "86399"], timeout_s=1.5)

    assert sum(clock.pauses_s) == pytest.approx(1.5)
    assert pings == [True] * len(clock.pauses_s)
    assert "still runs in the guest" in failure.value.untouched
    (process,) = re.findall(r"process (\d+)", failure.value.next_step)
    in_guest(lane, web, f"kill {process}")


def test_a_file_longer_than_a_piece_comes_whole(lane: HostLane, web: Vm) -> None:
    digest = in_guest(lane, web, "head -c 3000001 /dev/urandom > /tmp/long; md5sum < /tmp/long").split()[0]

    content = agent.read_file(lane, web.uuid, "/tmp/long")

    assert len(content) == 3_000_001 > agent.PIECE_BYTES
    assert hashlib.md5(content).hexdigest() == digest


def test_an_empty_file_is_empty_and_a_missing_one_is_refused(lane: HostLane, web: Vm) -> None:
    in_guest(lane, web, ": > /tmp/empty")

    assert agent.read_file(lane, web.uuid, "/tmp/empty") == b""
    with pytest.raises(agent.AgentRefused) as failure:
        agent.read_file(lane, web.uuid, "/tmp/missing")
    assert "No such file" in failure.value.reason


def test_a_file_without_end_is_given_up_at_the_limit(lane: HostLane, web: Vm) -> None:
    with pytest.raises(agent.AgentRefused) as failure:
        agent.read_file(lane, web.uuid, "/dev/zero", limit_bytes=2 << 20)

    assert "longer than" in failure.value.reason
    assert agent.ping(lane, web.uuid)
