"""The cache that makes every `lab up` but the first fast: kernel and initial RAM disk, ready to boot.

It lies in `$XDG_CACHE_HOME/newhope/guest-parts/HASH`, where HASH names everything the files were made from: package
versions and the guest's own scripts. Written beside and renamed, so two labs that start at once cannot spoil it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from importlib.resources import files
from pathlib import Path

from msgspec import Struct

from engine.lab import guest_parts, initramfs
from engine.lab.guest_parts import Tell

_FORMAT = "1"


class BootFiles(Struct, frozen=True):
    """What every practice guest is booted with."""

    kernel: Path
    initrd: Path


def boot_files(tell: Tell) -> BootFiles:
    """Kernel and initial RAM disk from the cache, made first where they are missing."""
    above = cache_folder()
    versions = guest_parts.package_versions()
    folder = above / _name(versions)
    ready = BootFiles(kernel=folder / "vmlinuz", initrd=folder / "initrd")
    if ready.kernel.exists() and ready.initrd.exists():
        return ready
    above.mkdir(parents=True, exist_ok=True)
    working = Path(tempfile.mkdtemp(dir=above, prefix="making-"))
    try:
        parts = guest_parts.gather(working, initramfs.MODULES, tell)
        tell("Packing the guests' first root file system.")
        done = working / "done"
        done.mkdir(mode=0o755)
        (done / "vmlinuz").write_bytes(parts.kernel)
        (done / "initrd").write_bytes(initramfs.build(parts))
        if not folder.exists():
            done.replace(folder)
    finally:
        shutil.rmtree(working, ignore_errors=True)
    return ready


def cache_folder() -> Path:
    """Where guest parts are kept: the user's cache, or `/var/cache/newhope` for a root without a home."""
    cache = os.environ.get("XDG_CACHE_HOME")
    if cache:
        return Path(cache) / "newhope" / "guest-parts"
    home = Path(os.environ.get("HOME") or "/nonexistent")
    if os.access(home, os.W_OK):
        return home / ".cache" / "newhope" / "guest-parts"
    return Path("/var/cache/newhope/guest-parts")


def _name(versions: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for part in (_FORMAT, *versions, *initramfs.MODULES):
        digest.update(part.encode() + b"\0")
    for script in sorted((files("engine.lab") / "guest").iterdir(), key=lambda entry: entry.name):
        if script.is_file():
            digest.update(script.name.encode() + b"\0" + script.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
