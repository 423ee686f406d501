from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine.lab import elf

A_PROGRAM = Path(shutil.which("qemu-img") or "/bin/sh").resolve()


def test_a_programs_libraries_are_those_its_loader_names() -> None:
    content = A_PROGRAM.read_bytes()
    loader = elf.interpreter(content)
    assert loader is not None

    needed = elf.needed_libraries(content)

    listed = subprocess.run([loader, "--list", A_PROGRAM], capture_output=True, text=True, check=True).stdout
    assert needed
    assert all(name in listed for name in needed)
    assert any(name.startswith("libc.so") for name in needed)


def test_the_loader_is_what_the_interp_section_says() -> None:
    content = A_PROGRAM.read_bytes()

    assert elf.section(content, ".interp").rstrip(b"\0").decode() == elf.interpreter(content)


def test_a_section_that_is_not_there_is_empty() -> None:
    assert elf.section(A_PROGRAM.read_bytes(), ".no-such-section") == b""


def test_something_else_than_elf_is_refused() -> None:
    for content in (b"", b"#!/bin/sh\n", b"\x7fELF\x01\x01" + bytes(60)):
        with pytest.raises(elf.ElfDamaged):
            elf.needed_libraries(content)


def test_a_static_program_needs_nothing() -> None:
    busybox = shutil.which("busybox")
    if busybox is None or sys.platform != "linux":
        pytest.skip("there is no static busybox here")

    content = Path(busybox).read_bytes()

    if elf.interpreter(content) is not None:
        pytest.skip("this busybox is not static")
    assert elf.needed_libraries(content) == ()
