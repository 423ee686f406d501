"""The TPM of a practice guest, asked by the guest itself: commands of TPM 2.0, sent through its kernel's /dev/tpmrm0.

What they look like, byte by byte: Trusted Platform Module Library (Trusted Computing Group), part 3, "Commands"; the
constants are in part 2. The kernel's resource manager forgets what a command has loaded when the device is closed.
"""

from __future__ import annotations

import struct

from engine.hosts import HostLane
from engine.hosts.model import Vm
from tests.hosts.live import in_guest

DEVICE = (
    "<tpm model='tpm-crb'><backend type='emulator' version='2.0'>"
    "<active_pcr_banks><sha1/></active_pcr_banks></backend></tpm>"
)
"""What a definition has for a VM with a TPM. Firmware hashes all that it loads, once for each bank: emulated, the usual
four cost a boot eight seconds, and this one nothing that can be measured.
"""

_OWNER = 0x40000001
_INDEX = 0x01800047
"""One of those that belong to the owner of the machine."""
_SESSIONS = 0x8002
_DEFINE_SPACE, _CREATE_PRIMARY, _WRITE, _READ = 0x12A, 0x131, 0x137, 0x14E
_NO_PASSWORD = struct.pack(">IIHBH", 9, 0x40000009, 0, 0, 0)
_SHA256 = 0x000B
_WHO_KNOWS_ITS_PASSWORD = 0x02040004
"""May write and read: TPMA_NV_AUTHWRITE, _AUTHREAD, and _NO_DA."""
_STORAGE_KEY = struct.pack(
    # An ECC key over P-256 that other keys, and disk encryption, are sealed under (TPMT_PUBLIC).
    *(">HHIHHHHHHHHH", 0x0023, _SHA256, 0x00030472, 0, 0x0006, 128, 0x0043, 0x0010, 0x0003, 0x0010, 0, 0)
)


def keep(lane: HostLane, vm: Vm, secret: bytes) -> None:
    """Let the guest put something into the memory of its TPM that outlives its power."""
    public = struct.pack(">IHIHH", _INDEX, _SHA256, _WHO_KNOWS_ITS_PASSWORD, 0, len(secret))
    _ask(lane, vm, _DEFINE_SPACE, (_OWNER,), struct.pack(">HH", 0, len(public)) + public)
    _ask(lane, vm, _WRITE, (_INDEX, _INDEX), struct.pack(">H", len(secret)) + secret + struct.pack(">H", 0))


def kept(lane: HostLane, vm: Vm, size_bytes: int) -> bytes:
    """What the guest finds there."""
    return _sized(_ask(lane, vm, _READ, (_INDEX, _INDEX), struct.pack(">HH", size_bytes, 0))[4:])


def storage_key(lane: HostLane, vm: Vm) -> bytes:
    """The key under which a guest seals those of its disks: made anew each time, and the same only of the same seed."""
    parameters = struct.pack(">HHHH", 4, 0, 0, len(_STORAGE_KEY)) + _STORAGE_KEY + struct.pack(">HI", 0, 0)
    return _sized(_ask(lane, vm, _CREATE_PRIMARY, (_OWNER,), parameters)[8:])


def _ask(lane: HostLane, vm: Vm, command: int, handles: tuple[int, ...], parameters: bytes) -> bytes:
    """What the TPM answers to a command, behind its header."""
    body = struct.pack(f">{len(handles)}I", *handles) + _NO_PASSWORD + parameters
    asked = struct.pack(">HII", _SESSIONS, 10 + len(body), command) + body
    octal = "".join(f"\\{byte:03o}" for byte in asked)
    # The device takes a command in one write.
    exchange = "exec 3<>/dev/tpmrm0; dd if=/run/asked bs=4096 >&3 2>/dev/null; dd bs=4096 count=1 <&3 2>/dev/null"
    told = in_guest(lane, vm, f"printf '{octal}' > /run/asked; {{ {exchange}; }} | hexdump -ve '1/1 \"%02x\"'")
    answer = bytes.fromhex(told)
    _, size_bytes, code = struct.unpack_from(">HII", answer)
    assert (size_bytes, code) == (len(answer), 0), f"TPM command {command:#x}: {code:#x}"
    return answer[10:]


def _sized(field: bytes) -> bytes:
    (size_bytes,) = struct.unpack_from(">H", field)
    return field[2 : 2 + size_bytes]
