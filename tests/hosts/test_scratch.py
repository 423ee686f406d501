"""Names and places of a backup job's files, and how a dead owner is told from a living one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import ExitCode, NoSpace
from engine.hosts import HostLane, scratch
from engine.hosts.owner import Owner
from engine.settings import Host
from tests.left_by_the_dead import scratch_file

VM = "be1c206f-e8b5-4f55-98cc-16aadc925c76"


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """pytest's own folders are too deep for sockets."""
    with tempfile.TemporaryDirectory(prefix="nh-", dir="/tmp") as folder:
        yield Path(folder)


def session(**changes: object) -> HostLane:
    return HostLane(Host(**({"name": "alderaan", "uri": "qemu:///session"} | changes)))  # type: ignore[arg-type]


def test_our_own_files_name_a_living_owner(tmp_path: Path) -> None:
    files = scratch.new_files(tmp_path, VM)

    owner = scratch.owner_of(files.socket)

    assert owner is not None
    assert owner == scratch.owner_of(files.scratch("vda"))
    assert (owner.pid, owner.here, owner.dead) == (os.getpid(), True, False)


def test_two_jobs_of_one_process_never_share_a_name(tmp_path: Path) -> None:
    assert len({scratch.new_files(tmp_path, VM).socket for _ in range(20)}) > 1


def test_a_process_that_ended_is_dead_also_when_its_pid_is_used_again(tmp_path: Path) -> None:
    owner = scratch.owner_of(scratch_file(tmp_path, VM))
    same_pid = Owner(machine=owner.machine if owner else "", pid=os.getpid(), start_ticks=1)

    assert owner is not None
    assert owner.dead
    assert same_pid.dead


def test_of_another_machines_process_nothing_is_known() -> None:
    owner = scratch.owner_of(Path("/x/newhope-ffffff-1-1-be1c206f-0a1b.sock"))

    assert owner is not None
    assert (owner.here, owner.dead) == (False, False)
    assert str(owner) == "a process on another machine"


@pytest.mark.parametrize("name", ["web.sock", "newhope-web.sock", "newhope-ffffff-1-1-be1c206f.vda", "backup.1.vda"])
def test_files_with_other_names_are_not_ours(name: str) -> None:
    assert scratch.owner_of(Path("/x") / name) is None


def test_only_dead_owners_files_of_this_vm_are_abandoned(tmp_path: Path) -> None:
    dead = scratch_file(tmp_path, VM)
    scratch.new_files(tmp_path, VM).scratch("vdb").touch()
    (tmp_path / dead.name.replace("be1c206f", "00000000")).touch()
    (tmp_path / "somebody.elses").touch()

    assert scratch.abandoned(session(), tmp_path, VM) == (dead,)
    assert scratch.abandoned(session(), tmp_path / "missing", VM) == ()


def test_the_settings_choose_the_folder() -> None:
    assert scratch.folder_for(session(scratch=Path("/fast")), 3, "web") == Path("/fast")


def test_in_system_mode_it_is_the_vms_own_folder_of_libvirt() -> None:
    host = session(uri="qemu:///system")

    folder = scratch.folder_for(host, 12, "a-name-of-more-than-twenty-characters")

    assert folder == Path("/var/lib/libvirt/qemu/domain-12-a-name-of-more-than-")
    assert len(os.fsencode(scratch.new_files(folder, VM).socket)) <= scratch.LONGEST_SOCKET_PATH_BYTES


def test_a_session_daemon_that_a_socket_names_gets_that_sockets_folder() -> None:
    host = session(uri="qemu+unix:///session?socket=/run/user/7/libvirt/libvirt-sock")

    assert scratch.folder_for(host, 1, "web") == Path("/run/user/7/libvirt")


def test_ones_own_session_uses_the_cache_and_makes_its_folder(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(short_folder))
    host = session()
    files = scratch.new_files(scratch.folder_for(host, 1, "web"), VM)

    scratch.check_room(host, files)

    assert files.folder == short_folder / "newhope" / "scratch"
    assert files.folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_too_deep_for_a_socket_is_refused_with_the_setting_to_change(tmp_path: Path) -> None:
    host = session(scratch=tmp_path / ("d" * 90))

    with pytest.raises(scratch.ScratchUnusable) as failure:
        scratch.check_room(host, scratch.new_files(scratch.folder_for(host, 1, "web"), VM))

    assert "[hosts.alderaan]" in failure.value.next_step
    assert failure.value.exit_code == ExitCode.PREFLIGHT


def test_a_folder_that_is_missing_is_refused(short_folder: Path) -> None:
    host = session(scratch=short_folder / "missing")

    with pytest.raises(scratch.ScratchUnusable, match="does not exist"):
        scratch.check_room(host, scratch.new_files(scratch.folder_for(host, 1, "web"), VM))


def test_too_little_room_is_refused_before_the_guest_is_touched(
    short_folder: Path,
) -> None:
    # A floor above what any disk has free stands for a full disk.
    host = session(scratch=short_folder, scratch_floor_bytes=1 << 60)

    with pytest.raises(NoSpace) as failure:
        scratch.check_room(host, scratch.new_files(short_folder, VM))

    assert failure.value.exit_code == ExitCode.NO_SPACE


def test_of_another_machines_folder_nothing_is_asked_here() -> None:
    host = session(uri="qemu+tls://elsewhere/system")

    scratch.check_room(host, scratch.new_files(scratch.folder_for(host, 1, "web"), VM))


def test_a_user_with_a_long_home_gets_sockets_in_the_runtime_folder(
    short_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("of-the-department-with-the-long-name/" * 2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(deep))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_folder))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    socket = scratch.own_socket(session(), VM)

    assert socket.parent == short_folder / "newhope"
    assert socket.parent.stat().st_mode & 0o777 == 0o700
    left = scratch_file(socket.parent, VM, "sock")
    scratch.clear_sockets(session(), VM)
    assert not left.exists()


def test_where_every_folder_is_too_deep_the_setting_that_helps_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ("deep/" * 20)))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    with pytest.raises(scratch.ScratchUnusable) as refused:
        scratch.own_socket(session(), VM)

    assert 'scratch = "/path", in [hosts.alderaan]' in refused.value.next_step
