"""Many VMs on one host: finding them all, and planning what is due. `./dev bench --table due [--vms N]`.

The host is a libvirt daemon of a lab with small VMs that are off. Its peer is what anybody would do by hand: one
`virsh` that lists them and prints the definition of each. Planning is measured with a history: the recovery points of a
month, and a journal full of backups.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import msgspec

from engine import backup
from engine.cli.backup_due import attempts_of
from engine.fleet import Fleet, facts_of, known_vms
from engine.hosts import HostLane, take_snapshot
from engine.jobs import KEPT_JOBS, Job, JobState
from engine.lab import Lab
from engine.requirements import plan_due
from engine.settings import Method, Settings
from tests import tiny_vms
from tests.builders import NOW, make_fleet, make_point
from tests.command import newhope

POINTS_EACH = 30


def main(words: list[str]) -> None:
    """Make a lab, measure, print the table, take the lab down."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--vms", type=int, default=200)
    arguments.add_argument("--rounds", type=int, default=5)
    chosen = arguments.parse_args(words)
    folder = Path(tempfile.mkdtemp(prefix="nh-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        lab = Lab.up(folder, hosts=("alderaan",), guests=())
        _measure(lab, chosen.vms, chosen.rounds)
    finally:
        Lab.remove(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _measure(lab: Lab, vms: int, rounds: int) -> None:
    print(f"defining {vms} VMs", file=sys.stderr, flush=True)
    lane = HostLane(lab.settings.hosts[0])
    names = [f"vm-{number:04}" for number in range(vms)]
    for name in names:
        tiny_vms.define(lab, lane, name)
    found = take_snapshot(lane)
    lane.close()
    assert len(found.vms) == vms
    fleet = _with_history(make_fleet(hosts=[found]))
    jobs = _full_journal(fleet)
    rows: list[tuple[str, Callable[[], object]]] = [
        ("**newhope: discovery**, with connecting", lambda: _discover(lab.settings)),
        ("virsh: list, and dumpxml of each, in one process", lambda: _virsh(lab, names)),
        (
            f"**newhope: planning**, {len(fleet.points)} points and {len(jobs)} jobs",
            lambda: _plan(lab.settings, fleet, jobs),
        ),
        ("`newhope backup --due --dry-run`, the whole command", lambda: _command(lab)),
        ("`newhope --version`: what starting costs", lambda: _run([sys.executable, "-m", "engine.cli", "--version"])),
    ]
    print(f"**What is due among {vms} VMs on one host** (medians of {rounds}, {os.cpu_count()} processors)\n")
    print("| | wall s (min-max) | ms a VM |\n|---|---|---|")
    for name, work in rows:
        costs = [_time_of(work) for _ in range(rounds)]
        median = statistics.median(costs)
        print(f"| {name} | {median:.2f} ({min(costs):.2f}-{max(costs):.2f}) | {1000 * median / vms:.1f} |", flush=True)


def _time_of(work: Callable[[], object]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def _discover(settings: Settings) -> None:
    lane = HostLane(settings.hosts[0])
    take_snapshot(lane)
    lane.close()


def _plan(settings: Settings, fleet: Fleet, jobs: list[Job]) -> None:
    plan = plan_due(settings, fleet, attempts_of(jobs), NOW)
    for due in plan.due:
        backup.plan(settings, fleet, _request(due.vm_uuid, due.vm))


def _request(uuid: str, name: str) -> backup.Request:
    return backup.Request(uuid, name, "alderaan", "vault-store", Method.HOT)


def _with_history(fleet: Fleet) -> Fleet:
    points = [
        make_point(facts_of(vm), repository="vault-store", moment=NOW - timedelta(hours=20 + 24 * day, seconds=number))
        for number, vm in enumerate(known_vms(fleet))
        for day in range(POINTS_EACH)
    ]
    return make_fleet(hosts=fleet.snapshots, points=points)


def _full_journal(fleet: Fleet) -> list[Job]:
    vms = known_vms(fleet)
    found: list[Job] = []
    for number in range(KEPT_JOBS):
        vm = vms[number % len(vms)]
        state = JobState.FAIL if number % 7 == 0 else JobState.DONE
        spec = msgspec.json.encode(_request(vm.uuid, vm.name))
        ended = NOW - timedelta(hours=number)
        found.append(Job(KEPT_JOBS - number, "backup", vm.name, vm.host, state, ended, "root", spec, finished=ended))
    return found


def _virsh(lab: Lab, names: list[str]) -> None:
    commands = "; ".join(["list --all", *(f"dumpxml {name}" for name in names)])
    _run(["virsh", "--connect", lab.uri("alderaan"), "--quiet", commands])


def _command(lab: Lab) -> None:
    _run(newhope(lab.settings_file, "backup", "--due", "--dry-run"))


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
