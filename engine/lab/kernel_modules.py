"""Which kernel modules a guest must load, and in which order.

A kernel package brings no `modules.dep` (its installation makes it), so the order comes from the modules themselves:
each names those it depends on in its `.modinfo` section. What the kernel has built in is left out.
"""

from __future__ import annotations

import gzip
import lzma
import shutil
import subprocess
from pathlib import Path

from msgspec import Struct

from engine.errors import MissingPackage
from engine.lab import elf

# The kernel's scripts/sign-file.c and include/linux/module_signature.h: the signature, 12 bytes that end with its
# length, and this text, behind the module.
_SIGNED = b"~Module signature appended~\n"
_SIGNATURE_NOTE_BYTES = 12
_LENGTH_BYTES = 4


class Module(Struct, frozen=True):
    """A kernel module, ready to load."""

    name: str
    content: bytes
    """Decompressed, for a guest's `insmod` need not know the host distribution's compression; and without a signature,
    for the kernels of distributions demand none but under secure boot, and to check one is slow under emulation."""
    needs: tuple[str, ...]


def in_loading_order(folder: Path, wanted: tuple[str, ...]) -> tuple[Module, ...]:
    """The wanted modules and all they need, each after what it depends on.

    `folder` is a `/lib/modules/VERSION`. A wanted module that is nowhere is taken for built in: kernels differ, and a
    guest that misses one says so at boot.
    """
    files = _files_by_name(folder)
    ordered: dict[str, Module] = {}

    def add(name: str) -> None:
        name = _plain(name)
        if name in ordered or name not in files:
            return
        module = read_module(files[name])
        for need in module.needs:
            add(need)
        ordered[name] = module

    for name in wanted:
        add(name)
    return tuple(ordered.values())


def read_module(file: Path) -> Module:
    """Read and decompress one module file."""
    content = _unsigned(_decompress(file))
    needs: list[str] = []
    for field in elf.section(content, ".modinfo").split(b"\0"):
        key, _, value = field.decode(errors="replace").partition("=")
        if key == "depends":
            needs += [_plain(name) for name in value.split(",") if name]
        elif key == "softdep" and value.startswith("pre:"):
            needs += [_plain(name) for name in value.removeprefix("pre:").split()]
    return Module(_name_of(file), content, tuple(needs))


def _unsigned(content: bytes) -> bytes:
    if not content.endswith(_SIGNED):
        return content
    note = content.removesuffix(_SIGNED)
    signature_bytes = int.from_bytes(note[-_LENGTH_BYTES:], "big")
    return note[: -_SIGNATURE_NOTE_BYTES - signature_bytes]


def _decompress(file: Path) -> bytes:
    content = file.read_bytes()
    if file.name.endswith(".xz"):
        return lzma.decompress(content)
    if file.name.endswith(".gz"):
        return gzip.decompress(content)
    if file.name.endswith(".zst"):
        return _decompress_zstandard(file)
    return content


def _decompress_zstandard(file: Path) -> bytes:
    program = shutil.which("zstd")
    if program is None:
        raise MissingPackage(
            f"The kernel module {file} is compressed with zstd, and the zstd program is not installed.",
            next_step="Install it: `apt-get install zstd` on Debian and Ubuntu, `dnf install zstd` on Fedora.",
        )
    return subprocess.run([program, "-dc", file], check=True, stdout=subprocess.PIPE).stdout


def _files_by_name(folder: Path) -> dict[str, Path]:
    return {_name_of(file): file for file in sorted(folder.rglob("*.ko*"))}


def _name_of(file: Path) -> str:
    return _plain(file.name.split(".ko")[0])


def _plain(name: str) -> str:
    # The kernel treats both spellings as one name, packages mix them (`virtio-rng.ko`, depends=rng-core).
    return name.strip().replace("-", "_")
