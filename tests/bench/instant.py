"""How long until a guest is ready: an instant restore beside a plain boot. `./dev bench --table instant`.

The disk of a lab guest is grown, and a recovery point made of it. Then, in turn: the guest is started from its own
local disk; and the point is restored with `newhope restore --instant`. The clock runs from the command (the Enter key)
until the guest's agent answers; of the restore, everything is in it: looking at the host, plan, checks, server,
definition. How long the disk takes to be in its place is a column of its own.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from engine.hosts import HostLane, agent, find_vm, power, take_snapshot
from engine.hosts.model import VmState
from engine.jobs import Journal, follow
from engine.lab import Lab
from engine.restore import RestoreJournal
from tests.command import newhope

GUEST = "web"
HOST = "alderaan"
RESTORED = "bench"
SIZES_GIB = (1, 8, 64)
_AGENT_S = 300.0


@dataclass
class Row:
    """One size of the disk."""

    gib: int
    plain_s: list[float] = field(default_factory=list)
    instant_s: list[float] = field(default_factory=list)
    in_place_s: list[float] = field(default_factory=list)

    def line(self) -> str:
        """As a line of the table: medians, with least and most."""
        ratio = statistics.median(self.instant_s) / statistics.median(self.plain_s)
        figures = " | ".join(_figures(each) for each in (self.plain_s, self.instant_s, self.in_place_s))
        return f"| {self.gib} GiB | {figures} | {ratio:.2f} |"


def main(words: list[str]) -> None:
    """Bring up a lab with one guest, measure each size, print the table."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rounds", type=int, default=5)
    chosen = arguments.parse_args(words)
    folder = Path(tempfile.mkdtemp(prefix="nh-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        lab = Lab.up(folder, hosts=(HOST,), guests=(GUEST,))
        lane = HostLane(lab.settings.hosts[0])
        rows = [_measure(lab, lane, gib, chosen.rounds) for gib in SIZES_GIB]
        lane.close()
    finally:
        Lab.remove(folder)
        shutil.rmtree(folder, ignore_errors=True)
    print(f"**From Enter until the guest is ready**, seconds ({chosen.rounds} rounds)\n")
    print("| disk | boot from a local disk | instant restore | its disk in its place | instant / local |")
    print("|---|---|---|---|---|")
    for row in rows:
        print(row.line())


def _measure(lab: Lab, lane: HostLane, gib: int, rounds: int) -> Row:
    row, uuid = Row(gib), lab.uuid(GUEST)
    vm = find_vm(take_snapshot(lane), uuid)
    power.power_off(lane, uuid)
    subprocess.run(
        ["qemu-img", "resize", "-q", "-f", vm.disks[0].format, vm.disks[0].source or "", f"{gib}G"], check=True
    )
    power.start(lane, uuid)
    _wait_until_ready(lane, uuid)
    _newhope(lab, "backup", GUEST, "--full", "--yes")
    for number in range(rounds):
        power.power_off(lane, uuid)
        begun = time.monotonic()
        power.start(lane, uuid)
        _wait_until_ready(lane, uuid)
        row.plain_s.append(time.monotonic() - begun)
        _restore(lab, lane, row)
        print(f"round {number + 1} of {rounds}: {row.line()}", file=sys.stderr, flush=True)
    return row


def _restore(lab: Lab, lane: HostLane, row: Row) -> None:
    begun = time.monotonic()
    _newhope(
        lab, "restore", f"{GUEST}@latest", "--instant", "--name", RESTORED, "--keep-for", "1h", "--yes", "--detach"
    )
    with Journal(lab.settings.state) as journal:
        job = journal.jobs()[0]
        uuid = _uuid_once_it_runs(lane)
        _wait_until_ready(lane, uuid)
        row.instant_s.append(time.monotonic() - begun)
        for seen in follow(journal, job.id):
            job = seen
    if job.failure is not None:
        raise SystemExit(job.failure.what)
    row.in_place_s.append(time.monotonic() - begun)
    _newhope(lab, "restores", "undo", _restore_id(lab), "--yes")


def _restore_id(lab: Lab) -> str:
    return RestoreJournal(lab.settings.state).entries()[0].id


def _uuid_once_it_runs(lane: HostLane) -> str:
    deadline = time.monotonic() + _AGENT_S
    while time.monotonic() < deadline:
        found = [vm for vm in take_snapshot(lane).vms if vm.name == RESTORED and vm.state is VmState.RUNNING]
        if found:
            return found[0].uuid
        time.sleep(0.05)
    raise SystemExit(f"{RESTORED} does not start")


def _wait_until_ready(lane: HostLane, uuid: str) -> None:
    agent.wait_until_answering(lane, uuid, timeout_s=_AGENT_S)


def _newhope(lab: Lab, *words: str) -> None:
    done = subprocess.run(
        newhope(lab.settings_file, *words), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"newhope {' '.join(words)}: {done.stdout[-300:]} {done.stderr[-300:]}")


def _figures(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.1f} ({min(seconds):.1f}-{max(seconds):.1f})"
