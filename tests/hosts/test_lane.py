from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from engine.errors import ExitCode, NotFound
from engine.hosts import HostLane, HostLanes, HostUnreachable, MissingOnHost, take_snapshots
from engine.hosts import lane as lane_module
from engine.hosts.model import HostStatus
from engine.hosts.reach import LibvirtAlone
from engine.settings import Host, Settings

TEST_DRIVER = Host(name="practice", uri="test:///default")


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A TCP port that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield server.getsockname()[1]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up an opening after a second, and turn callers away afterwards for longer than any test lasts."""
    monkeypatch.setattr(LibvirtAlone, "open_timeout_s", 1.0)
    monkeypatch.setattr(lane_module, "BREAKER_S", 3600.0)
    monkeypatch.setattr(lane_module, "BREAKER_LONGEST_S", 3600.0)


@pytest.fixture
def openings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts whose connection was begun to be opened, one entry each time."""
    begun: list[str] = []
    connect = HostLane._connect

    def counted(self: HostLane, worker: object) -> object:
        begun.append(self.host.name)
        return connect(self, worker)

    monkeypatch.setattr(HostLane, "_connect", counted)
    return begun


def test_work_runs_in_the_hosts_own_thread_with_its_connection() -> None:
    lane = HostLane(TEST_DRIVER)

    thread, names = lane.run(
        lambda connection: (threading.current_thread().name, [d.name() for d in connection.listAllDomains()])
    )

    assert thread == "host-practice"
    assert names == ["test"]


def test_the_connection_is_opened_once_for_many_calls() -> None:
    lane = HostLane(TEST_DRIVER)

    assert lane.run(id) == lane.run(id)


