"""What practice guests are made of: a kernel with its modules, busybox, and the guest agent with its libraries.

1. With apt: download (never install) the distribution's cloud kernel, `qemu-guest-agent` and `busybox-static` and
   unpack them beside the cache.
2. Without: take what this machine has, its own kernel included.
3. The agent's libraries are found by reading what it needs (ELF), first in the unpacked packages, then on this machine;
   with apt the packages that bring missing ones are downloaded as well.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path

from msgspec import Struct

from engine.errors import MissingPackage, NewhopeError
from engine.lab import elf, kernel_modules

Tell = Callable[[str], None]

_LIBRARY_FOLDERS = ("lib", "lib64", "usr/lib", "usr/lib64")
_PACKAGES_ADVICE = (
    "Install a kernel, busybox and the guest agent: `apt-get install linux-image-cloud-amd64 busybox-static "
    "qemu-guest-agent` on Debian and Ubuntu, `dnf install kernel-core busybox qemu-guest-agent` on Fedora."
)


class Library(Struct, frozen=True):
    """A shared library of the agent, with the path at which its loader looks for it."""

    path: str
    content: bytes


class GuestParts(Struct, frozen=True):
    """Everything a guest's kernel and first root file system are built from."""

    kernel: bytes
    modules: tuple[kernel_modules.Module, ...]
    busybox: bytes
    busybox_commands: tuple[str, ...]
    agent: bytes
    libraries: tuple[Library, ...]


class GuestPartsFailed(NewhopeError):
    """The parts that guests are made of could not be had."""


class _Source(Struct, frozen=True):
    """Where the parts lie, before they are read."""

    kernel: Path
    modules: Path
    busybox: Path
    agent: Path
    roots: tuple[Path, ...]
    """Folders that look like a root file system; libraries are searched in this order."""


def gather(folder: Path, packages: Path, wanted_modules: tuple[str, ...], tell: Tell) -> GuestParts:
    """Bring together the parts; with apt, download into `packages` what is not there yet, and unpack in `folder`."""
    if shutil.which("apt-get") and shutil.which("dpkg-deb"):
        source = _from_packages(folder, packages, tell)
    else:
        source = _from_this_machine()
    agent = source.agent.read_bytes()
    try:
        libraries = _libraries(agent, source.roots)
    except MissingPackage:
        if not shutil.which("apt-get"):
            raise
        tell("The agent needs libraries that this machine lacks; downloading their packages.")
        _download(_dependencies("qemu-guest-agent"), packages)
        _unpack(packages, folder)
        libraries = _libraries(agent, source.roots)
    busybox = source.busybox.read_bytes()
    return GuestParts(
        kernel=source.kernel.read_bytes(),
        modules=kernel_modules.in_loading_order(source.modules, wanted_modules),
        busybox=busybox,
        busybox_commands=_commands(source.busybox),
        agent=agent,
        libraries=libraries,
    )


def package_versions() -> tuple[str, ...]:
    """`NAME=VERSION` of the packages that would be used now: what a cache of guest parts is named after."""
    if not shutil.which("apt-get"):
        return (f"kernel={platform.release()}",)
    names = _package_names()
    text = _output(["apt-cache", "policy", *names])
    versions: list[str] = []
    name = ""
    for line in text.splitlines():
        if line and not line.startswith(" "):
            name = line.rstrip(":")
        elif line.strip().startswith("Candidate:"):
            versions.append(f"{name}={line.split(':', 1)[1].strip()}")
    return tuple(versions)


def _from_packages(folder: Path, packages: Path, tell: Tell) -> _Source:
    names = _package_names()
    # Without the mark, a download that was cut short would pass for a whole one.
    complete = packages / "complete"
    if not complete.exists():
        tell(f"Downloading {', '.join(names)} for the guests (not installed here).")
        _download(names, packages)
        complete.touch()
    tell("Unpacking a kernel, busybox and the guest agent.")
    _unpack(packages, folder)
    root = folder / "root"
    kernels = sorted((root / "boot").glob("vmlinuz-*"))
    if not kernels:
        raise GuestPartsFailed(
            f"The package {names[0]} brought no kernel.", next_step="Run `apt-get update` and try again."
        )
    version = kernels[-1].name.removeprefix("vmlinuz-")
    return _Source(
        kernel=kernels[-1],
        modules=_first([root / "lib/modules" / version, root / "usr/lib/modules" / version]),
        busybox=_first([root / "bin/busybox", root / "usr/bin/busybox"]),
        agent=_first([root / "usr/sbin/qemu-ga", root / "usr/bin/qemu-ga"]),
        roots=(root, Path("/")),
    )


