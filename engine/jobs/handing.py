"""What a job's process is handed that nobody else may read: the keys of the repositories that it opens.

It comes through the pipe that is the process's standard input, because arguments and environment are shown to others
by `ps` and `/proc`, and the journal is a file. Who launches writes it and closes the pipe before the process is even
started, so nobody waits for anybody and a launcher that dies loses nothing; the process reads it at its start and
points its standard input at `/dev/null`, where that of every job points.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator
from contextlib import contextmanager

MOST_BYTES = 4096
"""A pipe takes so much at once, whatever limits its user is under (pipe(7), pipe-user-pages-soft)."""


def refuse_too_much(handed: bytes) -> None:
    """Stop with a `ValueError` before anything is begun for a job that could never be handed so much."""
    if len(handed) > MOST_BYTES:
        raise ValueError(f"a job can be handed {MOST_BYTES} bytes, not {len(handed)}")


@contextmanager
def standard_input(handed: bytes) -> Generator[int]:
    """What the child is to have as its standard input: a pipe with what is handed over, or the file of nothing."""
    if not handed:
        descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    else:
        descriptor, writing = os.pipe()
        try:
            os.write(writing, handed)
        finally:
            os.close(writing)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def take_handed() -> bytes:
    """What this process was handed; empty if nothing was. Afterwards its standard input is the file of nothing."""
    if not stat.S_ISFIFO(os.fstat(0).st_mode):
        return b""
    handed = b""
    while piece := os.read(0, MOST_BYTES + 1 - len(handed)):
        handed += piece
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return handed
