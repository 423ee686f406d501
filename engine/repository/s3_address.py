"""The address of a repository in object storage: `s3://BUCKET/PREFIX?endpoint=URL&region=NAME&profile=NAME`.

One text says all that is needed to find the place again, so that it can be copied from a screen into a command. It
never holds a secret: keys come from the environment or from the AWS files of the user (`s3_credentials`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit

from msgspec import Struct

from engine.repository.errors import RepositoryError

SCHEME = "s3://"
BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
"""Wider than AWS's rule of today: old buckets and Ceph RGW allow capital letters and underscores."""
PREFIX_PART = re.compile(r"[A-Za-z0-9!_.*'() -]+")
CHOICES = ("endpoint", "region", "profile")


class BadAddress(RepositoryError):
    """The address of a repository in object storage cannot be understood."""


class S3Address(Struct, frozen=True):
    """Where a repository lies in object storage."""

    bucket: str
    prefix: str = ""
    """Folder-like beginning of all its keys, without slashes at its ends; empty for the whole bucket."""
    endpoint: str | None = None
    """URL of the server; None means AWS, unless the environment or the profile names another."""
    region: str | None = None
    profile: str | None = None
    """Section of the user's AWS files that holds the credentials."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address; raises `BadAddress`."""
        parts = urlsplit(text)
        if parts.scheme != "s3" or parts.fragment:
            raise _bad(text, "It must look like s3://BUCKET/PREFIX.")
        if "@" in parts.netloc:
            raise _bad(f"s3://...@{parts.netloc.rpartition('@')[2]}", "Credentials do not belong into an address.")
        if not BUCKET.fullmatch(parts.netloc):
            raise _bad(text, f'"{parts.netloc}" cannot be the name of a bucket.')
        prefix = unquote(parts.path).strip("/")
        if any(not PREFIX_PART.fullmatch(part) or part in (".", "..") for part in prefix.split("/") if prefix):
            raise _bad(text, f'"{prefix}" cannot be a prefix: use letters, digits, dots, dashes and underscores.')
        choices = parse_qs(parts.query, keep_blank_values=True)
        unknown = [name for name in choices if name not in CHOICES]
        if unknown:
            raise _bad(text, f'"{unknown[0]}" is not known there; known are {", ".join(CHOICES)}.')
        values = {name: found[-1] for name, found in choices.items() if found[-1]}
        endpoint = values.get("endpoint")
        return cls(
            bucket=parts.netloc,
            prefix=prefix,
            endpoint=None if endpoint is None else _checked_endpoint(text, endpoint),
            region=values.get("region"),
            profile=values.get("profile"),
        )

    def __str__(self) -> str:
        values = {"endpoint": self.endpoint, "region": self.region, "profile": self.profile}
        query = urlencode({name: value for name, value in values.items() if value}, safe=":/")
        path = f"/{quote(self.prefix)}" if self.prefix else ""
        return f"{SCHEME}{self.bucket}{path}" + (f"?{query}" if query else "")


def is_s3(location: Path | str) -> bool:
    """Whether a repository's location is an address in object storage; anything else is a folder."""
    if isinstance(location, Path) and location.parts[:1] == ("s3:",):
        raise ValueError(f"the address {location} has lost a slash by becoming a Path; hand it over as text")
    return str(location).startswith(SCHEME)


def _checked_endpoint(address: str, endpoint: str) -> str:
    parts = urlsplit(endpoint)
    if "@" in parts.netloc:
        raise _bad(f"{SCHEME}...", "Credentials do not belong into the endpoint.")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise _bad(address, f'"{endpoint}" cannot be an endpoint: it must look like https://SERVER:PORT.')
    return endpoint.rstrip("/")


def _bad(address: str, why: str) -> BadAddress:
    return BadAddress(
        f"{address} is not the address of a repository. {why}",
        next_step="Write it like s3://BUCKET/PREFIX?endpoint=https://SERVER:PORT (no endpoint for AWS).",
    )
