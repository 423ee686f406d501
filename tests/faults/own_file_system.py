"""A small file system of its own, in a mount namespace: to fill up without hurting anybody."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

OWN_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount")
ROOT = Path(__file__).parents[2]
RUN = """
set -e
mount -t tmpfs -o size="$1" tmpfs "$2"
cd "$3"
shift 3
exec "$@"
"""


def run_in_own_file_system(folder: Path, size: str, program: str, *arguments: str) -> str:
    """Run a Python program with `folder` (its first argument) as a file system of that size; what it printed.

    Skips the test where this user may have no mounts of its own.
    """
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare, of util-linux")
    python = [sys.executable, "-c", program, str(folder), *arguments]
    done = subprocess.run(
        [*OWN_MOUNTS, "sh", "-c", RUN, "sh", size, str(folder), str(ROOT), *python],
        capture_output=True,
        text=True,
        check=False,
    )
    if "unshare:" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"no file system of its own for this user: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout
