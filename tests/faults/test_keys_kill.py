"""Making an encrypted repository, adding and removing keys: killed (SIGKILL) or refused at every change of the disk.

Whatever the instant: the repository opens with a passphrase that its owner knows and every point restores, or, where it
was being made, it can be made there; no key is half there, and the next attempt succeeds.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import Conflict, NewhopeError, NoSpace
from engine.repository import Passphrase, Repository, RepositoryLocked, RepositoryMissing, StorageFailed
from tests.faults.figures import Fault, count
from tests.faults.repository_scenario import fast_folder
from tests.faults.repository_system_calls import Call, SystemCalls, content_of
from tests.repository.building import BLOCK, PASSPHRASE, back_up, later, mixed_disk, restored, unlock

SECOND = Passphrase(b"zeus barium otter")
CONTENT = mixed_disk(20)


def killed(folder: Path, work: Callable[[], object], kill_at: int, when: str) -> int | None:
    """Do the work in a child that kills itself at a call; how many calls it made if it got through."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.write(writer, str(_run_and_die(folder, work, kill_at, when)).encode())
            status = 0
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
    return int(told)


def _run_and_die(folder: Path, work: Callable[[], object], kill_at: int, when: str) -> int:
    def hook(number: int, name: str, arguments: tuple[object, ...], call: Call) -> object:
        if number == kill_at:
            if when == "after":
                call()
            elif when == "in the middle" and name in ("write", "writev"):
                content = content_of(arguments[1])
                calls.real["write"](arguments[0], content[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return call()

    calls = SystemCalls(str(folder), hook)
    calls.install()
    work()
    calls.remove()
    return calls.count


def at_every_change(folder: Path, begin: Callable[[], None], work: Callable[[], object], check: Callable[[], None]):
    """Kill the work at each of its changes, and look after each time."""
    begin()
    calls = killed(folder, work, 0, "never")
    assert calls is not None
    check()
    times = 0
    for kill_at in range(1, calls + 1):
        for when in ("before", "in the middle", "after"):
            begin()
            if killed(folder, work, kill_at, when) is None:
                times += 1
                check()
                count(Fault.KILL, "key change")
    assert times > 2 * calls


def names_of(repository: Repository) -> list[str]:
    return [slot.name for slot in repository.keys()]  # noqa: SIM118  (not those of a dict)


def opens(folder: Path, passphrase: Passphrase) -> bool:
    try:
        repository = Repository.open(folder, unlock=lambda repository_id, name: passphrase)
    except RepositoryLocked:
        return False
    for point in repository.points():
        assert restored(repository, point.manifest.disks[0]) == CONTENT
    assert len(repository.points()) == 1
    assert repository.damaged == ()
    return True


def test_a_creation_killed_at_any_change_can_be_done_again_or_is_complete():
    with fast_folder() as top:
        folder = top / "vault"

        def check() -> None:
            try:
                repository = Repository.open(folder, unlock=unlock)
            except RepositoryMissing:
                repository = Repository.create(folder, block_bytes=BLOCK, passphrase=PASSPHRASE)
            back_up(repository, CONTENT)
            assert opens(folder, PASSPHRASE)
            assert names_of(repository) == ["first"]

        at_every_change(
            folder,
            lambda: shutil.rmtree(folder, ignore_errors=True),
            lambda: Repository.create(folder, block_bytes=BLOCK, passphrase=PASSPHRASE),
            check,
        )


def template(top: Path, *names: str) -> Path:
    repository = Repository.create(top / "template", block_bytes=BLOCK, passphrase=PASSPHRASE)
    for name in names:
        repository.add_key(name, SECOND)
    back_up(repository, CONTENT)
    return top / "template"


def again(top: Path) -> Callable[[], None]:
    def begin() -> None:
        shutil.rmtree(top / "vault", ignore_errors=True)
        shutil.copytree(top / "template", top / "vault")

    return begin


def test_adding_a_key_killed_at_any_change_leaves_the_old_one_and_the_new_one_whole_or_not_there():
    with fast_folder() as top:
        template(top)
        folder = top / "vault"

        def add() -> None:
            Repository.open(folder, unlock=unlock).add_key("office", SECOND)

        def check() -> None:
            assert opens(folder, PASSPHRASE)
            names = names_of(Repository.open(folder, unlock=unlock))
            assert opens(folder, SECOND) == (names == ["first", "office"])
            if names == ["first"]:
                add()
            else:
                with pytest.raises(Conflict, match="already"):
                    add()
            assert opens(folder, SECOND)

        at_every_change(folder, again(top), add, check)


def test_removing_a_key_killed_at_any_change_leaves_the_other_one():
    with fast_folder() as top:
        template(top, "office")
        folder = top / "vault"

        def remove() -> None:
            Repository.open(folder, unlock=lambda *_: SECOND).remove_key("first")

        def check() -> None:
            assert opens(folder, SECOND)
            if opens(folder, PASSPHRASE):
                # The lease of the one that was killed is known to be dead on this machine.
                remove()
            assert not opens(folder, PASSPHRASE)
            with pytest.raises(Conflict, match="last key"):
                Repository.open(folder, unlock=lambda *_: SECOND).remove_key("office")
            back_up(Repository.open(folder, unlock=lambda *_: SECOND), CONTENT, moment=later(5))
            assert list((folder / "leases").iterdir()) == []

        at_every_change(folder, again(top), remove, check)


NEEDING_SPACE = ("open", "write", "writev", "fsync", "link", "mkdir")


def refused_from(folder: Path, work: Callable[[], object], first: int, number: int, failing: tuple[str, ...]) -> bool:
    """Do the work on a disk that refuses from a call on; whether the work was told so."""

    def hook(at: int, name: str, arguments: tuple[object, ...], call: Call) -> object:
        if at >= first and name in failing:
            raise OSError(number, os.strerror(number))
        return call()

    calls = SystemCalls(str(folder), hook)
    calls.install()
    try:
        work()
    except NewhopeError as error:
        assert isinstance(error, NoSpace if number == errno.ENOSPC else StorageFailed)
        assert error.untouched
        assert error.next_step
        return True
    finally:
        calls.remove()
    return False


def create_on(folder: Path) -> None:
    Repository.create(folder, block_bytes=BLOCK, passphrase=PASSPHRASE)


def add_on(folder: Path) -> None:
    Repository.open(folder, unlock=unlock).add_key("office", SECOND)


def remove_on(folder: Path) -> None:
    Repository.open(folder, unlock=unlock).remove_key("office")


@pytest.mark.parametrize(
    ("number", "failing", "fault"),
    [
        (errno.ENOSPC, NEEDING_SPACE, Fault.FULL),
        (errno.EROFS, (*NEEDING_SPACE, "unlink"), Fault.READ_ONLY),
    ],
    ids=["full", "read-only"],
)
@pytest.mark.parametrize("work", [create_on, add_on, remove_on], ids=["create", "add", "remove"])
def test_a_disk_that_refuses_at_any_call_of_a_key_change_leaves_a_key_that_opens(
    work: Callable[[Path], None], number: int, failing: tuple[str, ...], fault: Fault
):
    with fast_folder() as top:
        folder = top / "vault"
        names = {create_on: [], add_on: ["first"], remove_on: ["first", "office"]}[work]
        if names:
            template(top, *names[1:])
        begin = again(top) if names else lambda: shutil.rmtree(folder, ignore_errors=True)
        refused = 0
        for first in range(1, 100):
            begin()
            if not refused_from(folder, lambda: work(folder), first, number, failing):
                break
            refused += 1
            for lease in folder.glob("leases/*"):
                # This process lives on, so a lease that it could not delete would be believed until it runs out.
                lease.unlink()
            if not names:
                if not (folder / "newhope-repository").exists():
                    work(folder)
                back_up(Repository.open(folder, unlock=unlock), CONTENT)
                assert opens(folder, PASSPHRASE)
                continue
            assert opens(folder, PASSPHRASE)
            there = names_of(Repository.open(folder, unlock=unlock))
            assert there in (["first"], ["first", "office"])
            assert opens(folder, SECOND) == (len(there) == 2)
            if there == names:
                work(folder)
                assert opens(folder, SECOND) == (work is add_on)

    assert refused >= 3
    count(fault, "key change", refused)
