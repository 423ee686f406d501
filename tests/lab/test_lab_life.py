"""A lab is made, broken, healed, crashed, removed: never the one that other tests share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.errors import Conflict, NotFound
from engine.hosts import HostUnreachable
from engine.lab import Lab, daemon, processes, record
from engine.lab.layout import layout_of
from tests.lab.live import journal

pytestmark = [pytest.mark.lab, pytest.mark.slow]

LabFactory = Callable[..., Lab]


def processes_of(lab: Lab) -> tuple[processes.ProcessMark, ...]:
    names = lab.layout.names()
    return tuple(
        found
        for program in ("libvirtd", "qemu-", "virtlog", "dnsmasq", "swtpm")
        for found in processes.processes_of(names, program=program)
    )


@pytest.fixture(scope="module")
def small() -> Iterator[Lab]:
    """One host that may be broken; every test leaves it running."""
    folder = Path(tempfile.mkdtemp(prefix="nh-", dir="/tmp"))
    try:
        yield Lab.up(folder, hosts=("alderaan",), guests=("web", "db"))
    finally:
        Lab.remove(folder)


def test_what_a_guest_acknowledged_survives_a_power_cut(small: Lab) -> None:
    lab = small
    before = {vm: journal(lab, "alderaan", vm) for vm in ("web", "db")}
    old = lab.status().hosts[0]

    lab.break_host("alderaan")

    broken = lab.status().hosts[0]
    assert (broken.state, broken.pid, broken.qemu_pids) == ("down", None, ())
    assert processes_of(lab) == ()
    assert not lab.layout.host("alderaan").socket.exists()
    with pytest.raises(HostUnreachable):
        lab.run_in_guest("alderaan", "web", ["/bin/true"])

    lab.heal_host("alderaan")

    healed = lab.status().hosts[0]
    assert healed.state == "running"
    assert healed.pid != old.pid
    assert {guest.name: guest.agent for guest in healed.guests} == {"web": "answers", "db": "answers"}
    for vm in ("web", "db"):
        after = journal(lab, "alderaan", vm)
        assert after["found_last"] >= before[vm]["acked"]
        assert after["boots"] == before[vm]["boots"] + 1
    db = journal(lab, "alderaan", "db")
    assert db["found_last"] - 1 <= db["found_second_last"] <= db["found_last"]


def test_a_line_that_a_crash_cut_does_not_count(small: Lab) -> None:
    lab = small
    torn = "killall journal-writer; sleep 1; printf '9999 17' >> /data/journal; sync; cat /data/journal"
    written = lab.run_in_guest("alderaan", "web", ["/bin/sh", "-c", torn]).stdout

    lab.break_host("alderaan")
    lab.heal_host("alderaan")

    after = journal(lab, "alderaan", "web")
    assert written.endswith(b"\n9999 17")
    assert after["found_bytes"] == len(written)
    assert after["found_last"] == int(written.splitlines()[-2].split()[0])
    head = lab.run_in_guest("alderaan", "web", ["/usr/bin/journal", "head", str(after["acked_bytes"])]).stdout
    assert head.startswith(written + b"\n")
    assert int(head.splitlines()[-1].split()[0]) == after["acked"]


def test_up_leaves_what_runs_and_brings_back_what_does_not(small: Lab) -> None:
    lab = small
    before = lab.status().hosts[0]

    Lab.up(lab.folder)
    after = lab.status().hosts[0]
    assert (after.pid, after.qemu_pids) == (before.pid, before.qemu_pids)

    lab.break_host("alderaan")
    Lab.up(lab.folder)
    assert [guest.agent for guest in lab.status().hosts[0].guests] == ["answers", "answers"]


@pytest.mark.long
def test_two_labs_run_side_by_side_and_one_ends_without_the_other(lab_factory: LabFactory) -> None:
    one = lab_factory(hosts=("alderaan",), guests=("web",))
    two = lab_factory(hosts=("alderaan",), guests=("web",))
    assert one.uuid("web") != two.uuid("web")

    one.down()

    assert not one.folder.exists()
    assert not one.layout.link.is_symlink()
    assert processes_of(one) == ()
    assert journal(two, "alderaan", "web")["acked"] >= 1
    with pytest.raises(NotFound):
        Lab.open(one.folder)


def test_an_orphaned_qemu_is_ended_before_its_host_comes_up_again(small: Lab) -> None:
    lab = small
    host = lab.layout.host("alderaan")
    orphans = daemon.qemu_processes(host)
    dead = daemon.running(host)
    assert dead is not None
    processes.kill([dead])

    Lab.up(lab.folder)

    assert len(orphans) == 2
    assert not any(processes.is_alive(orphan) for orphan in orphans)
    assert len(daemon.qemu_processes(host)) == 2
    assert journal(lab, "alderaan", "web")["acked"] >= 1


def test_a_lab_whose_making_was_killed_is_made_anew() -> None:
    folder = Path("/tmp") / f"nh-cut{os.getpid() % 1000}"
    command = [sys.executable, "-m", "engine.cli", "lab", "up", "--dir", str(folder)]
    making = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert making.stdout is not None
    try:
        for line in making.stdout:
            if "daemons answer" in line:
                break
        making.send_signal(signal.SIGKILL)
        making.wait()
        left = processes.processes_of(layout_of(folder).names(), program="libvirtd")
        assert left

        lab = Lab.up(folder, hosts=("yavin",))

        assert [host.name for host in lab.status().hosts] == ["yavin"]
        assert not any(processes.is_alive(process) for process in left)
    finally:
        making.kill()
        Lab.remove(folder)
    assert not folder.exists()


def test_two_processes_do_not_change_one_lab_at_once(lab_factory: LabFactory) -> None:
    lab = lab_factory(hosts=("yavin",))

    with record.exclusive(lab.layout), pytest.raises(Conflict):
        lab.break_host("yavin")


@pytest.mark.long
def test_a_daemon_that_hangs_is_shown_as_silent_and_brought_back(lab_factory: LabFactory) -> None:
    lab = lab_factory(hosts=("yavin",))
    hung = daemon.running(lab.layout.host("yavin"))
    assert hung is not None
    processes.send(hung, signal.SIGSTOP)

    seen = lab.status().hosts[0]
    Lab.up(lab.folder)

    assert seen.state == "silent"
    assert lab.status().hosts[0].state == "running"
    assert not processes.is_alive(hung)


def test_an_unknown_host_is_named_with_those_there_are(lab_factory: LabFactory) -> None:
    lab = lab_factory(hosts=("yavin",))

    with pytest.raises(NotFound) as caught:
        lab.break_host("hoth")

    assert "yavin" in caught.value.next_step


def test_an_open_lab_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        Lab.open(tmp_path / "nothing")

    assert "newhope lab up" in caught.value.next_step
    assert not (tmp_path / "nothing").exists()
