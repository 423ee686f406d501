from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from engine.lab import processes


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "60"], env={"LAB": f"{tmp_path}/lab"})
    yield process
    process.kill()
    process.wait()


def test_a_mark_knows_its_process_until_it_ends(sleeper: subprocess.Popen[bytes], tmp_path: Path) -> None:
    mark = processes.mark(sleeper.pid)
    assert mark is not None
    processes.write_mark(tmp_path / "mark", mark)
    assert processes.read_mark(tmp_path / "mark") == mark

    processes.kill([mark])

    assert not processes.is_alive(mark)
    assert processes.read_mark(tmp_path / "mark") is None


def test_a_pid_that_now_belongs_to_somebody_else_is_never_signalled(sleeper: subprocess.Popen[bytes]) -> None:
    mark = processes.mark(sleeper.pid)
    assert mark is not None
    earlier = structs.replace(mark, start_ticks=mark.start_ticks - 1)
    before_reboot = structs.replace(mark, boot_id="another")

    processes.send(earlier, signal.SIGKILL)
    processes.send(before_reboot, signal.SIGKILL)

    assert processes.is_alive(mark)


def test_processes_are_found_by_the_folder_in_their_environment(
    sleeper: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    folder = f"{tmp_path}/".encode()

    assert [found.pid for found in processes.processes_of((folder,), program="slee")] == [sleeper.pid]
    assert processes.processes_of((folder,), program="qemu-") == ()
    assert processes.processes_of((folder,), program="slee", argument="61") == ()
    assert processes.processes_of((b"/nowhere/",), program="slee") == ()


def test_a_spoilt_or_missing_mark_is_no_process(tmp_path: Path) -> None:
    (tmp_path / "spoilt").write_bytes(b'{"pid": 1')

    assert processes.read_mark(tmp_path / "spoilt") is None
    assert processes.read_mark(tmp_path / "missing") is None
