"""Restores a disk from a repository, written from FORMAT.md alone: it imports nothing of newhope.

    python independent_reader.py REPOSITORY                          lists recovery points and their disks
    python independent_reader.py REPOSITORY POINT-KEY DISK OUTPUT    restores a disk to a raw file

It needs no index file: packs have tables, and where these are damaged, it scans. A passphrase is read from the input.
"""

import json
import struct
import sys
import zlib
from pathlib import Path

import blake3
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ZERO = bytes(32)


def hash_of(content: bytes) -> bytes:
    return blake3.blake3(content).digest()


def unseal(key: bytes, sealed: bytes, header: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(sealed[:12], sealed[12:], header)
    except InvalidTag:
        return b""


def need(condition: bool, what: str) -> None:
    if not condition:
        raise SystemExit(f"damaged: {what}")


def plain_json(values: dict) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def identity(root: Path) -> dict:
    values = json.loads((root / "newhope-repository").read_text())
    checksum = values.pop("checksum")
    need(hash_of(plain_json(values)).hex() == checksum, "identity")
    need(values["magic"] == "newhope repository" and values["format_version"] == 1, "unknown format")
    need(values["hash"] == "blake3" and values["encryption"] in ("none", "aes-256-gcm"), "unknown hash or encryption")
    return values


class Keys:
    """What a passphrase opens."""

    def __init__(self, root: Path, values: dict) -> None:
        self.master, self.salt = b"", values["id"].encode()
        passphrase = sys.stdin.readline().rstrip("\n").encode()
        for path in sorted((root / "keys").iterdir()):
            slot = json.loads(unframe(root, f"keys/{path.name}", 4, None))
            nonce, sealed, salt = (bytes.fromhex(slot[name]) for name in ("nonce", "sealed", "salt"))
            costs = {"iterations": slot["passes"], "lanes": slot["lanes"], "memory_cost": slot["memory_kib"]}
            key = Argon2id(salt=salt, length=32, **costs).derive(passphrase)
            if slot.pop("sealed") and slot["repository"] == values["id"]:
                self.master = self.master or unseal(key, nonce + sealed, plain_json(slot))
        proof = values.pop("proof")
        need(self.of("identity", plain_json(values)).hex() == proof, "the identity; or no key fits this passphrase")

    def of(self, purpose: str, content: bytes) -> bytes:
        key = HKDF(SHA256(), 32, self.salt, f"newhope repository: {purpose}".encode()).derive(self.master)
        return blake3.blake3(content, key=key).digest()


def unframe(root: Path, key: str, kind: int, keys: Keys | None) -> bytes:
    data = (root / key).read_bytes()
    need(hash_of(key.encode() + b"\0" + data[:-32]) == data[-32:], key)
    magic, version, found, codec, flags, raw_length, stored_length = struct.unpack_from("<8sHBBIII", data)
    need((magic, version, found, flags) == (b"NHFRAME\n", 1, kind, int(keys is not None)), key)
    payload = data[24 : 24 + stored_length]
    if keys:
        payload = unseal(keys.of("frames", key.encode()), payload, key.encode() + b"\0" + data[:24])
    if codec == 1:
        payload = zstandard.ZstdDecompressor().decompress(payload)
    need(len(payload) == raw_length and len(data) == 24 + stored_length + 32, key)
    return payload


def points(root: Path, keys: Keys | None) -> dict[str, dict]:
    found = {}
    for path in sorted((root / "points").glob("*/*")):
        key = str(path.relative_to(root))
        payload = unframe(root, key, 1, keys)
        point_id = (keys.of("point ids", payload) if keys else hash_of(payload)).hex()[:16]
        found[key] = manifest = json.loads(payload)
        vm, name = key.split("/")[1:]
        need(name.endswith("-" + point_id) and manifest["vm"]["uuid"] == vm, key)
    return found


class Blocks:
    """Where every block lies, from the packs alone."""

    def __init__(self, root: Path, keys: Keys | None) -> None:
        self.keys, self.name_of = keys, (lambda content: keys.of("block names", content)) if keys else hash_of
        self.where: dict[bytes, list[tuple[Path, int]]] = {}
        for pack in sorted((root / "packs").glob("??/*")):
            data = pack.read_bytes()
            for name, offset in self.table(data) or self.scan(data):
                self.where.setdefault(name, []).append((pack, offset))

    @staticmethod
    def table(data: bytes) -> list[tuple[bytes, int]]:
        if len(data) < 32 + 56 or data[:8] != b"NHPACK1\n" or data[-8:] != b"NHPKEND\n":
            return []
        trailer = data[-56:]
        count, _flags, offset = struct.unpack_from("<IIQ", trailer)
        table = data[offset : offset + count * 48]
        if hash_of(table + trailer[:16]) != trailer[16:48]:
            return []
        return [struct.unpack_from("<32sI", table, at) for at in range(0, len(table), 48)]

    @staticmethod
    def scan(data: bytes) -> list[tuple[bytes, int]]:
        found = []
        offset = data.find(b"NHB\x01", 32)
        while offset >= 0:
            header = data[offset : offset + 52]
            step = 1
            if len(header) == 52 and zlib.crc32(header[:48]) == struct.unpack_from("<I", header, 48)[0]:
                found.append((header[16:48], offset))
                step = 52 + struct.unpack_from("<I", header, 12)[0]
            offset = data.find(b"NHB\x01", offset + step)
        return found

    def read(self, name: bytes, length: int) -> bytes:
        for pack, offset in self.where.get(name, []):
            with pack.open("rb") as file:
                file.seek(offset)
                header = file.read(52)
                magic, _kind, codec, flags, _raw, stored_length, found = struct.unpack_from("<4sBBHII32s", header)
                stored = file.read(stored_length)
            if (magic, flags, found) != (b"NHB\x01", int(self.keys is not None), name):
                continue
            if self.keys:
                stored = unseal(self.keys.of("blocks", name), stored, header[:48])
            try:
                content = zstandard.ZstdDecompressor().decompress(stored) if codec == 1 else stored
            except zstandard.ZstdError:
                continue
            if len(content) == length and self.name_of(content) == name:
                return content
        raise SystemExit(f"damaged: no sound copy of block {name.hex()}")


def restore(root: Path, record: dict, output: Path, keys: Keys | None) -> None:
    block_bytes, blocks = identity(root)["block_bytes"], Blocks(root, keys)
    size = record["size_bytes"]
    count = -(-size // block_bytes)

    def walk(name: bytes, level: int, first: int) -> None:
        span = 256**level
        names = min(256, -(-(count - first) // span))
        node = blocks.read(name, names * 32)
        for slot in range(names):
            child = node[slot * 32 : slot * 32 + 32]
            if child == ZERO:
                continue
            if level:
                walk(child, level - 1, first + slot * span)
            else:
                start = (first + slot) * block_bytes
                file.seek(start)
                file.write(blocks.read(child, min(block_bytes, size - start)))

    with output.open("wb") as file:
        file.truncate(size)
        if record["map_root"]:
            walk(bytes.fromhex(record["map_root"]), record["map_height"], 0)


def main(arguments: list[str]) -> None:
    root = Path(arguments[0])
    values = identity(root)
    keys = Keys(root, values) if values["encryption"] != "none" else None
    manifests = points(root, keys)
    if len(arguments) == 1:
        for key, manifest in manifests.items():
            disks = ", ".join(f"{disk['target']} ({disk['size_bytes']} bytes)" for disk in manifest["disks"])
            print(f"{key}  {manifest['vm']['name']}: {disks}")
        return
    key, target, output = arguments[1:]
    record = next(disk for disk in manifests[key]["disks"] if disk["target"] == target)
    restore(root, record, Path(output), keys)


if __name__ == "__main__":
    main(sys.argv[1:])
