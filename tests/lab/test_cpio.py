from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pytest

from engine.lab.cpio import CpioWriter


def an_archive() -> bytes:
    sink = io.BytesIO()
    archive = CpioWriter(sink)
    archive.character_device("dev/null", 1, 3, 0o666)
    archive.file("etc/name", b"web\n")
    archive.file("sbin/init", b"#!/bin/sh\n", 0o755)
    archive.link("bin/sh", "busybox")
    archive.close()
    return sink.getvalue()


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
def test_cpio_itself_reads_the_archive_and_finds_names_modes_and_content(tmp_path: Path) -> None:
    archive = an_archive()

    listing = subprocess.run(["cpio", "-itv"], input=archive, capture_output=True, check=True).stdout.decode()
    subprocess.run(["cpio", "-id", "etc/name", "bin/sh"], input=archive, cwd=tmp_path, check=True, capture_output=True)

    rows = {line.split()[-3 if "->" in line else -1]: line for line in listing.splitlines()}
    assert rows["dev/null"].startswith("crw-rw-rw-")
    assert rows["sbin/init"].startswith("-rwxr-xr-x")
    assert rows["bin/sh"].endswith("bin/sh -> busybox")
    assert (tmp_path / "etc/name").read_bytes() == b"web\n"
    assert (tmp_path / "bin/sh").readlink() == Path("busybox")


def test_a_folder_comes_once_and_before_what_lies_in_it() -> None:
    sink = io.BytesIO()
    archive = CpioWriter(sink)

    archive.file("usr/sbin/one", b"")
    archive.file("usr/sbin/two", b"")
    archive.folder("usr")

    raw = sink.getvalue()
    assert raw.count(b"usr\0") == raw.count(b"usr/sbin\0") == 1
    assert raw.index(b"usr\0") < raw.index(b"usr/sbin\0") < raw.index(b"usr/sbin/one\0")


def test_equal_content_gives_equal_bytes_in_aligned_records() -> None:
    first, second = an_archive(), an_archive()

    assert first == second
    assert len(first) % 4 == 0
    assert first.startswith(b"070701")
    assert b"TRAILER!!!\0" in first