def _from_this_machine() -> _Source:
    version = platform.release()
    return _Source(
        kernel=_first([Path(f"/boot/vmlinuz-{version}"), Path(f"/lib/modules/{version}/vmlinuz")]),
        modules=_first([Path(f"/lib/modules/{version}")]),
        busybox=_first([Path("/bin/busybox"), Path("/usr/bin/busybox"), Path("/usr/sbin/busybox")]),
        agent=_first([Path("/usr/sbin/qemu-ga"), Path("/usr/bin/qemu-ga")]),
        roots=(Path("/"),),
    )


def _first(candidates: Iterable[Path]) -> Path:
    tried = list(candidates)
    for path in tried:
        if path.exists() and os.access(path, os.R_OK):
            return path
    raise MissingPackage(
        f"The practice guests need a file that this machine does not have (or does not let you read): {tried[0]}.",
        next_step=_PACKAGES_ADVICE,
    )


def _package_names() -> tuple[str, ...]:
    architecture = _output(["dpkg", "--print-architecture"]).strip()
    # Debian's small kernel for virtual machines; on Ubuntu the virtual flavour is the nearest.
    for flavour in (f"linux-image-cloud-{architecture}", "linux-image-virtual"):
        text = _output(["apt-cache", "depends", "--important", flavour], may_fail=True)
        kernels = [line.split(":", 1)[1].strip() for line in text.splitlines() if "Depends: linux-image" in line]
        if kernels:
            modules = [line.split(":", 1)[1].strip() for line in text.splitlines() if "Depends: linux-modules" in line]
            modules = modules or _modules_package(kernels[0])
            return (kernels[0], *modules, "qemu-guest-agent", "busybox-static")
    raise MissingPackage(
        "apt knows no kernel for virtual machines (linux-image-cloud-* or linux-image-virtual).",
        next_step="Run `apt-get update` and try again.",
    )


def _modules_package(kernel: str) -> list[str]:
    text = _output(["apt-cache", "depends", "--important", kernel], may_fail=True)
    return [line.split(":", 1)[1].strip() for line in text.splitlines() if "Depends: linux-modules" in line]


def _dependencies(package: str) -> tuple[str, ...]:
    text = _output(
        ["apt-cache", "depends", "--recurse", "--important", "--no-conflicts", "--no-breaks", "--no-replaces", package]
    )
    return tuple(line for line in text.splitlines() if line and line[0].isalnum() and line.startswith("lib"))


def _download(packages: tuple[str, ...], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        # apt would otherwise warn, as root, that its own user cannot write to a private cache folder.
        ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *packages],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise GuestPartsFailed(
            f"apt could not download {', '.join(packages)}: {_last_line(done.stderr)}",
            next_step="Run `apt-get update` (as root), check the network, and try again.",
        )


def _unpack(packages: Path, folder: Path) -> None:
    root = folder / "root"
    root.mkdir(exist_ok=True)
    for package in sorted(packages.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", package, root], check=True, capture_output=True)


def _libraries(agent: bytes, roots: tuple[Path, ...]) -> tuple[Library, ...]:
    found: dict[str, Library] = {}
    loader = elf.interpreter(agent)
    open_names = list(elf.needed_libraries(agent))
    while open_names:
        name = open_names.pop()
        if name in found or (loader is not None and name == Path(loader).name):
            continue
        content = _find_library(name, roots).read_bytes()
        # Every loader looks in /lib and /usr/lib; the one exception is the loader itself, whose path is in the program.
        found[name] = Library(f"usr/lib/{name}", content)
        open_names += elf.needed_libraries(content)
    libraries = list(found.values())
    if loader is not None:
        libraries.append(Library(loader, _find_library(Path(loader).name, roots).read_bytes()))
    return tuple(sorted(libraries, key=lambda library: library.path))


def _find_library(name: str, roots: tuple[Path, ...]) -> Path:
    triplet = f"{platform.machine()}-linux-gnu"
    for root in roots:
        for folder in _LIBRARY_FOLDERS:
            for candidate in (root / folder / triplet / name, root / folder / name):
                if candidate.exists():
                    return candidate
    raise MissingPackage(f"The guest agent needs {name}, which was not found.", next_step=_PACKAGES_ADVICE)


def _commands(busybox: Path) -> tuple[str, ...]:
    names = tuple(name for name in _output([str(busybox), "--list"]).split() if name != "busybox")
    missing = {"sh", "insmod", "findfs", "acpid", "poweroff", "sha256sum", "dd"} - set(names)
    if missing:
        raise MissingPackage(
            f"This busybox lacks commands that the guests need: {', '.join(sorted(missing))}.",
            next_step=_PACKAGES_ADVICE,
        )
    return names


def _output(command: list[str], *, may_fail: bool = False) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    if done.returncode and not may_fail:
        raise GuestPartsFailed(
            f"`{' '.join(command)}` failed: {_last_line(done.stderr)}",
            next_step="Run it by hand to see why; `apt-get update` often mends it.",
        )
    return done.stdout


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
