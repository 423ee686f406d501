"""A recovery point lent to other programs: the command as a process, read by the tools that people will use."""

from __future__ import annotations

import json
import shlex
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ExitCode
from engine.nbd import Client, RequestFailed, parse_uri
from engine.repository import Point, Repository
from tests.cli.conftest import Place, Run
from tests.repository.building import BLOCK, SMALL, back_up, mixed_disk

CONTENT = mixed_disk(900, seed=7, tail=1536)


@pytest.fixture(autouse=True)
def short_state_folder(place: Place, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The kernel takes only 107 bytes as the path of a socket, and the folders of tests have long names."""
    with tempfile.TemporaryDirectory(prefix="newhope-") as folder:
        monkeypatch.setenv("XDG_STATE_HOME", folder)
        yield


@pytest.fixture
def point(place: Place) -> Point:
    """Of a VM with a disk of 900 blocks and a short one, and an empty one of 3 MiB."""
    with Repository.create(place.vault, name="vault", block_bytes=BLOCK) as repository:
        return back_up(repository, CONTENT, bytes(3 << 20))


class Serving:
    """A serving process that has announced itself."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if line == "}\n":
                break
        answer = json.loads("".join(lines))
        assert "serving" in answer, answer
        self.document: dict[str, Any] = answer["serving"]

    def uri(self, target: str) -> str:
        [uri] = [disk["uri"] for disk in self.document["disks"] if disk["target"] == target]
        return uri

    def end(self, number: signal.Signals = signal.SIGINT) -> tuple[int, str]:
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=60)
        return self.process.returncode, err


