"""The guest agent, asked of real guests."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator

import pytest

from engine.errors import ExitCode
from engine.hosts import GuestDidNotAnswer, HostLane, MissingOnHost, agent, resume, suspend
from engine.hosts.model import Vm
from engine.lab import Lab
from tests.hosts.live import in_guest, lane_to, vm_of

pytestmark = [pytest.mark.lab, pytest.mark.slow]


@pytest.fixture(scope="module")
def lane(lab: Lab) -> Iterator[HostLane]:
    with lane_to(lab, "alderaan") as opened:
        yield opened


@pytest.fixture(scope="module")
def web(lane: HostLane) -> Vm:
    return vm_of(lane, "web")


def test_a_guest_with_an_agent_answers(lane: HostLane, web: Vm) -> None:
    assert agent.ping(lane, web.uuid)
    assert agent.wait_until_answering(lane, web.uuid, timeout_s=30) < 30


def test_a_vm_without_a_channel_never_answers_and_is_not_waited_for(lab: Lab) -> None:
    with lane_to(lab, "coruscant") as coruscant:
        legacy = vm_of(coruscant, "legacy")
        began = time.monotonic()

        assert not agent.ping(coruscant, legacy.uuid)
        with pytest.raises(GuestDidNotAnswer) as failure:
            agent.wait_until_answering(coruscant, legacy.uuid, timeout_s=30)

    assert time.monotonic() - began < 3
    assert failure.value.what == "legacy has no channel for a guest agent."


def test_a_vm_that_is_off_is_not_waited_for(lab: Lab) -> None:
    with lane_to(lab, "yavin") as yavin:
        build = vm_of(yavin, "build")

        assert not agent.ping(yavin, build.uuid)
        with pytest.raises(GuestDidNotAnswer) as failure:
            agent.wait_until_answering(yavin, build.uuid, timeout_s=30)

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


def test_a_silent_agent_costs_its_time_limit_and_not_more(lane: HostLane, web: Vm) -> None:
    # Stopped, not killed: the channel stays open and nobody reads it. Not before it has answered for this command.
    stop = "(sleep 2; kill -STOP $(pidof qemu-ga); sleep 12; kill -CONT $(pidof qemu-ga)) >/dev/null 2>&1 &"
    in_guest(lane, web, stop)
    while agent.ping(lane, web.uuid, timeout_s=1):
        time.sleep(0.2)

    began = time.monotonic()
    answered = agent.ping(lane, web.uuid, timeout_s=2)
    waited_s = time.monotonic() - began
    with pytest.raises(GuestDidNotAnswer) as failure:
        agent.wait_until_answering(lane, web.uuid, timeout_s=2)

    assert not answered
    assert 1.5 < waited_s < 6
    assert "within 2 s" in failure.value.what
    assert agent.wait_until_answering(lane, web.uuid, timeout_s=30) > 1


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


def test_a_command_that_takes_too_long_is_given_up_and_the_lane_was_never_blocked(lane: HostLane, web: Vm) -> None:
    began = time.monotonic()
    with pytest.raises(GuestDidNotAnswer) as failure:
        agent.run(lane, web.uuid, ["sleep", "6"], timeout_s=1.5)

    assert 1.5 <= time.monotonic() - began < 4
    assert "still runs in the guest" in failure.value.untouched
    assert agent.ping(lane, web.uuid)


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
