"""Files from inside running guests: kept small and often, read back, and nothing left plugged in, whatever happens."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from msgspec.structs import replace

from engine import backup, restore
from engine.cli.launching import launch_backup, launch_put_back
from engine.errors import ExitCode
from engine.file_entry import FileKind
from engine.fleet import open_repository
from engine.hosts import HostRefused, agent
from engine.jobs import Job, StepState
from engine.repository import Point, PointKind, read_guest_file, read_listing
from engine.settings import GuestFilesSection, Method, Rules, load, save
from tests.e2e.conftest import Operator
from tests.hosts.live import in_guest
from tests.waiting import wait_for

pytestmark = pytest.mark.lab

DUMP = "/data/dump.txt"


class FilesOperator:
    """An operator who keeps files of `web`, by settings of the test's own beside those of the lab."""

    def __init__(self, operator: Operator, folder: Path) -> None:
        self.operator = operator
        self._file = folder / "newhope.toml"

    def start(self, *, paths: tuple[str, ...] = ("/etc", DUMP), vm: str = "web", **more: object) -> Job:
        section = GuestFilesSection("few", Rules(vms=("*",)), paths, **more)  # type: ignore[arg-type]
        save(replace(self.operator.settings, guest_files=(section,)), self._file)
        settings = load(self._file)
        seen = self.operator.vm(vm)
        request = backup.Request(
            seen.uuid, vm, seen.host, settings.repositories[0].name, Method.HOT, kind=PointKind.GUEST
        )
        return launch_backup(settings, self.operator.journal, request)

    def keep(self, **choice: object) -> Point:
        known = {point.id for point in self.operator.points("web")}
        job = self.operator.finish(self.start(**choice))  # type: ignore[arg-type]
        assert job.failure is None, job.failure
        (made,) = [point for point in self.operator.points("web") if point.id not in known]
        return made

    def fail(self, **choice: object) -> Job:
        known = self.operator.points("web")
        job = self.operator.finish(self.start(**choice))  # type: ignore[arg-type]
        assert job.failure is not None
        assert self.operator.points("web") == known
        return job

    def put_back(self, point: Point, path: str, as_path: str | None = None, *, volume: str = "") -> Job:
        return self.operator.finish(self.start_putting_back(point, path, as_path, volume=volume))

    def start_putting_back(self, point: Point, path: str, as_path: str | None = None, *, volume: str = "") -> Job:
        vm = point.manifest.vm
        request = restore.PutBackRequest(
            point.repository, vm.uuid, vm.name, vm.host, point.id, path, as_path or path, restore.suffix_now(), volume
        )
        return launch_put_back(self.operator.settings, self.operator.journal, request)

    def set(self, job: Job, **knobs: object) -> None:
        self.operator.journal.turn_knobs(job.id, lambda before: replace(before, **knobs))  # type: ignore[arg-type]

    def run(self, script: str) -> str:
        return in_guest(self.operator.lane("web"), self.operator.vm("web"), script)

    def contents(self, point: Point) -> dict[str, bytes]:
        with open_repository(self.operator.settings.repositories[0]) as repository, repository.reader() as reader:
            return {
                os.fsdecode(entry.path): b"".join(read_guest_file(reader, point.manifest.disks[0], entry))
                for entry in read_listing(reader, point)
                if entry.kind is FileKind.FILE
            }

    def plugged(self) -> list[str]:
        uuid = self.operator.vm("web").uuid
        xml = self.operator.lane("web").run(lambda connection: connection.lookupByUUIDString(uuid).XMLDesc())
        return [line.strip() for line in xml.splitlines() if "org.newhope." in line and "<target" in line]

    def agent_answers(self) -> bool:
        return wait_for(lambda: agent.ping(self.operator.lane("web"), self.operator.vm("web").uuid))