def test_calls_of_many_threads_are_carried_out_one_after_the_other() -> None:
    lane = HostLane(TEST_DRIVER)
    at_work: list[int] = []
    most: list[int] = []

    def work(_connection: object) -> None:
        at_work.append(1)
        most.append(len(at_work))
        time.sleep(0.01)
        at_work.pop()

    threads = [threading.Thread(target=lambda: lane.run(work)) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(most) == 10
    assert max(most) == 1


def test_a_refusal_of_the_host_keeps_libvirts_number_and_words() -> None:
    lane = HostLane(TEST_DRIVER)

    with pytest.raises(MissingOnHost) as refused:
        lane.run(lambda connection: connection.lookupByName("nobody").name())

    assert refused.value.code == 42
    assert refused.value.exit_code is ExitCode.NOT_FOUND
    assert isinstance(refused.value, NotFound)


def test_other_exceptions_of_the_work_come_as_they_are_and_the_lane_goes_on() -> None:
    lane = HostLane(TEST_DRIVER)

    with pytest.raises(ZeroDivisionError):
        lane.run(lambda _connection: 1 // 0)

    assert lane.run(lambda connection: connection.getType()) == "TEST"


def test_work_that_exceeds_its_time_is_abandoned_and_the_next_is_done_by_a_new_thread() -> None:
    lane = HostLane(TEST_DRIVER)
    lane.run(lambda connection: connection.getType())
    release = threading.Event()

    with pytest.raises(HostUnreachable) as late:
        lane.run(lambda _connection: release.wait(600), timeout_s=1)

    assert late.value.exit_code is ExitCode.HOST_UNREACHABLE
    assert "not known" in late.value.untouched
    assert lane.run(lambda connection: connection.getType(), timeout_s=60) == "TEST"
    release.set()


def test_a_thread_that_is_stuck_in_putting_a_lost_connection_away_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    lane = HostLane(TEST_DRIVER)
    lane.run(lambda connection: connection.getType())
    release = threading.Event()
    with monkeypatch.context() as hanging:
        hanging.setattr(HostLane, "_usable", lambda *_: False)
        hanging.setattr(HostLane, "_discard", lambda *_: release.wait(600))

        with pytest.raises(HostUnreachable):
            lane.run(lambda connection: connection.getType(), timeout_s=0.3)

    assert lane.run(lambda connection: connection.getType(), timeout_s=60) == "TEST"
    release.set()


def test_a_call_that_waits_behind_a_long_one_gives_up_alone() -> None:
    lane = HostLane(TEST_DRIVER)
    begun, release = threading.Event(), threading.Event()
    long_one: list[bool] = []

    def take_long(_connection: object) -> bool:
        begun.set()
        return release.wait(600)

    thread = threading.Thread(target=lambda: long_one.append(lane.run(take_long, timeout_s=600)))
    thread.start()
    begun.wait(60)

    with pytest.raises(HostUnreachable, match="busy with earlier questions"):
        lane.run(lambda connection: connection.getType(), timeout_s=0.2)

    release.set()
    thread.join()
    assert long_one == [True]


def test_calls_that_wait_behind_an_abandoned_one_are_still_carried_out() -> None:
    lane = HostLane(TEST_DRIVER)
    begun, release = threading.Event(), threading.Event()
    waiting: list[str] = []

    def hang(_connection: object) -> None:
        begun.set()
        release.wait(600)

    hung = threading.Thread(target=lambda: _swallow(lambda: lane.run(hang, timeout_s=1)))
    hung.start()
    begun.wait(60)
    behind = threading.Thread(target=lambda: waiting.append(lane.run(lambda c: c.getType(), timeout_s=60)))
    behind.start()

    behind.join(60)

    assert waiting == ["TEST"]
    release.set()


def test_a_host_that_says_nothing_is_given_up_and_then_not_asked_again(
    silent_port: int, impatient: None, openings: list[str]
) -> None:
    lane = HostLane(Host(name="silent", uri=f"qemu+tcp://127.0.0.1:{silent_port}/system"))

    for _ in range(2):
        with pytest.raises(HostUnreachable, match="said nothing"):
            lane.run(lambda connection: connection.getType(), timeout_s=600)

    assert openings == ["silent"]


def test_ten_callers_of_a_silent_host_wait_once_together(
    silent_port: int, impatient: None, openings: list[str]
) -> None:
    lane = HostLane(Host(name="silent", uri=f"qemu+tcp://127.0.0.1:{silent_port}/system"))
    errors: list[BaseException] = []

    def ask() -> None:
        try:
            lane.run(lambda connection: connection.getType(), timeout_s=600)
        except HostUnreachable as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(errors) == 10
    assert openings == ["silent"]


def test_a_caller_with_less_patience_than_an_opening_takes_does_not_stop_it(
    silent_port: int, openings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LibvirtAlone, "open_timeout_s", 600.0)
    lane = HostLane(Host(name="silent", uri=f"qemu+tcp://127.0.0.1:{silent_port}/system"))

    with pytest.raises(HostUnreachable):
        lane.run(lambda connection: connection.getType(), timeout_s=0.2)

    # It waits for the same opening; the breaker would have answered at once.
    started = time.monotonic()
    with pytest.raises(HostUnreachable):
        lane.run(lambda connection: connection.getType(), timeout_s=0.4)
    assert time.monotonic() - started >= 0.4
    assert openings == ["silent"]


def test_an_operator_who_asks_again_is_not_kept_waiting_for_the_breaker(tmp_path) -> None:
    lane = HostLane(Host(name="dead", uri=f"qemu+unix:///session?socket={tmp_path}/nobody"))
    with pytest.raises(HostUnreachable, match="there is no socket"):
        lane.run(lambda connection: connection.getType())

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/nobody")
        with pytest.raises(HostUnreachable, match="there is no socket"):
            lane.run(lambda connection: connection.getType())
        lane.forget_failure()
        with pytest.raises(HostUnreachable, match="nobody listens"):
            lane.run(lambda connection: connection.getType())


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("qemu+unix:///session?socket=/nonexistent/libvirt-sock", "there is no socket /nonexistent/libvirt-sock"),
        ("qemu+tcp://127.0.0.1:1/system", "127.0.0.1:1 refuses connections"),
        ("qemu+ssh://nobody@127.0.0.1:1/system", "127.0.0.1 port 1 refuses connections"),
        ("qemu+ssh://host.invalid/system", "the name host.invalid is not known"),
        ("qemu+tcp://host.invalid/system", "its uri asks for TCP without encryption"),
        ("qemu+carrier-pigeon:///system", "its uri is wrong"),
        ("xen:///system", "its uri is wrong"),
        ("/run/libvirt-sock", "its uri is wrong"),
    ],
)
def test_what_is_wrong_with_a_connection_is_said_in_one_sentence_with_a_next_step(uri: str, reason: str) -> None:
    lane = HostLane(Host(name="alderaan", uri=uri))

    with pytest.raises(HostUnreachable) as failed:
        lane.run(lambda connection: connection.getType())

    assert failed.value.what.startswith(f"Host alderaan does not answer: {reason}")
    assert failed.value.what.count("\n") == 0
    assert failed.value.next_step
    assert failed.value.exit_code is ExitCode.HOST_UNREACHABLE


