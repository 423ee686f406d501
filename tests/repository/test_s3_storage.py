"""Object storage as storage: the conformance suite against a real HTTP server, and what is special about S3."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from pathlib import Path

import pytest

from engine.errors import Conflict, NewhopeError, NoSpace
from engine.repository import Repository, RepositoryMissing, StorageFailed
from engine.repository.errors import ObjectMissing
from engine.repository.patience import NO_PATIENCE, Patience
from engine.repository.s3_address import BadAddress, S3Address
from engine.repository.s3_storage import STRETCH_BYTES, S3Storage
from tests.repository.building import BLOCK, back_up, later, mixed_disk, restored
from tests.repository.misbehaving_s3 import misbehaving
from tests.repository.s3_server import CREDENTIALS, S3Server
from tests.repository.storage_conformance import StorageConformance


@pytest.fixture
def storage(moto: S3Server, bucket: str) -> S3Storage:
    return S3Storage(S3Address(bucket, "deep/vault", moto.endpoint))


@pytest.fixture
def location(moto: S3Server, bucket: str) -> str:
    return f"s3://{bucket}/vault?endpoint={moto.endpoint}"


class TestS3Storage(StorageConformance):
    @pytest.fixture
    def storage(self, moto: S3Server, bucket: str) -> S3Storage:
        return S3Storage(S3Address(bucket, "deep/vault", moto.endpoint))


class TestS3StorageOfAWholeBucket(StorageConformance):
    @pytest.fixture
    def storage(self, moto: S3Server, bucket: str) -> S3Storage:
        return S3Storage(S3Address(bucket, "", moto.endpoint))


def test_recovery_points_go_to_a_bucket_and_come_back_byte_for_byte(location: str):
    disk = mixed_disk()
    with Repository.create(location, name="vault", block_bytes=BLOCK) as repository:
        first = back_up(repository, disk)
    changed = bytearray(disk)
    changed[5 * BLOCK : 6 * BLOCK] = os.urandom(BLOCK)

    with Repository.open(location, name="vault") as repository:
        second = back_up(repository, bytes(changed), moment=later(60))

    with Repository.open(location, name="vault") as repository:
        assert [point.id for point in repository.points()] == [second.id, first.id]
        assert restored(repository, first.manifest.disks[0]) == disk
        assert restored(repository, second.manifest.disks[0]) == bytes(changed)
        assert second.manifest.new_bytes < 4 * BLOCK
        info = repository.info()
        assert (info.points, info.writers, info.free_bytes) == (2, 0, None)
        assert info.path == location
        assert repository.damaged == ()


def test_a_bucket_may_hold_several_repositories(moto: S3Server, bucket: str):
    first = Repository.create(f"s3://{bucket}/one?endpoint={moto.endpoint}", block_bytes=BLOCK)
    second = Repository.create(f"s3://{bucket}/two?endpoint={moto.endpoint}", block_bytes=BLOCK)
    back_up(first, mixed_disk(20))

    assert second.points() == ()
    assert len(first.points()) == 1


def test_a_repository_is_not_made_twice(location: str):
    Repository.create(location)

    with pytest.raises(Conflict, match="already"):
        Repository.create(location)


def test_a_repository_is_not_made_among_other_objects(moto: S3Server, bucket: str, location: str):
    S3Storage(S3Address(bucket, "vault", moto.endpoint)).create("photos/one", b"x")

    with pytest.raises(Conflict, match="photos/one"):
        Repository.create(location)


def test_an_empty_prefix_is_no_repository(location: str):
    with pytest.raises(RepositoryMissing, match="newhope-repository"):
        Repository.open(location)


def test_a_large_object_is_mapped_in_stretches(storage: S3Storage):
    content = os.urandom(1 << 20) * ((STRETCH_BYTES >> 20) + 1) + b"end"
    new = storage.open_new()
    new.write(content)
    new.finish("index/large")

    mapped = storage.map("index/large")

    assert len(mapped) == len(content)
    assert mapped[:] == content


def test_what_is_on_its_way_has_no_name_on_this_machine(
    storage: S3Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    new = storage.open_new()
    new.write(bytes(3 << 20))

    assert list(tmp_path.iterdir()) == []
    new.abandon()


def test_a_full_temporary_folder_is_told(storage: S3Storage, monkeypatch: pytest.MonkeyPatch):
    def full(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)

    with pytest.raises(NoSpace) as caught:
        storage.open_new()
    assert "TMPDIR" in caught.value.next_step


def refusal(address: S3Address) -> NewhopeError:
    with pytest.raises(StorageFailed) as caught:
        S3Storage(address, patience=NO_PATIENCE).create("records/a/one", b"x")
    for secret in CREDENTIALS.values():
        assert secret not in str(caught.value)
    return caught.value


def test_a_missing_bucket_is_said_to_be_missing(moto: S3Server, s3_keys: None):
    error = refusal(S3Address("no-such-bucket", "", moto.endpoint))

    assert "NoSuchBucket" in error.what
    assert "Make the bucket" in error.next_step


@pytest.mark.parametrize("key", ["points/", "packs/"])
def test_a_missing_bucket_is_no_empty_listing(moto: S3Server, s3_keys: None, key: str):
    with pytest.raises(StorageFailed, match="NoSuchBucket"):
        list(S3Storage(S3Address("no-such-bucket", "", moto.endpoint)).list(key))


def test_a_server_that_is_not_there_is_said_not_to_answer(s3_keys: None):
    error = refusal(S3Address("vault", "", "http://127.0.0.1:1"))

    assert "no connection" in error.what
    assert "endpoint" in error.next_step


def test_a_server_that_never_answered_is_not_waited_for_long(s3_keys: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("engine.repository.s3_storage.FIRST_CONTACT_S", 0.2)
    patience = Patience(first_pause_s=0.1, longest_pause_s=0.1, give_up_after_s=60, most_tries=600)

    with pytest.raises(StorageFailed, match="times tried") as caught:
        S3Storage(S3Address("vault", "", "http://127.0.0.1:1"), patience=patience).size("records/a/one")

    (tries,) = re.findall(r"(\d+) times tried", caught.value.what)
    assert int(tries) < 20


def test_credentials_of_a_profile_are_not_mixed_with_the_environment_s(
    moto: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-another-login")
    folder = tmp_path / "home/.aws"
    folder.mkdir(parents=True)
    (folder / "credentials").write_text("[minio]\naws_access_key_id = one\naws_secret_access_key = two\n")
    with misbehaving(moto) as proxy:
        S3Storage(S3Address(bucket, "", proxy.endpoint, profile="minio")).create("records/a/one", b"x")
        S3Storage(S3Address(bucket, "", proxy.endpoint)).create("records/a/two", b"x")

    assert ["Credential=one/" in headers["authorization"] for headers in proxy.headers] == [True, False]
    assert [headers.get("x-amz-security-token") for headers in proxy.headers] == [None, "of-another-login"]


def test_without_credentials_it_says_where_they_are_looked_for(s3_keys: None, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")

    with pytest.raises(StorageFailed, match="no credentials") as caught:
        S3Storage(S3Address("vault", "", "http://127.0.0.1:1"))
    assert "AWS_ACCESS_KEY_ID" in caught.value.next_step


def test_a_profile_of_the_aws_files_is_used(
    moto: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    folder = tmp_path / "home/.aws"
    folder.mkdir(parents=True)
    (folder / "credentials").write_text("[minio]\naws_access_key_id = one\naws_secret_access_key = t%wo\n")
    (folder / "config").write_text(f"[profile minio]\nendpoint_url = {moto.endpoint}\nregion = eu-west-1\n")
    storage = S3Storage(S3Address(bucket, "", profile="minio"))

    storage.create("records/a/one", b"content")

    assert storage.read("records/a/one") == b"content"
    assert moto.endpoint in storage.location


def test_a_broken_aws_file_is_named_and_never_quoted(s3_keys: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "credentials"
    file.write_text("aws_secret_access_key = sesame\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))

    with pytest.raises(StorageFailed, match=str(file)) as caught:
        S3Storage(S3Address("vault", "", "http://127.0.0.1:1"))
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "s3://vault",
        "s3://vault/deep/down",
        "s3://vault/with%20space",
        "s3://vault/a?endpoint=https://minio:9000&region=eu-1&profile=backup",
    ],
)
def test_an_address_is_read_and_shown_alike(text: str):
    assert str(S3Address.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "s3://",
        "s3://v",
        "s3://vault/../other",
        "s3://vault?endpoint=minio:9000",
        "s3://vault?endpont=https://minio",
        "s3://key:sesame@vault/x",
        "s3://vault?endpoint=https://key:sesame@minio",
    ],
)
def test_an_address_that_makes_no_sense_is_refused_without_its_secret(text: str):
    with pytest.raises(BadAddress) as caught:
        S3Address.parse(text)
    assert "sesame" not in str(caught.value)


def test_an_address_that_became_a_path_is_a_defect(tmp_path: Path):
    with pytest.raises(ValueError, match="text"):
        Repository.open(Path("s3://vault/x"))


def test_pauses_grow_and_vary_and_have_an_end():
    patience = Patience(first_pause_s=1, longest_pause_s=8)

    assert [patience.pause_s(failures, lambda: 1.0) for failures in (1, 2, 3, 4, 5, 50)] == [1, 2, 4, 8, 8, 8]
    assert patience.pause_s(3, lambda: 0.0) == 2


def test_a_range_of_nothing_still_needs_the_object(storage: S3Storage):
    storage.create("records/a/one", b"x")

    assert storage.read("records/a/one", 0, 0) == b""
    with pytest.raises(ObjectMissing):
        storage.read("records/a/two", 0, 0)
