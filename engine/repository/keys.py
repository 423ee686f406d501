"""What an encrypted repository's master key is used for: naming blocks and points, and sealing what is stored.

1. One key for each purpose is derived from the master key (HKDF-SHA256, salted with the repository's id): two
   repositories have nothing in common even where somebody used one master key for both.
2. A block is named by keyed BLAKE3: without the key nobody can ask whether a known file lies in the repository.
3. A block and a framed object are compressed, then sealed with AES-256-GCM, each under a key of its own that is derived
   from its name: a key seals one content, so random nonces cannot run out however large the repository becomes.
4. What a sealed thing is stands in its header, in the clear, and is sealed with it; of a framed object its place too.
   Whoever can write to the storage can lose things, but not change, exchange or invent them unnoticed.
"""

from __future__ import annotations

import secrets

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from engine.repository.errors import Unsound
from engine.repository.master_key import MasterKey
from engine.repository.storage import Bytes

ENCRYPTION = "aes-256-gcm"
"""How an identity names all of this."""
KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
SEAL_BYTES = NONCE_BYTES + TAG_BYTES
"""By so much sealing makes a content longer."""


class Keys:
    """The keys of one repository. Safe for any number of threads."""

    def __init__(self, master: MasterKey, repository_id: str) -> None:
        self.master = master

        def derived(purpose: str) -> bytes:
            salt, info = repository_id.encode(), f"newhope repository: {purpose}".encode()
            return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(master.value)

        self._block_names = derived("block names")
        self._point_ids = derived("point ids")
        self._blocks = derived("blocks")
        self._frames = derived("frames")
        self._identity = derived("identity")

    def block_name(self, content: Bytes) -> bytes:
        """The 32 bytes that a block's content is known by in this repository."""
        return blake3(content, key=self._block_names).digest()

    def point_name(self, payload: bytes) -> bytes:
        """The 32 bytes that a manifest's payload is known by."""
        return blake3(payload, key=self._point_ids).digest()

    def proof(self, statement: bytes) -> str:
        """Shows that who wrote an identity had the master key."""
        return blake3(statement, key=self._identity).hexdigest()

    def seal_block(self, name: bytes, header: bytes, stored: Bytes) -> tuple[bytes, bytes]:
        """Nonce and sealed bytes of a block."""
        return _seal(self._key_of(self._blocks, name), header, stored)

    def open_block(self, name: bytes, header: Bytes, stored: memoryview) -> bytes:
        """What was sealed as this block; raises `Unsound`."""
        return _open(self._key_of(self._blocks, name), header, stored)

    def seal_frame(self, place: str, header: bytes, stored: bytes) -> bytes:
        """Nonce and sealed bytes of a framed object."""
        return b"".join(_seal(self._key_of(self._frames, place.encode()), _bound(place, header), stored))

    def open_frame(self, place: str, header: bytes, stored: bytes) -> bytes:
        """What was sealed as the object of that place; raises `Unsound`."""
        return _open(self._key_of(self._frames, place.encode()), _bound(place, header), memoryview(stored))

    def _key_of(self, purpose: bytes, name: bytes) -> bytes:
        return blake3(name, key=purpose).digest()


def _bound(place: str, header: bytes) -> bytes:
    return place.encode() + b"\0" + header


def _seal(key: bytes, header: bytes, content: Bytes) -> tuple[bytes, bytes]:
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce, AESGCM(key).encrypt(nonce, content, header)


def _open(key: bytes, header: Bytes, sealed: memoryview) -> bytes:
    if len(sealed) < SEAL_BYTES:
        raise Unsound("it is too short to be sealed")
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], header)
    except InvalidTag as error:
        raise Unsound("its seal does not hold: it was changed, or was not sealed with this repository's key") from error
