"""FORMAT.md tells the truth: an independent reader restores from it, and what was once written stays readable."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.repository import Passphrase, Repository
from engine.repository.manifest import point_key
from tests.repository.building import PASSPHRASE, WEB, back_up, later, mixed_disk, packs_of, restored, unlock

FIXTURES = Path(__file__).parent / "fixtures"
INDEPENDENT_READER = Path(__file__).with_name("independent_reader.py")
PLAIN_AND_ENCRYPTED = pytest.mark.parametrize("passphrase", [None, PASSPHRASE], ids=["plain", "encrypted"])
VERSIONS = sorted(path.name for path in FIXTURES.iterdir() if path.is_dir())


def independently(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the independent reader where it cannot import newhope."""
    return subprocess.run(
        [sys.executable, "-P", str(INDEPENDENT_READER), *map(str, arguments)],
        capture_output=True,
        text=True,
        input=PASSPHRASE.value.decode() + "\n",
        cwd="/",
        check=False,
    )


def test_the_independent_reader_is_independent_and_short():
    text = INDEPENDENT_READER.read_text()

    assert "engine" not in text
    assert len(text.splitlines()) < 200


@PLAIN_AND_ENCRYPTED
def test_the_independent_reader_restores_what_was_backed_up(tmp_path: Path, passphrase: Passphrase | None):
    repository = Repository.create(tmp_path / "vault", block_bytes=4096, passphrase=passphrase)
    content = mixed_disk()
    point = back_up(repository, content, bytes(70_000), b"")
    key = point_key(point)

    assert key in independently(tmp_path / "vault").stdout
    for target, expected in (("vda", content), ("vdb", bytes(70_000)), ("vdc", b"")):
        done = independently(tmp_path / "vault", key, target, tmp_path / target)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / target).read_bytes() == expected


@PLAIN_AND_ENCRYPTED
def test_the_independent_reader_manages_without_index_and_tables(tmp_path: Path, passphrase: Passphrase | None):
    repository = Repository.create(tmp_path / "vault", block_bytes=4096, passphrase=passphrase)
    content = mixed_disk(100)
    point = back_up(repository, content)
    shutil.rmtree(tmp_path / "vault/index")
    for pack in packs_of(tmp_path / "vault"):
        pack.write_bytes(pack.read_bytes()[:-1])

    assert independently(tmp_path / "vault", point_key(point), "vda", tmp_path / "vda").returncode == 0
    assert (tmp_path / "vda").read_bytes() == content


@PLAIN_AND_ENCRYPTED
def test_the_independent_reader_notices_damage(tmp_path: Path, passphrase: Passphrase | None):
    repository = Repository.create(tmp_path / "vault", block_bytes=4096, passphrase=passphrase)
    point = back_up(repository, mixed_disk(20))
    for pack in packs_of(tmp_path / "vault"):
        content = bytearray(pack.read_bytes())
        content[1000] ^= 1
        pack.write_bytes(content)

    done = independently(tmp_path / "vault", point_key(point), "vda", tmp_path / "vda")
    assert done.returncode != 0
    assert "damaged" in done.stderr


def test_a_fixture_is_small():
    for version in VERSIONS:
        assert sum(path.stat().st_size for path in (FIXTURES / version).rglob("*") if path.is_file()) < 100 * 1024


@pytest.mark.parametrize("version", VERSIONS)
def test_every_released_version_s_repository_is_read(version: str):
    expected = json.loads((FIXTURES / f"{version}.json").read_text())
    repository = Repository.open(FIXTURES / version, unlock=unlock)
    points = repository.points()

    assert {point.id for point in points} == set(expected)
    for point in points:
        found = {disk.target: restored(repository, disk) for disk in point.manifest.disks}
        with repository.reader() as reader:
            found |= {file.role: reader.file(file) for file in point.manifest.files}
        assert {name: hashlib.sha256(content).hexdigest() for name, content in found.items()} == expected[point.id]
    assert repository.record("restores", "report-one") == b"# A report\n"
    assert repository.damaged == ()
    assert repository.info().format_version == int(version[1:].partition("-")[0])


@pytest.mark.parametrize("version", VERSIONS)
def test_every_released_version_s_repository_is_written_on(version: str, tmp_path: Path):
    shutil.copytree(FIXTURES / version, tmp_path / "vault")
    repository = Repository.open(tmp_path / "vault", unlock=unlock)
    old = repository.points(WEB)[0].manifest.disks[0]
    content = restored(repository, old)
    point = back_up(repository, content, moment=later(500))

    assert point.manifest.disks[0].map_root == old.map_root
    assert point.manifest.new_bytes == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_the_independent_reader_restores_a_fixture(version: str, tmp_path: Path):
    expected = json.loads((FIXTURES / f"{version}.json").read_text())
    repository = Repository.open(FIXTURES / version, unlock=unlock)
    for point in repository.points():
        for disk in point.manifest.disks:
            done = independently(FIXTURES / version, point_key(point), disk.target, tmp_path / "disk")
            assert done.returncode == 0, done.stderr
            content = (tmp_path / "disk").read_bytes()
            assert hashlib.sha256(content).hexdigest() == expected[point.id][disk.target]
