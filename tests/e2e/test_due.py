"""`newhope backup --due` on a host: new VMs, exclusions, something in the way that goes away, runs that overlap."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.hosts import HostLane
from engine.jobs import JobState, Journal
from engine.lab import Lab
from tests import tiny_vms
from tests.command import newhope
from tests.conftest import LabFactory
from tests.waiting import wait_for

EXCLUDED = '[exclude]\nvms = ["tmp-*"]'


class Operator:
    """Somebody, or a timer, with a command line and a settings file."""

    def __init__(self, settings_file: Path) -> None:
        self._command = newhope(settings_file)

    def starts(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self._command, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
        )

    def says(self, *words: str) -> str:
        done = subprocess.run([*self._command, *words], capture_output=True, text=True, check=True)
        return done.stdout

    def knows(self, *words: str) -> Any:
        return json.loads(self.says("--json", *words))


@pytest.fixture
def lab(lab_factory: LabFactory) -> Lab:
    return lab_factory(hosts=("alderaan",), guests=())


@pytest.fixture
def lane(lab: Lab) -> Iterator[HostLane]:
    lane = HostLane(lab.settings.hosts[0])
    yield lane
    lane.close()


def test_new_vms_are_found_and_backed_up_once_though_runs_overlap_and_something_is_in_the_way(
    lab: Lab, lane: HostLane
) -> None:
    operator = Operator(tiny_vms.make_lab_settings(lab, EXCLUDED))
    assert "Nothing is due" in operator.says("backup", "--due", "--yes")
    busy = tiny_vms.define(lab, lane, "busy", start=True)
    for name in ("idle", "tmp-1"):
        tiny_vms.define(lab, lane, name)
    row = next(line for line in operator.says("vms").splitlines() if line.startswith("tmp-1"))
    assert row.endswith("EXCLUDED")
    assert 'vms = "tmp-*"' in row
    planned = operator.knows("backup", "--due", "--dry-run")
    assert [each["vm"] for each in planned["due"]] == ["busy", "idle"]
    assert [each["why"] for each in planned["left_out"]] == ['excluded by vms = "tmp-*"']
    begin_backup_of_another_program(lane, busy)

    first = operator.starts("backup", "--due", "--yes")
    with Journal(lab.settings.state) as journal:
        wait_for(lambda: states(journal, "busy") == [JobState.FAIL])
        second = operator.says("backup", "--due", "--yes")
        abort(lane, busy)
        out, err = first.communicate(timeout=300)

        assert first.returncode == 0, out + err
        assert "2 VMs backed up." in out
        run = next(job for job in journal.jobs() if job.kind == "backups")
        assert f"job {run.id} sees to it" in second
        assert [state.value for state in states(journal, "busy")] == ["done", "fail"]
        assert len(states(journal, "idle")) == 1
        assert any("It is tried again at" in line.text for line in journal.log(run.id))
    points = operator.knows("points")["points"]
    assert sorted(point["vm"] for point in points) == ["busy", "idle"]
    assert operator.knows("backup", "--due", "--dry-run")["due"] == []


def states(journal: Journal, name: str) -> list[JobState]:
    """Those of the jobs that backed the VM up, the newest first; what is at work counts as nothing yet."""
    return [job.state for job in journal.jobs() if job.kind == "backup" and job.subject == name and job.state.over]


def begin_backup_of_another_program(lane: HostLane, uuid: str) -> None:
    folder = lane.host.scratch
    job = (
        f"<domainbackup mode='pull'><server transport='unix' socket='{folder}/other.sock'/><disks><disk name='vda' "
        f"type='file'><scratch file='{folder}/other.vda'/></disk></disks></domainbackup>"
    )
    lane.run(lambda connection: connection.lookupByUUIDString(uuid).backupBegin(job, None))


def abort(lane: HostLane, uuid: str) -> None:
    lane.run(lambda connection: connection.lookupByUUIDString(uuid).abortJob())