def test_a_daemon_that_is_stopped_is_given_up_and_used_again_when_it_goes_on(
    bare_host_factory, impatient: None
) -> None:
    bare = bare_host_factory()
    lane = HostLane(bare.host)
    assert lane.run(lambda connection: connection.getType()) == "QEMU"

    bare.signal_daemon(signal.SIGSTOP)
    with pytest.raises(HostUnreachable, match="did not finish"):
        lane.run(lambda connection: connection.getHostname(), timeout_s=1)
    with pytest.raises(HostUnreachable, match="said nothing"):
        lane.run(lambda connection: connection.getHostname(), timeout_s=600)

    bare.signal_daemon(signal.SIGCONT)
    # The opening that was left behind succeeds now and ends the time in which callers are turned away.
    deadline = time.monotonic() + 60
    while True:
        try:
            assert lane.run(lambda connection: connection.getType()) == "QEMU"
            break
        except HostUnreachable:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_daemon_that_was_killed_is_reconnected_to_when_it_is_back(bare_host_factory) -> None:
    bare = bare_host_factory()
    lane = HostLane(bare.host)
    lane.run(lambda connection: connection.getType())

    bare.stop()
    with pytest.raises(HostUnreachable):
        lane.run(lambda connection: connection.getHostname())
    bare.start()
    lane.forget_failure()

    assert lane.run(lambda connection: connection.getType()) == "QEMU"


def test_a_connection_that_breaks_in_the_middle_says_that_the_outcome_is_not_known(bare_host_factory) -> None:
    bare = bare_host_factory()
    lane = HostLane(bare.host)

    def kill_then_ask(connection) -> None:
        bare.signal_daemon(signal.SIGKILL)
        time.sleep(0.3)
        connection.getHostname()

    with pytest.raises(HostUnreachable) as broken:
        lane.run(kill_then_ask)
    assert "not known" in broken.value.untouched


QUIT_WITH_HUNG_HOSTS = """
import sys, time
from engine.hosts import HostLane, HostLanes, take_snapshots
from engine.settings import Host, Settings
from pathlib import Path
stopped, ports = sys.argv[1], sys.argv[2:]
hosts = [Host(name=f"h{p}", uri=f"qemu+tcp://127.0.0.1:{p}/system") for p in ports]
warm = HostLane(Host(name="warm", uri=stopped))
warm.run(lambda connection: connection.getType())
print("connected", flush=True)
sys.stdin.readline()
with HostLanes(Settings(file=Path("x"), hosts=tuple(hosts), repositories=(), levels=(), state=Path("x"))) as lanes:
    for snapshot in take_snapshots([warm, *lanes.values()], timeout_s=1):
        print(snapshot.status.value, flush=True)
print("quit", flush=True)
"""


def test_a_process_with_eight_hung_hosts_ends_although_they_go_on_hanging(bare_host_factory) -> None:
    bare = bare_host_factory()
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(8)]
    ports = [str(server.getsockname()[1]) for server in servers]
    process = subprocess.Popen(
        [sys.executable, "-c", QUIT_WITH_HUNG_HOSTS, bare.host.uri, *ports],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin and process.stdout and process.stderr
    assert process.stdout.readline() == "connected\n"
    bare.signal_daemon(signal.SIGSTOP)
    process.stdin.write("\n")
    process.stdin.flush()

    lines = [process.stdout.readline().strip() for _ in range(9)]
    process.wait(60)

    assert lines == ["offline"] * 9
    assert process.returncode == 0
    assert process.stderr.read() == ""
    for server in servers:
        server.close()


def test_snapshots_of_dead_hosts_do_not_hold_up_those_that_answer(silent_port: int, impatient: None) -> None:
    answering = HostLane(TEST_DRIVER)
    answering.run(lambda connection: connection.getType())
    lanes = [
        HostLane(Host(name="silent", uri=f"qemu+tcp://127.0.0.1:{silent_port}/system")),
        answering,
        HostLane(Host(name="nowhere", uri="qemu+unix:///session?socket=/nonexistent")),
    ]

    snapshots = take_snapshots(lanes, timeout_s=600)

    assert [(s.host, s.status) for s in snapshots] == [
        ("silent", HostStatus.OFFLINE),
        ("practice", HostStatus.ONLINE),
        ("nowhere", HostStatus.OFFLINE),
    ]
    assert snapshots[2].reason == "there is no socket /nonexistent, so no libvirt daemon runs there"
    assert snapshots[2].next_step


def test_a_lane_that_was_closed_refuses_at_once() -> None:
    lane = HostLane(TEST_DRIVER)
    lane.run(lambda connection: connection.getType())

    lane.close()

    with pytest.raises(HostUnreachable, match="closed"):
        lane.run(lambda connection: connection.getType())


def test_an_unknown_host_is_answered_with_the_nearest_name(tmp_path) -> None:
    settings = Settings(
        file=tmp_path / "newhope.toml", hosts=(TEST_DRIVER,), repositories=(), levels=(), state=tmp_path
    )

    with HostLanes(settings) as lanes, pytest.raises(NotFound, match="practise") as missing:
        lanes["practise"]

    assert "practice" in missing.value.next_step


def _swallow(action) -> None:
    with suppress(HostUnreachable):
        action()