@pytest.fixture
def files(operator: Operator, tmp_path: Path) -> Iterator[FilesOperator]:
    at_work = FilesOperator(operator, tmp_path)
    yield at_work
    assert at_work.agent_answers()
    assert at_work.plugged() == []


def test_what_the_guest_has_is_kept_byte_for_byte_and_a_second_point_costs_what_changed(files: FilesOperator):
    files.run("mkdir -p /etc/app; head -c 300000 /dev/urandom > /etc/app/blob; ln -sf app/blob /etc/link")
    dump = (f"journal status > {DUMP}",)

    first = files.keep(before=dump)
    files.run("echo changed > /etc/app/config")
    second = files.keep(before=dump, exclude=("acpi",))

    assert first.manifest.kind is PointKind.GUEST
    assert first.manifest.new_bytes > 300_000
    assert second.manifest.new_bytes < 10_000
    kept = files.contents(second)
    assert kept["etc/app/config"] == b"changed\n"
    assert kept["etc/app/blob"] == files.contents(first)["etc/app/blob"]
    assert b'"vm":"web"' in kept["data/dump.txt"]
    told = files.run("cd / && find etc -type f ! -path 'etc/acpi/*' | xargs sha256sum").splitlines()
    assert {f"{hashlib.sha256(data).hexdigest()}  {path}" for path, data in kept.items() if path != DUMP[1:]} == set(
        told
    )
    # The VM is no better protected than before.
    assert all(point.manifest.kind is PointKind.VM for point in files.operator.fleet().points)


def test_a_command_that_fails_ends_it_with_its_own_words(files: FilesOperator):
    job = files.fail(before=("echo no database here >&2; exit 3",), after=("touch /tmp/after-all",))

    assert job.failure is not None
    assert job.failure.exit_code == ExitCode.GUEST
    assert "no database here" in job.failure.what
    assert files.run("rm /tmp/after-all; echo there").strip() == "there"


def test_a_path_that_is_not_there_and_a_limit_that_is_passed_are_told(files: FilesOperator):
    missing = files.fail(paths=("/etc", "/nowhere"))
    large = files.fail(paths=("/data/payload",), limit_bytes=1 << 20)

    assert missing.failure is not None
    assert "nowhere" in missing.failure.what
    assert large.failure is not None
    assert "more than 1 MiB" in large.failure.what


@pytest.mark.guests("legacy")
def test_a_guest_without_an_agent_is_refused_with_what_to_do(files: FilesOperator):
    job = files.operator.finish(files.start(vm="legacy"))

    assert job.failure is not None
    assert "qemu-guest-agent" in job.failure.next_step


def test_an_agent_that_falls_silent_in_the_middle_leaves_nothing_plugged_in(files: FilesOperator):
    stopped = "(sleep 25; kill -CONT $(pidof qemu-ga)) >/dev/null 2>&1 & kill -STOP $(pidof qemu-ga)"

    job = files.fail(before=(stopped,))

    assert job.failure is not None
    assert "does not answer" in job.failure.what


def test_a_killed_backup_leaves_a_channel_that_the_next_one_unplugs(files: FilesOperator):
    files.run("truncate -s 8G /data/huge")
    try:
        job = files.start(paths=("/data/huge",), limit_bytes=16 << 30)
        assert wait_for(lambda: _pid_of(files, job) is not None and files.plugged() != [])
        pid = _pid_of(files, job)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert wait_for(lambda: not Path(f"/proc/{pid}").exists())
        assert len(files.plugged()) == 1
        assert files.agent_answers()
    finally:
        files.run("rm -f /data/huge")

    point = files.keep(paths=("/etc",))

    assert "etc/passwd" in files.contents(point)