@contextmanager
def serving(place: Place, *options: object) -> Iterator[Serving]:
    with subprocess.Popen(
        [*place.command, "serve", "web@latest", "--json", *map(str, options)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Serving(process)
        finally:
            process.kill()


def tool(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def read(client: Client, offset: int, length: int) -> bytes:
    buffer = bytearray(length)
    client.read_into(offset, memoryview(buffer))
    return bytes(buffer)


def test_other_tools_read_the_disks_as_they_were_from_many_connections(place: Place, point: Point) -> None:
    copy, converted, original = (place.folder / name for name in ("copy.raw", "converted.qcow2", "original.raw"))
    original.write_bytes(CONTENT)

    with serving(place) as server:
        listing = json.loads(tool("nbdinfo", "--list", "--json", server.uri("vda").replace("/vda?", "/?")))["exports"]
        holes = json.loads(tool("nbdinfo", "--map", "--json", server.uri("vdb")))
        tool("nbdcopy", "--connections=4", server.uri("vda"), copy)
        tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", server.uri("vda"), converted)
        compared = tool("qemu-img", "compare", "-f", "raw", "-F", "raw", server.uri("vda"), original)
        code, err = server.end()

    assert [(each["export-name"], each["is_read_only"]) for each in listing] == [("vda", True), ("vdb", True)]
    assert [(each["offset"], each["length"], each["type"]) for each in holes] == [(0, 3 << 20, 3)]
    assert copy.read_bytes() == CONTENT
    assert "identical" in compared
    assert "identical" in tool("qemu-img", "compare", "-f", "raw", "-F", "qcow2", original, converted)
    assert (code, err) == (ExitCode.OK, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_however_it_is_ended_its_socket_is_gone(place: Place, point: Point, number: signal.Signals) -> None:
    path = place.folder / "lent.sock"

    with serving(place, "--socket", path, "--disk", "vda") as server:
        assert [disk["target"] for disk in server.document["disks"]] == ["vda"]
        there = path.is_socket(), path.stat().st_mode & 0o777
        code, _ = server.end(number)

    assert there == (True, 0o600)
    assert code == ExitCode.OK
    assert not path.exists()


def test_one_that_was_killed_comes_back_at_the_same_address(place: Place, point: Point) -> None:
    with serving(place) as killed:
        before = killed.uri("vda")
        killed.end(signal.SIGKILL)

    with serving(place) as server, Client.connect(*parse_uri(server.uri("vda"))) as client:
        assert server.uri("vda") == before
        assert read(client, 5 * BLOCK + 7, 3 * BLOCK) == CONTENT[5 * BLOCK + 7 : 8 * BLOCK + 7]


def test_a_point_that_is_dropped_and_collected_meanwhile_is_served_to_its_end(place: Place, point: Point) -> None:
    with serving(place) as server, Repository.open(place.vault) as repository:
        # The newest of a VM is never dropped.
        back_up(repository, bytes(BLOCK), moment=point.manifest.moment + timedelta(hours=1))
        with repository.collector("a test", limits=SMALL) as collector:
            collector.drop((point,))
        for _ in range(3):
            with repository.collector("a test", limits=SMALL) as collector:
                collector.collect()
        with Client.connect(*parse_uri(server.uri("vda"))) as client:
            content = read(client, 0, len(CONTENT))
        code, _ = server.end()

    assert content == CONTENT
    assert code == ExitCode.OK


def test_a_port_of_loopback(place: Place, point: Point, newhope: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        taken = newhope("serve", "web@latest", "--port", port)

    with serving(place, "--port", port) as server:
        assert server.uri("vda") == f"nbd://127.0.0.1:{port}/vda"
        tool("nbdcopy", server.uri("vda"), place.folder / "copy.raw")
        code, _ = server.end()

    assert (place.folder / "copy.raw").read_bytes() == CONTENT
    assert code == ExitCode.OK
    assert taken.code == ExitCode.FAILED and taken.labels == ["what", "untouched", "next"]


def test_damage_is_an_error_of_its_range_alone_and_told_once(place: Place, point: Point) -> None:
    pack = max((place.vault / "packs").glob("*/*"), key=lambda each: each.stat().st_size)
    with pack.open("r+b") as file:
        file.seek(pack.stat().st_size // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))

    broken: list[int] = []
    with serving(place) as server:
        with Client.connect(*parse_uri(server.uri("vda"))) as client:
            for offset in [*range(0, 900 * BLOCK, BLOCK)] * 2:
                try:
                    assert read(client, offset, BLOCK) == CONTENT[offset : offset + BLOCK]
                except RequestFailed as failure:
                    assert failure.errno_name == "EIO"
                    broken.append(offset)
        _, err = server.end()

    assert 0 < len(broken) < 20
    assert len(set(broken)) == len(broken) // 2
    told = [line for line in err.splitlines() if line.startswith("! vda: Block")]
    assert len(told) == len({CONTENT[offset : offset + BLOCK] for offset in broken})
    assert "newhope repo repair" in told[0]


def test_what_people_read_names_commands_that_work(place: Place, point: Point, tmp_path: Path) -> None:
    with subprocess.Popen([*place.command, "serve", point.id[:8]], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            next(line for line in process.stdout if line == "For example:\n")
            examples = [next(process.stdout) for _ in range(3)]
            for example in examples:
                subprocess.run(shlex.split(example), cwd=tmp_path, check=True, timeout=60)
            tool("qemu-io", "-f", "qcow2", "-c", "write -P 7 0 4096", tmp_path / "web-vda-writable.qcow2")
        finally:
            process.send_signal(signal.SIGINT)

    assert (tmp_path / "web-vda.raw").read_bytes() == CONTENT
    assert "identical" in tool("qemu-img", "compare", tmp_path / "web-vda.raw", tmp_path / "web-vda.qcow2")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["web@latest", "--disk", "vdz"], ExitCode.NOT_FOUND, "its disks are: vda, vdb"),
        (["nobody@latest"], ExitCode.NOT_FOUND, "no recovery point"),
        (["web@latest", "--port", "1", "--socket", "x"], ExitCode.USAGE, "two ways"),
        (["web@latest", "--port", "70000"], ExitCode.USAGE, "70000"),
        (["web@latest", "--socket", "/nowhere/x.sock"], ExitCode.FAILED, "/nowhere"),
    ],
)
def test_what_cannot_be_served_is_refused_in_words(
    newhope: Run, point: Point, options: list[str], code: ExitCode, said: str
) -> None:
    answer = newhope("serve", *options)

    assert answer.code == code
    assert said in answer.err
    assert answer.labels == ["what", "untouched", "next"]
