"""Points are proven: booted where they reach nobody, asked what their level asks; nothing is left, however it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from msgspec.structs import replace

from engine.hosts import HostLanes, power, take_snapshot, volumes
from engine.jobs import JobState, Journal
from engine.lab import Lab
from engine.restore import Phase, RestoreJournal
from engine.settings import CommandCheck, FileCheck, GuestCheck, Level, PortCheck, save
from tests import tiny_vms
from tests.command import newhope
from tests.e2e.conftest import Operator
from tests.hosts.live import lab_of_its_own

pytestmark = [pytest.mark.lab, pytest.mark.slow]

LISTEN = CommandCheck("listener", line="nc -l -p 7000 >/dev/null 2>&1 &")
WELL = (LISTEN, PortCheck("port 7000", 7000), FileCheck("release", "/etc/os-release", min_size_bytes=1))
UNWELL = (
    CommandCheck("speaks", ("sh", "-c", "echo one; echo two >&2; exit 3"), time_limit_s=1),
    PortCheck("port 7001", 7001, time_limit_s=1),
    FileCheck("dump", "/data/dump.sql", time_limit_s=1),
)


@pytest.fixture(scope="module")
def small() -> Iterator[Lab]:
    with lab_of_its_own(hosts=("alderaan",), guests=("web",)) as lab:
        yield lab


@pytest.fixture
def op(small: Lab) -> Iterator[Operator]:
    with HostLanes(small.settings) as lanes, Journal(small.settings.state) as journal:
        yield Operator(small, lanes, journal)


def ask_for(op: Operator, checks: tuple[GuestCheck, ...]) -> None:
    """Let the level of every VM ask for a proof a week, with these checks."""
    level = Level("gold", rpo_s=3600, rto_s=3600, default=True, prove_every_s=7 * 86400, checks=checks)
    save(replace(op.settings, levels=(level,)), op.lab.settings_file)


def answer(op: Operator, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(newhope(op.lab.settings_file, *words), capture_output=True, text=True)


def what_is_there(op: Operator) -> tuple[list[str], tuple[str, ...]]:
    lane = op.lanes["alderaan"]
    return [vm.name for vm in take_snapshot(lane).vms], tuple(sorted(volumes.names(lane, "default")))


def test_what_is_due_is_proven_with_its_checks_and_is_not_due_any_more(op: Operator):
    point = op.back_up("web")
    ask_for(op, WELL)
    before = what_is_there(op)
    plan = json.loads(answer(op, "--json", "prove", f"web@{point.id}", "--dry-run").stdout)["plan"]
    assert [step["key"] for step in plan["steps"]][2:4] == ["serve", "overlay:vda"]

    done = answer(op, "prove", "--due", "--yes")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "it was never proven" in done.stdout
    assert what_is_there(op) == before
    page = answer(op, "points", "show", f"web@{point.id}").stdout
    assert "yes, " in page and "all 3 checks passed" in page
    again = json.loads(answer(op, "--json", "prove", "--due", "--yes").stdout)
    assert (again["due"], [each["vm"] for each in again["later"]]) == ([], ["web"])


def test_a_guest_without_an_agent_is_watched_and_one_that_goes_off_meanwhile_has_failed(op: Operator):
    lane = op.lanes["alderaan"]
    ask_for(op, WELL)
    tiny_vms.define(op.lab, lane, "mute", program=tiny_vms.WRITES, devices="<video><model type='vga'/></video>")
    tiny_vms.define(op.lab, lane, "weary", program=tiny_vms.GOES_OFF)
    for job in [op.start_backup("mute"), op.start_backup("weary")]:
        assert op.finish(job).failure is None
    before = what_is_there(op)

    def prove(name: str, watch: str) -> subprocess.CompletedProcess[str]:
        return answer(op, "--json", "prove", f"{name}@latest", "--watch", watch, "--yes")

    with ThreadPoolExecutor(2) as at_once:
        mute, weary = at_once.map(prove, ("mute", "weary"), ("3s", "1m"))

    assert mute.returncode == 0, mute.stdout + mute.stderr
    proof = json.loads(mute.stdout)["proof"]
    assert (proof["verdict"], proof["outcome"]) == ("started", "not conclusive")
    assert proof["seen"]["running"] and proof["seen"]["screen_changed"] and proof["seen"]["disk_read_bytes"] >= 512
    assert {each["evidence"] for each in proof["checks"]} == {"it has no guest agent"}
    assert {job.subject: job.state for job in op.journal.jobs(limit=2)}["mute-test"] is JobState.WARN
    assert weary.returncode == 10, weary.stdout + weary.stderr
    proof = json.loads(weary.stdout)["proof"]
    assert (proof["verdict"], proof["outcome"], proof["seen"]["running"]) == ("stopped", "failed", False)
    assert what_is_there(op) == before


def test_a_guest_that_fails_its_checks_makes_noise_and_leaves_nothing_either(op: Operator):
    ask_for(op, UNWELL)
    before = what_is_there(op)

    done = answer(op, "--json", "prove", "web@latest", "--yes")

    assert done.returncode == 10, done.stdout + done.stderr
    proof = json.loads(done.stdout)["proof"]
    assert (proof["verdict"], proof["outcome"]) == ("failed", "failed")
    assert proof["boot_s"] > 0
    evidence = {each["name"]: (each["state"], each["evidence"]) for each in proof["checks"]}
    assert evidence["speaks"] == ("failed", "exit status 3: one; two")
    assert evidence["port 7001"] == ("failed", "nothing listens on port 7001; listened on: none")
    assert evidence["dump"][0] == "failed" and "No such file" in evidence["dump"][1]
    assert what_is_there(op) == before
    later = answer(op, "prove", "--due", "--yes")
    assert later.returncode == 10 and "failed (job" in later.stdout


def test_what_a_killed_proof_has_left_the_next_one_takes_away(op: Operator):
    before = what_is_there(op)
    launched = answer(op, "--json", "prove", "web@latest", "--yes", "--detach")
    job = json.loads(launched.stdout)["job"]
    restores = RestoreJournal(op.settings.state)
    while (entry := restores.get(job["request"]["id"])) is None or not entry.is_done("start"):
        assert not op.journal.job(job["id"]).state.over
        time.sleep(0.1)
    pid = op.journal.job(job["id"]).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert power.name_of(op.lanes["alderaan"], job["request"]["new_uuid"]) == "web-test"

    due = answer(op, "restores", "due")

    assert due.returncode == 0, due.stdout + due.stderr
    assert what_is_there(op) == before
    assert restores.find(job["request"]["id"]).phase is Phase.UNDONE
