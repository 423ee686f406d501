"""A repository's `path` that is no folder but `s3://BUCKET/PREFIX`, and the keys that go with it.

What can be said of an address without asking anybody is checked here; whether the bucket is there is the repository's
business. Credentials have no key on purpose: they come from the environment or from the user's AWS files.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from engine.settings.model import ObjectStorage
from engine.settings.table import Table

SCHEME = "s3://"
KEYS = ("endpoint", "region", "profile")
_BUCKET_AND_PREFIX = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9](/[A-Za-z0-9!_.*'() -]+)*/?")
_HOW = 'Write path = "s3://BUCKET/PREFIX".'


def read_place(table: Table, folder: Path) -> tuple[Path | None, ObjectStorage | None]:
    """Read `path` and what goes with it: a folder, or object storage, or neither if it cannot be used."""
    values = {key: table.text(key) for key in KEYS}
    path = table.text("path")
    if path is None:
        return None, None
    if not path.startswith(SCHEME):
        for key in (key for key, value in values.items() if value is not None):
            table.complain(key, "It is for object storage, and the path is a folder.", f"Remove it. Or: {_HOW}")
        return table.folder("path", near=folder), None
    address = path.removeprefix(SCHEME)
    if "@" in address.partition("/")[0]:
        table.complain("path", "Credentials do not belong into this file.", f"{_HOW} Export AWS_ACCESS_KEY_ID instead.")
        return None, None
    if not _BUCKET_AND_PREFIX.fullmatch(address) or {".", ".."} & set(address.split("/")):
        table.complain("path", f'"{path}" is not a bucket with a prefix.', _HOW)
        return None, None
    endpoint = values["endpoint"]
    if endpoint is not None and not _is_server(endpoint):
        fix = 'Write endpoint = "https://SERVER:PORT", without credentials in it.'
        table.complain("endpoint", "It is not the address of a server.", fix)
        return None, None
    storage = ObjectStorage(path.rstrip("/"), endpoint, values["region"], values["profile"])
    return Path(storage.url), storage


def _is_server(endpoint: str) -> bool:
    parts = urlsplit(endpoint)
    plain = not (parts.query or parts.fragment) and "@" not in parts.netloc
    return parts.scheme in ("http", "https") and bool(parts.hostname) and plain
