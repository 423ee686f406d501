"""Backups and restores that are killed on purpose."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from engine import backup, restore
from engine.cli.launching import BACKUP
from engine.hosts.model import Vm
from engine.jobs import JobState, launch
from engine.settings import Method
from tests.e2e.conftest import Operator
from tests.faults import killed_after_libvirt_call


def back_up_killed_after(operator: Operator, vm: Vm, method: Method, calls: int | str, folder: Path) -> str | None:
    """Back up as a job that is killed after so many calls of libvirt, or the first of a name.

    The last call, or None if it came to its end.
    """
    record = folder / f"{vm.name}-{method.value}-{calls}"
    request = backup.Request(vm.uuid, vm.name, vm.host, operator.settings.repositories[0].name, method)
    job = launch(
        operator.journal,
        BACKUP,
        vm.name,
        vm.host,
        msgspec.json.encode(request),
        lock=backup.lock_of(request),
        argv_prefix=[
            *(sys.executable, killed_after_libvirt_call.__file__, str(calls), str(record)),
            *("--config", str(operator.settings.file), "run-job"),
        ],
    )
    job = operator.finish(job)
    if not record.exists():
        assert job.state in (JobState.DONE, JobState.WARN), job.failure
        return None
    assert job.state is JobState.LOST
    return record.read_text()


def restore_until_killed(operator: Operator, request: restore.Request, when: str) -> int:
    """Restore in a process that kills itself when its journal has come to `when` (see `killed_restore.py`).

    With "0" it lives; the number of notes is what comes back.
    """
    file = operator.settings.state / "killed-request.json"
    file.write_bytes(msgspec.json.encode(request))
    program = Path(__file__).with_name("killed_restore.py")
    command = [sys.executable, str(program), str(operator.lab.settings_file), str(file), when]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": os.getcwd()})
    assert done.returncode == (0 if when == "0" else -signal.SIGKILL), done.stderr
    return int(done.stdout) if done.stdout else 0
