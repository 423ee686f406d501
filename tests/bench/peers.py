"""The programs that newhope is measured against: their commands, their environment, their versions."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

BORG_BEST = "1.4.5"
"""The newest borg; Debian has 1.2."""
_TIMEOUT_S = 600


def _environment(folder: Path) -> Mapping[str, str]:
    """Caches and settings beside the repository, so that a copy of the folder brings them along."""
    return {
        "RESTIC_PASSWORD": "bench",
        "RESTIC_REPOSITORY": str(folder / "repository"),
        "RESTIC_CACHE_DIR": str(folder / "cache"),
        "BORG_REPO": str(folder / "repository"),
        "BORG_BASE_DIR": str(folder / "borg"),
        "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
        "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
    }


@dataclass(frozen=True)
class Peer:
    """A backup program that keeps repositories of its own."""

    name: str
    init: tuple[str, ...]
    backup: tuple[str, ...]
    """Followed by the file's path."""
    restore: tuple[str, ...]
    """Run in the folder that the file is to appear in."""

    @staticmethod
    def environment(folder: Path) -> Mapping[str, str]:
        """For a command on the repository in `folder`."""
        return _environment(folder)

    def create(self, folder: Path) -> None:
        """Make an empty repository in a folder."""
        _run(self.init, folder)

    def fill(self, folder: Path, *files: Path) -> None:
        """Back files up into the repository in `folder`, not measured."""
        _run([*self.backup, *map(str, files)], folder)


def _run(command: Sequence[str], folder: Path) -> str:
    """Run a command on the repository in `folder`; what it says. Raises `subprocess.SubprocessError`."""
    done = subprocess.run(
        command,
        env={**os.environ, **_environment(folder)},
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
    )
    return done.stdout


def restic() -> Peer:
    """Debian's restic, as it comes."""
    return Peer(
        f"restic {_version('restic', 'version')}",
        ("restic", "init"),
        ("restic", "backup"),
        ("restic", "restore", "latest", "--target", "."),
    )


def borg_of_debian() -> Peer:
    """Debian's borg with its own way to cut, and the compression level that newhope has."""
    return _borg("borg", "content-defined blocks, zstd,1", ())


def borg_best(folder: Path) -> Peer:
    """The fastest borg there is: the newest, with fixed blocks and holes skipped. Built from PyPI's source once."""
    return _borg(
        _newest_borg(folder), "fixed 1 MiB blocks, sparse, zstd,1", ("--chunker-params", "fixed,1048576", "--sparse")
    )


def _borg(program: str, how: str, options: tuple[str, ...]) -> Peer:
    return Peer(
        f"borg {_version(program, '--version')}, {how}",
        (program, "init", "--encryption", "none"),
        (program, "create", "--compression", "zstd,1", *options, "::disk-{utcnow:%H%M%S%f}"),
        # The archive's name is put in when it is known.
        (program, "extract", "--sparse"),
    )


def archive_of(peer: Peer, folder: Path) -> tuple[str, ...]:
    """The command that restores the one archive of a repository."""
    if peer.restore[0] == "restic":
        return peer.restore
    archives = _run([peer.restore[0], "list", "--short"], folder).split()
    return (*peer.restore, f"::{archives[0]}")


def file_of(peer: Peer, folder: Path, file: Path) -> tuple[str, ...]:
    """The command that restores one file of the one archive of a repository."""
    if peer.restore[0] == "restic":
        return (*peer.restore, "--include", str(file))
    return (*archive_of(peer, folder), str(file).removeprefix("/"))


def side_by_side(*commands: Sequence[str]) -> list[str]:
    """One command that runs several at once and fails if one of them does."""
    script = " ".join(f"{shlex.join(command)} & p{number}=$!;" for number, command in enumerate(commands))
    return ["sh", "-c", f"{script} {' && '.join(f'wait $p{number}' for number in range(len(commands)))}"]


def _newest_borg(folder: Path) -> str:
    """Path of the newest borg; Debian's where it cannot be built (no compiler, no network)."""
    home = folder / f"newhope-bench-borg-{BORG_BEST}"
    program = home / "bin" / "borg"
    if not program.exists():
        print(f"building borg {BORG_BEST} from PyPI, once", file=sys.stderr, flush=True)
        shutil.rmtree(home, ignore_errors=True)
        try:
            venv.create(home, with_pip=True)
            pip = [str(home / "bin" / "pip"), "install", "--quiet", f"borgbackup=={BORG_BEST}"]
            subprocess.run(pip, check=True, capture_output=True, timeout=_TIMEOUT_S)
        except (OSError, subprocess.SubprocessError) as failure:
            print(f"that failed ({failure}); taking Debian's instead", file=sys.stderr, flush=True)
            shutil.rmtree(home, ignore_errors=True)
            return "borg"
    return str(program)


def _version(program: str, word: str) -> str:
    said = subprocess.run([program, word], check=True, capture_output=True, text=True).stdout
    return said.split()[1]


def version_of(program: str) -> str:
    """Version of qemu-img or nbdcopy."""
    words = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout.split()
    return next(word for word in words if word[0].isdigit())
