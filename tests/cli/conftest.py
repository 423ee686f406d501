from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from engine.cli.main import main
from engine.fleet import repository_access
from engine.jobs import Journal
from engine.repository import Consistency, Point, Repository
from tests.builders import make_vm_facts
from tests.command import newhope as newhope_with

LIVE = 'uri = "test:///default"'
"""libvirt's own test driver: a real connection, one real (if imaginary) VM named `test` that runs."""


@dataclass
class Answer:
    """What one call of the command said."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def labels(self) -> list[str]:
        return [line.split()[0] for line in self.err.splitlines() if not line.startswith(" ")]


@dataclass
class Place:
    """A settings file with what it names, in a folder of the test's own."""

    folder: Path
    hosts: str = ""

    @property
    def passphrase_file(self) -> Path:
        return self.folder / "passphrase"

    @property
    def settings_file(self) -> Path:
        return self.folder / "newhope.toml"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def vault(self) -> Path:
        return self.folder / "vault"

    @property
    def command(self) -> list[str]:
        return newhope_with(self.settings_file)

    def write(self, hosts: str = "", more: str = "") -> None:
        """Settings with the given hosts, one repository `vault`, and one level for all VMs."""
        self.hosts = hosts
        source = f'passphrase_file = "{self.passphrase_file}"' if self.passphrase_file.exists() else ""
        text = f"""
            state = "{self.state}"
            {hosts}
            [repositories.vault]
            path = "{self.vault}"
            {source}
            [levels.silver]
            rpo = "4h"
            rto = "1h"
            default = true
            {more}
        """
        self.settings_file.write_text("\n".join(line.strip() for line in text.splitlines()))

    def keep_passphrase(self, passphrase: str) -> None:
        """Keep the repository's passphrase in a file that the settings name."""
        self.passphrase_file.touch(mode=0o600)
        self.passphrase_file.write_text(f"{passphrase}\n")
        self.write(hosts=self.hosts)

    def dead(self, name: str = "alderaan") -> str:
        """A host that nobody answers for."""
        return f'[hosts.{name}]\nuri = "qemu+unix:///session?socket={self.folder}/no-such-socket"\n'

    def live(self, name: str = "coruscant") -> str:
        """A host that answers."""
        return f"[hosts.{name}]\n{LIVE}\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg-state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg-config"))
    for name in ("NEWHOPE_CONFIG", "NEWHOPE_PASSPHRASE_FILE", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    place = Place(tmp_path)
    place.write(hosts=place.dead())
    return place


Run = Callable[..., Answer]


@pytest.fixture
def newhope(place: Place, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Call the command in this process, with the place's settings."""

    def run(*arguments: object) -> Answer:
        capfd.readouterr()
        # The command is a process that has just been started: it knows no keys yet.
        monkeypatch.setattr(repository_access, "known", repository_access.Known())
        code = main(["--config", str(place.settings_file), *map(str, arguments)])
        out, err = capfd.readouterr()
        return Answer(int(code), out, err)

    return run


@pytest.fixture
def newhope_process(place: Place) -> Run:
    """Call the command in a process of its own, without a terminal."""

    def run(*arguments: object, **options: Any) -> Answer:
        done = subprocess.run(
            [*place.command, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env=os.environ | options.pop("env", {}),
            **options,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def journal(place: Place) -> Iterator[Journal]:
    with Journal(place.state) as journal:
        yield journal


@pytest.fixture
def points(place: Place) -> tuple[Point, ...]:
    """Three recovery points, newest first: two of web on alderaan, one of db-1."""
    with Repository.create(place.vault, name="vault") as repository:
        made = (
            make_point(repository, "web", age=timedelta(hours=5, minutes=3)),
            make_point(repository, "db-1", age=timedelta(hours=2)),
            make_point(repository, "web", age=timedelta(minutes=12)),
        )
    return tuple(reversed(made))


def make_point(
    repository: Repository,
    name: str,
    *,
    age: timedelta,
    uuid: str = "",
    taken_over_from: str = "",
    contradicted: str = "",
) -> Point:
    with repository.writer("tests") as writer:
        disk = writer.disk("vda", 4 * writer.block_bytes, "qcow2")
        buffer = disk.buffer()
        buffer[:] = os.urandom(len(buffer))
        disk.submit(0, buffer, len(buffer))
        disk.zero(1, 3)
        record = replace(
            disk.finish("full: first recovery point"), taken_over_from=taken_over_from, contradicted=contradicted
        )
        return writer.commit(
            vm=make_vm_facts(name, uuid=uuid or f"00000000-0000-4000-8000-{name.encode().hex():0>12}"),
            moment=datetime.now(UTC) - age,
            method="hot",
            consistency=Consistency.FILESYSTEM,
            consistency_note="its file systems were frozen",
            disks=(record,),
            files=(writer.file("definition-inactive", name, b"<domain/>"),),
            writer="0.1.0",
        )
