"""Look for every need of `system-packages.tsv` on this machine, and for the parts of newhope that are extras."""

from __future__ import annotations

import glob
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping
from enum import StrEnum
from importlib import resources
from pathlib import Path

from msgspec import Struct

from engine.disk_files import INSTALL_PARSERS, parsers_version

_SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_VERSION = re.compile(r"\d+(?:\.\d+)+[\w.+~-]*")


class Purpose(StrEnum):
    """What a need is needed for."""

    SETUP = "setup"
    RUN = "run"
    FILES = "files"
    LAB = "lab"
    TEST = "test"
    BENCH = "bench"

    @property
    def meaning(self) -> str:
        """The purpose in words."""
        return _MEANINGS[self]


_MEANINGS = {
    Purpose.SETUP: "to build the Python environment",
    Purpose.RUN: "to back up and restore",
    Purpose.FILES: "to look into the disks of recovery points",
    Purpose.LAB: "for the practice hosts",
    Purpose.TEST: "for the tests",
    Purpose.BENCH: "for ./dev bench",
}


class Family(StrEnum):
    """Which package names apply here."""

    DEBIAN = "debian"
    FEDORA = "fedora"
    OTHER = "other"


class Need(Struct, frozen=True):
    """One line of `system-packages.tsv`."""

    needed_for: Purpose
    probe: str
    debian: tuple[str, ...]
    fedora: tuple[str, ...]
    purpose: str


class PackageCheck(Struct, frozen=True):
    """A need, and what this machine has of it."""

    name: str
    """The program, library or file that is looked for."""
    purpose: str
    needed_for: Purpose
    found: bool
    version: str
    """Its version, `there` if it is a file without one, or an empty string when it was not found."""
    mend: str
    """The command that installs it."""


def examine() -> tuple[PackageCheck, ...]:
    """Check every need, in the order of the list; a need that is not met is a value, never an error."""
    family = family_of(_os_release())
    return (*(_check(need, family) for need in read_needs(_needs_text())), _check_parsers())


def _needs_text() -> str:
    return resources.files("engine.doctor").joinpath("system-packages.tsv").read_text(encoding="utf-8")


def read_needs(text: str) -> tuple[Need, ...]:
    """The list of needs as values; blank lines and lines that start with # are skipped."""
    needs: list[Need] = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        needed_for, probe, debian, fedora, purpose = line.split("\t")
        needs.append(Need(Purpose(needed_for), probe, tuple(debian.split()), tuple(fedora.split()), purpose))
    return tuple(needs)


def _os_release() -> dict[str, str]:
    try:
        return platform.freedesktop_os_release()
    except OSError:
        return {}


def family_of(os_release: Mapping[str, str]) -> Family:
    """Which family of package names an `os-release` belongs to (os-release(5): ID, then ID_LIKE)."""
    names = [os_release.get("ID", ""), *os_release.get("ID_LIKE", "").split()]
    if "debian" in names or "ubuntu" in names:
        return Family.DEBIAN
    if {"fedora", "rhel", "centos"} & set(names):
        return Family.FEDORA
    return Family.OTHER


def mending_command(need: Need, family: Family) -> str:
    """What to type so that the need is met."""
    debian = " ".join(name.removeprefix("?") for name in need.debian)
    fedora = " ".join(need.fedora)
    if family is Family.DEBIAN:
        return f"sudo apt-get install {debian}"
    if family is Family.FEDORA:
        return f"sudo dnf install {fedora}"
    return f"install what Debian calls {debian} and Fedora {fedora}"


def _check(need: Need, family: Family) -> PackageCheck:
    kind, *words = need.probe.split()
    name, found = {
        "command": _find_command,
        "file": _find_file,
        "pkg-config": _find_library,
        "python-module": _find_module,
        "python-header": _find_header,
    }[kind](words)
    return PackageCheck(
        name=name,
        purpose=need.purpose,
        needed_for=need.needed_for,
        found=found is not None,
        version=found or "",
        mend=mending_command(need, family),
    )


def _check_parsers() -> PackageCheck:
    """An extra of newhope's own, because of its licence: no package of the system has it."""
    version = parsers_version()
    return PackageCheck(
        name="dissect",
        purpose="reads files out of disks, AGPL-3.0",
        needed_for=Purpose.FILES,
        found=bool(version),
        version=version,
        mend=INSTALL_PARSERS,
    )


def _find_command(words: list[str]) -> tuple[str, str | None]:
    name, *arguments = words
    path = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), *_SYSTEM_FOLDERS)))
    return name, path and (_first_version([path, *arguments]) or path)


def _find_library(words: list[str]) -> tuple[str, str | None]:
    name = words[0]
    program = shutil.which("pkg-config")
    return f"{name} (headers)", program and _first_version([program, "--modversion", name])


def _find_file(words: list[str]) -> tuple[str, str | None]:
    found = any(glob.glob(pattern) for pattern in words)  # noqa: PTH207 - absolute patterns
    return Path(words[0]).name.replace("*", ""), "there" if found else None


def _find_module(words: list[str]) -> tuple[str, str | None]:
    found = importlib.util.find_spec(words[0]) is not None
    return f"Python's {words[0]}", platform.python_version() if found else None


def _find_header(words: list[str]) -> tuple[str, str | None]:
    del words
    header = Path(sysconfig.get_paths()["include"], "Python.h")
    return header.name, "there" if header.exists() else None


def _first_version(command: list[str]) -> str | None:
    # ssh prints its version to stderr; a program that hangs on such a question is as good as missing.
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    match = _VERSION.search(done.stdout) or _VERSION.search(done.stderr)
    return match.group() if match else None
