"""Recovery points as objects: how a manifest is stored, named, read and checked."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from blake3 import blake3

from engine.repository.errors import Unsound
from engine.repository.frame import FrameKind, decode_frame, encode_frame
from engine.repository.keys import Keys
from engine.repository.model import Manifest, Point
from engine.repository.storage import Storage

MANIFEST_VERSION = 1
GUEST_VERSION = 2
"""Of a point of kind guest: who knows only version 1 would take it for a VM."""
PREFIX = "points/"
ID_DIGITS = 16


def write_manifest(storage: Storage, manifest: Manifest, repository: str, keys: Keys | None = None) -> Point:
    """Commit a recovery point: from when this returns it exists."""
    payload = msgspec.json.encode(manifest)
    point = Point(repository, _id_of(payload, keys), manifest)
    key = point_key(point)
    storage.create(key, encode_frame(key, FrameKind.POINT, payload, keys))
    return point


def read_manifest(storage: Storage, key: str, repository: str, keys: Keys | None = None) -> Point:
    """Read and check a recovery point; raises `Unsound`."""
    payload = decode_frame(key, FrameKind.POINT, storage.read(key), keys)
    try:
        manifest = msgspec.json.decode(payload, type=Manifest)
    except msgspec.DecodeError as error:
        raise Unsound(f"it does not say what a recovery point must: {error}") from error
    if manifest.version > GUEST_VERSION:
        raise Unsound(f"it has version {manifest.version}: made by a newer newhope")
    point = Point(repository, _id_of(payload, keys), manifest)
    if point_key(point) != key:
        raise Unsound(f"it belongs to {point_key(point)}")
    return point


def point_key(point: Point) -> str:
    """Where a recovery point is stored: by VM, then in the order of time."""
    time = point.manifest.moment.astimezone(UTC)
    return f"{PREFIX}{point.manifest.vm.uuid}/{time:%Y%m%dT%H%M%SZ}-{point.id}"


def key_of(manifest: Manifest, keys: Keys | None = None) -> str:
    """Where a manifest will be stored."""
    return point_key(Point("", _id_of(msgspec.json.encode(manifest), keys), manifest))


def moment_now() -> datetime:
    """This moment, UTC."""
    return datetime.now(UTC)


def _id_of(payload: bytes, keys: Keys | None) -> str:
    name = blake3(payload).digest() if keys is None else keys.point_name(payload)
    return name.hex()[:ID_DIGITS]
