"""Whose daemons and guests the lab's are: the caller's, or, for root, an unprivileged user's."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import TypedDict

from msgspec import Struct

from engine.errors import NewhopeError

_UNPRIVILEGED = "nobody"


class Identity(TypedDict, total=False):
    """Arguments that make `subprocess` start a program as the lab's user."""

    user: int
    group: int
    extra_groups: list[int]


class FolderNotReachable(NewhopeError):
    """The lab's user cannot get to the folder that the lab shall live in."""


class Account(Struct, frozen=True):
    """The user that the lab's daemons, QEMU processes and disks belong to."""

    uid: int
    gid: int
    name: str

    @property
    def is_caller(self) -> bool:
        """Whether the lab runs as the very user that called."""
        return self.uid == os.geteuid()

    def identity(self) -> Identity:
        """How `subprocess` is told to run as this user; empty when that is the caller anyway."""
        if self.is_caller:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def own(self, path: Path) -> None:
        """Give a file or folder to this user."""
        if not self.is_caller:
            os.lchown(path, self.uid, self.gid)

    def folder(self, path: Path, permissions: int = 0o755) -> Path:
        """Make a folder that belongs to this user; an existing one keeps its content."""
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(permissions)
        self.own(path)
        return path

    def may_read_and_write(self, path: Path) -> bool:
        """Whether this user, with its own groups and access lists, can open `path` both ways."""
        test = shutil.which("test") or "/usr/bin/test"
        done = subprocess.run([test, "-r", path, "-a", "-w", path], check=False, **self.identity())
        return done.returncode == 0

    def require_reach(self, folder: Path) -> None:
        """Raise `FolderNotReachable` unless this user can enter `folder`, as far as it exists."""
        test = shutil.which("test") or "/usr/bin/test"
        for above in (*reversed(folder.parents), folder):
            if above.exists() and subprocess.run([test, "-x", above], check=False, **self.identity()).returncode:
                raise FolderNotReachable(
                    f"The lab runs as user {self.name}, who cannot enter {above}.",
                    next_step="Choose a folder that every user can reach, for example `--dir /var/lib/newhope/lab`.",
                )


def lab_account() -> Account:
    """The caller, or `nobody` when the caller is root: QEMU and guests are never run with root's rights."""
    entry = pwd.getpwuid(os.geteuid()) if os.geteuid() != 0 else pwd.getpwnam(_UNPRIVILEGED)
    return Account(uid=entry.pw_uid, gid=entry.pw_gid, name=entry.pw_name)
