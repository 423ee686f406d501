"""The cache that makes every `lab up` but the first fast: kernel and initial RAM disk, ready to boot.

It lies in `$XDG_CACHE_HOME/newhope/guest-parts/OWN-PACKAGES`: hashes of everything the files were made from, newhope's
scripts and the packages' versions. Written beside and renamed: what is there is whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from importlib.resources import files
from pathlib import Path

from msgspec import Struct

from engine.lab import guest_parts, initramfs
from engine.lab.guest_parts import Tell

_FORMAT = "2"
_RECENT_S = 7 * 24 * 3600


class BootFiles(Struct, frozen=True):
    """What every practice guest is booted with."""

    kernel: Path
    initrd: Path


def boot_files(tell: Tell) -> BootFiles:
    """Kernel and initial RAM disk from the cache, made first where they are missing."""
    above = cache_folder()
    recent = _made_recently(above)
    if recent is not None:
        return recent
    versions = _name(guest_parts.package_versions())
    folder = above / f"{_own_name()}-{versions}"
    ready = _files_in(folder)
    if ready.kernel.exists() and ready.initrd.exists():
        os.utime(folder)
        return ready
    above.mkdir(parents=True, exist_ok=True)
    with (above / "making.lock").open("w") as lock:
        # Two labs that start at once download once: the second waits here and finds the files.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.kernel.exists():
            # The packages stay: with other scripts of ours, nothing is downloaded again.
            _make(folder, above / f"packages-{versions}", tell)
    return ready


def _make(folder: Path, packages: Path, tell: Tell) -> None:
    working = Path(tempfile.mkdtemp(dir=folder.parent, prefix="making-"))
    try:
        parts = guest_parts.gather(working, packages, initramfs.MODULES, tell)
        tell("Packing the guests' first root file system.")
        done = working / "done"
        done.mkdir(mode=0o755)
        (done / "vmlinuz").write_bytes(parts.kernel)
        (done / "initrd").write_bytes(initramfs.build(parts))
        done.replace(folder)
    finally:
        shutil.rmtree(working, ignore_errors=True)


def cache_folder() -> Path:
    """Where guest parts are kept: the user's cache, or `/var/cache/newhope` for a root without a home."""
    cache = os.environ.get("XDG_CACHE_HOME")
    if cache:
        return Path(cache) / "newhope" / "guest-parts"
    home = Path(os.environ.get("HOME") or "/nonexistent")
    if os.access(home, os.W_OK):
        return home / ".cache" / "newhope" / "guest-parts"
    return Path("/var/cache/newhope/guest-parts")


def _files_in(folder: Path) -> BootFiles:
    return BootFiles(kernel=folder / "vmlinuz", initrd=folder / "initrd")


def _made_recently(above: Path) -> BootFiles | None:
    """The newest files, without asking apt for versions: that takes seconds, and a practice kernel may be old."""
    folders = sorted(above.glob(f"{_own_name()}-*"), key=lambda folder: folder.stat().st_mtime)
    if not folders or time.time() - folders[-1].stat().st_mtime > _RECENT_S:
        return None
    ready = _files_in(folders[-1])
    return ready if ready.kernel.exists() and ready.initrd.exists() else None


def _name(versions: tuple[str, ...]) -> str:
    return hashlib.sha256("\0".join(versions).encode()).hexdigest()[:12]


def _own_name() -> str:
    """A name for what newhope itself puts in: its scripts, its choice of modules, the way they are packed."""
    digest = hashlib.sha256()
    for part in (_FORMAT, *initramfs.MODULES, initramfs.freeze_hook().hex()):
        digest.update(part.encode() + b"\0")
    for script in sorted((files("engine.lab") / "guest").iterdir(), key=lambda entry: entry.name):
        if script.is_file():
            digest.update(script.name.encode() + b"\0" + script.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
