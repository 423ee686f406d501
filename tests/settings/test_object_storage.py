"""A repository in object storage, as `newhope.toml` says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.repository.s3_address import S3Address
from engine.settings import ObjectStorage, Problem, Repository, Settings, SettingsError, read_text, to_text

FILE = Path("/etc/newhope/newhope.toml")
WHOLE = """\
[repositories.far]
path = "s3://vault/new hope"
endpoint = "https://minio.example.org:9000"
region = "eu-1"
profile = "backup"
places = { site = "south" }
"""


def read(text: str) -> Settings:
    return read_text(text, FILE)


def problems_of(text: str) -> tuple[Problem, ...]:
    with pytest.raises(SettingsError) as caught:
        read(text)
    assert "sesame" not in str(caught.value)
    return caught.value.problems


def test_a_bucket_is_a_place_for_a_repository():
    (far,) = read(WHOLE).repositories

    assert far.folder is None
    assert far.object_storage == ObjectStorage(
        "s3://vault/new hope", "https://minio.example.org:9000", "eu-1", "backup"
    )
    assert far.places == {"site": "south"}


def test_its_location_is_the_address_that_the_repository_understands():
    (far,) = read(WHOLE).repositories

    address = S3Address.parse(far.location)

    assert address == S3Address("vault", "new hope", "https://minio.example.org:9000", "eu-1", "backup")
    assert str(address) == far.location


def test_a_folder_s_location_is_its_path():
    near = Repository("near", Path("/srv/newhope"))

    assert near.location == "/srv/newhope"
    assert near.folder == Path("/srv/newhope")


def test_what_is_written_is_read_back():
    settings = read(WHOLE)

    assert read(to_text(settings)) == settings


def test_aws_needs_no_endpoint():
    (far,) = read('[repositories.far]\npath = "s3://vault"\n').repositories

    assert far.location == "s3://vault"


@pytest.mark.parametrize(
    ("lines", "key", "said"),
    [
        ('path = "s3://"', "path", "bucket"),
        ('path = "s3://v"', "path", "bucket"),
        ('path = "s3://vault/../other"', "path", "bucket"),
        ('path = "s3://vault/x?y"', "path", "bucket"),
        ('path = "s3://key:sesame@vault/x"', "path", "Credentials"),
        ('path = "s3://vault"\nendpoint = "minio:9000"', "endpoint", "server"),
        ('path = "s3://vault"\nendpoint = "https://key:sesame@minio"', "endpoint", "server"),
        ('path = "/srv/newhope"\nregion = "eu-1"', "region", "folder"),
        ('path = "s3://vault"\nsecret_access_key = "sesame"', "secret_access_key", "no setting"),
    ],
)
def test_a_mistake_is_named_with_its_key(lines: str, key: str, said: str):
    (problem,) = problems_of(f"[repositories.far]\n{lines}\n")

    assert problem.key == f"repositories.far.{key}"
    assert said in problem.what


def test_two_names_for_one_prefix_are_one_copy():
    (problem,) = problems_of(
        '[repositories.one]\npath = "s3://vault/x"\n[repositories.two]\npath = "s3://vault/x/"\nprofile = "other"\n'
    )

    assert "same part of a bucket" in problem.what