@pytest.mark.parametrize(
    ("tar", "why"),
    [
        ("head -c 100000 /dev/urandom", "no archive"),
        ("busybox tar -cf - -C / ./etc/passwd | sed 's,etc/passwd,../.passwd,'", "no archive"),
        ("busybox tar -cf - -C / ./etc | head -c 1500", "no archive"),
    ],
    ids=["noise", "a wrong checksum, and a name that leads out", "cut off"],
)
def test_a_guest_that_sends_nonsense_is_told_from_one_that_sends_files(files: FilesOperator, tar: str, why: str):
    with _hostile(files, tar):
        job = files.fail(paths=("/etc",))

    assert job.failure is not None
    assert why in job.failure.what


def test_where_no_channel_can_be_plugged_in_the_agent_reads_the_files(files: FilesOperator):
    files.run("head -c 1500000 /dev/urandom > /etc/large")
    with _all_ports_taken(files):
        point = files.keep(paths=("/etc",))
    try:
        kept = files.contents(point)["etc/large"]
        assert files.run("sha256sum < /etc/large").split()[0] == hashlib.sha256(kept).hexdigest()
        assert point.manifest.guest_files is not None
        assert "agent" in point.manifest.guest_files.way
        assert files.run("ls /tmp | grep -c newhope- || true").strip() == "0"
        with _all_ports_taken(files):
            assert files.put_back(point, "/etc/large", "/tmp/large").failure is None
        assert files.run("cmp /etc/large /tmp/large && echo same").strip() == "same"
        assert files.run("ls /tmp | grep -c newhope- || true").strip() == "0"
    finally:
        files.run("rm -f /etc/large /tmp/large")


def test_a_folder_put_back_is_as_it_was_and_what_was_there_is_kept_aside(files: FilesOperator):
    files.run(
        "rm -rf /etc/app; mkdir -p /etc/app/deep; echo old > /etc/app/config; chmod 640 /etc/app/config;"
        " chown 12:34 /etc/app/config; touch -d '2020-01-02 03:04:05' /etc/app/config;"
        " head -c 3000000 /dev/urandom > /etc/app/deep/blob;"
        " ln -s config /etc/app/link; ln /etc/app/config /etc/app/twin"
    )
    before = files.run("cd /etc/app && sha256sum config deep/blob && stat -c '%n %a %u:%g %Y' config")
    point = files.keep(paths=("/etc",))
    files.run("echo new > /etc/app/config; rm -r /etc/app/deep /etc/app/link; echo mine > /etc/app/own")

    first = files.put_back(point, "/etc/app")
    held = files.start_putting_back(point, "/etc/app", "/root/app-of-then")
    files.set(held, paused=True)
    wait_for(lambda: [step.state for step in files.operator.journal.job(held.id).steps[1:]] == [StepState.RUN])
    time.sleep(1)
    sent_while_paused = files.operator.journal.job(held.id).done_bytes
    files.set(held, paused=False)
    again = files.operator.finish(held)

    assert sent_while_paused < 3_000_000 < again.done_bytes
    assert first.failure is None
    assert again.failure is None
    assert files.run("cd /etc/app && sha256sum config deep/blob && stat -c '%n %a %u:%g %Y' config") == before
    assert files.run("cat /etc/app/config.before-*; cat /etc/app/own; readlink /etc/app/link") == "new\nmine\nconfig\n"
    assert files.run("cd /root/app-of-then && sha256sum config deep/blob && stat -c '%n %a %u:%g %Y' config") == before
    assert files.run("ls /root/app-of-then | wc -l").strip() == "4"
    assert files.run("ls -a /etc /root | grep -c '^.newhope' || true").strip() == "0"
    files.run("rm -rf /etc/app /root/app-of-then")


