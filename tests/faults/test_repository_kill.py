"""A backup killed (SIGKILL) before, after and in the middle of every call that changes the repository's disk.

Whatever the instant: every point that was listed restores byte for byte, the new one is whole or not there, and the
next run succeeds and cleans up.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback

import pytest

from engine.repository import Passphrase
from tests.faults.figures import Fault, count
from tests.faults.parts import parts
from tests.faults.repository_scenario import Scenario, fast_folder
from tests.faults.repository_system_calls import Call, SystemCalls, content_of
from tests.repository.building import PASSPHRASE

PARTS = 6
"""The crash points are shared out over this many tests, so that they run side by side."""


def in_a_child(scenario: Scenario, kill_at: int, when: str) -> list[str] | None:
    """Run the backup in a child that kills itself at a call; names of all calls if it got through, else None."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = _run_and_die(scenario, kill_at, when, writer)
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return None
    assert os.WEXITSTATUS(status) == 0
    return told.decode().split()


def _run_and_die(scenario: Scenario, kill_at: int, when: str, writer: int) -> int:
    names: list[str] = []

    def hook(number: int, name: str, arguments: tuple[object, ...], call: Call) -> object:
        names.append(name)
        if number == kill_at:
            if when == "after":
                call()
            elif when == "in the middle" and name in ("write", "writev"):
                content = content_of(arguments[1])
                calls.real["write"](arguments[0], content[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return call()

    calls = SystemCalls(str(scenario.folder), hook)
    calls.install()
    scenario.run()
    calls.remove()
    os.write(writer, " ".join(names).encode())
    return 0


@pytest.mark.parametrize("part", parts(PARTS))
def test_a_backup_killed_at_any_change_of_the_disk_harms_no_point(part: int):
    kill_at_each_of(part, None)


def test_nor_does_an_encrypted_one():
    kill_at_each_of(3, PASSPHRASE)


def kill_at_each_of(part: int, passphrase: Passphrase | None) -> None:
    with fast_folder() as folder:
        scenario = Scenario(folder, passphrase)
        scenario.begin()
        calls = in_a_child(scenario, 0, "never")
        assert calls is not None
        assert len(calls) > 60
        assert scenario.check()
        tried = killed = 0
        for kill_at in range(1 + part, len(calls) + 1, PARTS):
            middle = ("in the middle",) if calls[kill_at - 1] == "writev" else ()
            for when in ("before", "after", *middle):
                scenario.begin()
                tried += 1
                # Threads take turns differently each time: a run may make a few calls less than the first did.
                if in_a_child(scenario, kill_at, when) is None:
                    killed += 1
                    scenario.check()
                    scenario.check_next_run()
                    count(Fault.KILL, "backup")

    assert killed > 0.8 * tried
