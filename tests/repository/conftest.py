from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.repository import Repository, key_slots
from engine.repository.directory_storage import DirectoryStorage
from tests.faults.repository_scenario import fast_folder
from tests.repository.building import BLOCK, QUICK_COST
from tests.repository.s3_server import CREDENTIALS, S3Server, s3_server
from tests.repository.vault_to_damage import Vault


@pytest.fixture(autouse=True)
def cheap_passphrases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trying a passphrase takes a quarter of a second on purpose; tests try hundreds."""
    monkeypatch.setattr(key_slots, "USUAL_COST", QUICK_COST)


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    """A real S3 server, one for all tests of this process."""
    with s3_server() as server:
        yield server


@pytest.fixture
def s3_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials as they usually come, and nothing of the person who runs the tests."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def bucket(moto: S3Server, s3_keys: None) -> str:
    """Name of an empty bucket."""
    name = f"vault-{secrets.token_hex(6)}"
    moto.make_bucket(name)
    return name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "vault"


@pytest.fixture
def repository(folder: Path) -> Repository:
    return Repository.create(folder, name="vault", block_bytes=BLOCK)


@pytest.fixture
def storage(folder: Path, repository: Repository) -> DirectoryStorage:
    return DirectoryStorage(folder)


@pytest.fixture(scope="session")
def damageable() -> Iterator[Vault]:
    """One repository for all tests of this process that damage one; `vault` mends it."""
    with fast_folder() as folder:
        yield Vault(folder)


@pytest.fixture
def vault(damageable: Vault) -> Vault:
    damageable.mend()
    return damageable
