"""Credentials for object storage, from where every other S3 program of the user finds them; never from our settings.

In this order, as the AWS tools do it:

1. the profile that the address names;
2. `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`;
3. the profile that `AWS_PROFILE` names, or `default`.

A profile is a section of `~/.aws/credentials` and `~/.aws/config` (`AWS_SHARED_CREDENTIALS_FILE`, `AWS_CONFIG_FILE`).
Where nothing is found, and the store is AWS itself, the role of the machine or container is tried by the library.
Profiles that log in (`sso_session`, `role_arn`, `credential_process`) are not followed: export their keys instead
(`aws configure export-credentials`).
"""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from engine.repository.errors import StorageFailed
from engine.repository.s3_address import S3Address

USUAL_REGION = "us-east-1"
"""What S3 servers other than AWS expect where nothing else was set up."""


class S3Access(Struct, frozen=True):
    """With what, and to which server, requests are made. Its text shows no secret."""

    endpoint: str | None
    region: str
    access_key_id: str | None = None
    secret_access_key: str | None = None
    session_token: str | None = None

    def __repr__(self) -> str:
        return f"S3Access(endpoint={self.endpoint!r}, region={self.region!r}, ...)"

    __str__ = __repr__


def find_access(address: S3Address, environment: Mapping[str, str]) -> S3Access:
    """Credentials, server and region for an address; raises `StorageFailed` where a named profile has none."""
    name = address.profile or environment.get("AWS_PROFILE") or "default"
    profile = _profile(name, environment)
    endpoint = (
        address.endpoint
        or environment.get("AWS_ENDPOINT_URL_S3")
        or environment.get("AWS_ENDPOINT_URL")
        or profile.get("endpoint_url")
    )
    usual_region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    region = address.region or usual_region or profile.get("region")
    from_environment = address.profile is None and "AWS_ACCESS_KEY_ID" in environment
    keys = {key.lower(): value for key, value in environment.items()} if from_environment else profile
    access = S3Access(
        endpoint=endpoint,
        region=region or USUAL_REGION,
        access_key_id=keys.get("aws_access_key_id"),
        secret_access_key=keys.get("aws_secret_access_key"),
        session_token=keys.get("aws_session_token"),
    )
    if access.access_key_id and access.secret_access_key:
        return access
    if address.profile or endpoint:
        raise _none_found(address, name)
    return S3Access(endpoint=None, region=region or USUAL_REGION)


def _profile(name: str, environment: Mapping[str, str]) -> dict[str, str]:
    home = Path(environment.get("HOME", "~")).expanduser()
    config = Path(environment.get("AWS_CONFIG_FILE") or home / ".aws/config")
    credentials = Path(environment.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws/credentials")
    section = name if name == "default" else f"profile {name}"
    return {**_section(config, section), **_section(credentials, name)}


def _section(file: Path, name: str) -> dict[str, str]:
    # No section is special here: `[default]` is one like any other, and `%` stands for itself.
    parser = configparser.RawConfigParser(default_section="", strict=False)
    try:
        with file.open(encoding="utf-8") as text:
            parser.read_file(text)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        # Not the parser's own sentence: it would quote the line, which may be the secret.
        raise StorageFailed(
            f"The AWS file {file} cannot be read ({type(error).__name__}).",
            next_step=f"Correct it, or give credentials in the environment: ls -l {file}",
        ) from None
    return dict(parser[name]) if parser.has_section(name) else {}


def _none_found(address: S3Address, profile: str) -> StorageFailed:
    where = f"the profile {profile} has none" if address.profile else "neither environment nor AWS files have any"
    return StorageFailed(
        f"There are no credentials for {address}: {where}.",
        next_step="Export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write them into ~/.aws/credentials "
        f"as the profile {profile}.",
    )