@pytest.mark.long
def test_a_folder_out_of_the_disk_of_a_point_is_put_back_into_the_running_guest(files: FilesOperator):
    files.run(
        "mkdir -p /data/app/deep; cd /data/app; echo old > config; chmod 640 config; chown 12:34 config;"
        " touch -d '2020-01-02 03:04:05' config; head -c 3000000 /dev/urandom > deep/blob;"
        " truncate -s 300M sparse; ln -s config link; mkfifo fifo"
    )
    look = "cd /data/app && sha256sum config deep/blob && stat -c '%n %a %u:%g %s %Y' config sparse && readlink link"
    try:
        before = files.run(look)
        point = files.operator.back_up("web")
        files.run("rm -r /data/app/deep /data/app/link /data/app/sparse; echo new > /data/app/config")

        job = files.put_back(point, "/app", "/data/app", volume="vda")
        nowhere = files.put_back(point, "/app/nothing", "/data/app", volume="vda")

        assert job.failure is None, job.failure
        assert files.run(look) == before
        assert files.run("cat /data/app/config.before-*") == "new\n"
        assert nowhere.failure is not None
        assert nowhere.failure.exit_code == ExitCode.NOT_FOUND
    finally:
        files.run("rm -rf /data/app")


def test_a_guest_without_room_takes_nothing_and_its_agent_goes_on(files: FilesOperator):
    files.run(
        "head -c 3000000 /dev/urandom > /etc/large; mkdir -p /tmp/small; mount -t tmpfs -o size=1m none /tmp/small"
    )
    try:
        point = files.keep(paths=("/etc/large",))

        job = files.put_back(point, "/etc/large", "/tmp/small/large")

        assert job.failure is not None
        assert job.failure.exit_code == ExitCode.GUEST
        assert "could not be unpacked" in job.failure.what
        assert files.run("ls -A /tmp/small") == ""
        assert files.put_back(point, "/etc/large", "/tmp/enough").failure is None
        assert files.run("cmp /etc/large /tmp/enough && echo same").strip() == "same"
    finally:
        files.run("umount /tmp/small; rm -f /etc/large /tmp/enough")


def _pid_of(files: FilesOperator, job: Job) -> int | None:
    return files.operator.journal.job(job.id).pid


@contextmanager
def _hostile(files: FilesOperator, script: str) -> Iterator[None]:
    """A guest whose shell, asked for files, sends something else into the channel ($4)."""
    shell = f"""#!/bin/busybox sh
case $2 in
*virtio-ports*)
    until grep -qx "$4" /sys/class/virtio-ports/*/name; do usleep 50000; done
    port=$(grep -lx "$4" /sys/class/virtio-ports/*/name); port=${{port%/name}}
    {{ {script}; }} > /dev/${{port##*/}}
    exit ;;
esac
exec /bin/busybox sh "$@"
"""
    lane, uuid = files.operator.lane("web"), files.operator.vm("web").uuid
    agent.write_file(lane, uuid, "/tmp/shell", [shell.encode()])
    files.run("chmod +x /tmp/shell; mv /tmp/shell /bin/sh")
    try:
        yield
    finally:
        files.run("ln -sf busybox /bin/sh")


@contextmanager
def _all_ports_taken(files: FilesOperator) -> Iterator[None]:
    """Somebody else's channels on every port of the VM's controller."""
    uuid = files.operator.vm("web").uuid
    lane = files.operator.lane("web")
    with pytest.raises(HostRefused):
        for number in range(1, 40):
            target = f"<target type='virtio' name='org.other.{number}'/>"
            xml = f"<channel type='unix'><source mode='bind'/>{target}</channel>"
            lane.run(partial(_change, uuid=uuid, change="attachDeviceFlags", xml=xml))
    try:
        yield
    finally:
        for channel in ElementTree.fromstring(lane.run(partial(_live, uuid=uuid))).iterfind("devices/channel"):
            xml = ElementTree.tostring(channel, encoding="unicode")
            if "org.other." in xml:
                lane.run(partial(_change, uuid=uuid, change="detachDeviceFlags", xml=xml))


def _live(connection: Any, *, uuid: str) -> str:
    return connection.lookupByUUIDString(uuid).XMLDesc()


def _change(connection: Any, *, uuid: str, change: str, xml: str) -> None:
    getattr(connection.lookupByUUIDString(uuid), change)(xml, 1)
