"""`newhope repo test-storage`, and a repository in a bucket from the command line."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import ExitCode
from tests.cli.conftest import Place, Run
from tests.repository.misbehaving_s3 import Proxy, misbehaving
from tests.repository.s3_server import CREDENTIALS, S3Server, s3_server


@pytest.fixture(scope="module")
def moto() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def proxy(moto: S3Server) -> Iterator[Proxy]:
    with misbehaving(moto) as proxy:
        yield proxy


@pytest.fixture
def far(moto: S3Server, proxy: Proxy, place: Place, monkeypatch: pytest.MonkeyPatch) -> str:
    """Settings with a second repository `far` in a bucket; its address."""
    bucket = f"far-{secrets.token_hex(6)}"
    moto.make_bucket(bucket)
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    place.write(more=f'[repositories.far]\npath = "s3://{bucket}/vault"\nendpoint = "{proxy.endpoint}"')
    return f"s3://{bucket}/vault?endpoint={proxy.endpoint}"


def test_a_folder_is_tried_property_by_property(newhope: Run, tmp_path: Path):
    (tmp_path / "disk").mkdir()

    answer = newhope("repo", "test-storage", tmp_path / "disk")

    assert answer.code == ExitCode.OK
    assert re.search(r"^\+ HOLDS +no-overwrite +a second create .* was refused", answer.out, re.MULTILINE)
    assert answer.out.splitlines()[-1] == "Fit for a repository."
    assert list((tmp_path / "disk").iterdir()) == []


def test_a_folder_that_is_not_there_is_an_error_with_a_way_on(newhope: Run):
    answer = newhope("repo", "test-storage")

    assert answer.code == ExitCode.REPOSITORY
    assert "mkdir -p" in answer.err


def test_a_bucket_is_tried_made_looked_at_and_tried_again(newhope: Run, far: str):
    tried = newhope("repo", "test-storage", "far", "--json")
    made = newhope("repo", "init", "far", "--no-encryption")
    looked = newhope("repo", "info", far)
    again = newhope("repo", "test-storage", far)

    assert tried.document["fit"] is True
    assert tried.document["storage"]["location"] == far
    assert made.code == ExitCode.OK
    assert far in made.out
    assert "not told by object storage" in looked.out
    assert "? UNKNOWN" in again.out
    assert again.code == ExitCode.OK


def test_a_store_without_conditional_creation_is_found_out_and_refused(newhope: Run, far: str, proxy: Proxy):
    proxy.forget_conditions = True

    tried = newhope("repo", "test-storage", "far")
    made = newhope("repo", "init", "far", "--no-encryption")

    assert tried.code == ExitCode.FINDINGS
    assert re.search(r"^x FAILS +no-overwrite", tried.out, re.MULTILINE)
    assert "Not fit" in tried.out
    assert made.code == ExitCode.REPOSITORY
    assert "If-None-Match" in made.err
    for secret in CREDENTIALS.values():
        assert secret not in tried.out + tried.err + made.out + made.err
