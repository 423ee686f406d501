"""From where the passphrase of a repository comes when nobody is asked. The first of these that there is, counts:

1. `passphrase_file` in the repository's section of the settings.
2. `passphrase_command` there: a program that prints it.
3. A systemd credential of the repository's name (`LoadCredential=NAME:FILE` in a service; systemd.exec(5)).
4. The file that `$NEWHOPE_PASSPHRASE_FILE` names, for every repository that has none of the others.

One that is there and fails is an error and not a reason to try the next: whoever named it must hear that it fails.
A passphrase is one line; the line's end does not belong to it. No error holds a word of what was read, nor the
arguments of a command.
"""

from __future__ import annotations

import os
import select
import signal
import stat
import subprocess
import time
from pathlib import Path

from msgspec import Struct

from engine.repository import Passphrase
from engine.repository.errors import RepositoryError
from engine.settings import Repository

CREDENTIALS = "CREDENTIALS_DIRECTORY"
FILE_VARIABLE = "NEWHOPE_PASSPHRASE_FILE"
COMMAND_TIMEOUT_S = 60.0
LONGEST_BYTES = 4096
_FOR_OTHERS = 0o077


class PassphraseUnavailable(RepositoryError):
    """The source that was named for a passphrase does not give one."""


class Given(Struct, frozen=True):
    """A passphrase, and where it came from, in words for a sentence."""

    passphrase: Passphrase
    source: str


def given(kept: Repository) -> Given | None:
    """The passphrase from the first source that there is; None if there is none. Raises `PassphraseUnavailable`."""
    if kept.passphrase_file is not None:
        return _from_file(kept.passphrase_file, "passphrase_file", f"the file {kept.passphrase_file}")
    if kept.passphrase_command:
        return _from_command(kept.passphrase_command, kept.name)
    credential = _credential(kept)
    if credential is not None:
        # systemd lets its service alone read it, by means that the mode does not show.
        return _from_file(credential, "LoadCredential", f"the systemd credential {kept.name}", guarded=True)
    named = os.environ.get(FILE_VARIABLE)
    if named:
        return _from_file(Path(named), f"${FILE_VARIABLE}", f"the file {named}")
    return None


def has_source(kept: Repository) -> bool:
    """Whether `given` has somewhere to look."""
    return is_bound_to_be_encrypted(kept) or bool(os.environ.get(FILE_VARIABLE))


def is_bound_to_be_encrypted(kept: Repository) -> bool:
    """Whether a passphrase is kept for this very repository, so that a plain one in its place is somebody's doing."""
    return kept.names_passphrase_source or _credential(kept) is not None


def passphrase_in(content: bytes, source: str) -> Passphrase:
    """The passphrase in what a source gave; raises `PassphraseUnavailable` if that cannot be one."""
    line = content.removesuffix(b"\n").removesuffix(b"\r")
    wrong = None
    if not line:
        wrong = "is empty"
    elif len(content) > LONGEST_BYTES:
        wrong = f"is longer than {LONGEST_BYTES} bytes"
    elif b"\n" in line or b"\0" in line:
        wrong = "has more than one line, or a NUL character"
    if wrong is not None:
        raise PassphraseUnavailable(
            f"What comes from {source} {wrong}, so it is no passphrase.",
            next_step="let it give the passphrase alone, on one line.",
        )
    return Passphrase(line)


def read_passphrase_file(file: Path, named_by: str) -> Passphrase:
    """The passphrase in a file that nobody but its owner may read; raises `PassphraseUnavailable`."""
    return _from_file(file, named_by, f"the file {file}").passphrase


def _credential(kept: Repository) -> Path | None:
    folder = os.environ.get(CREDENTIALS)
    if not folder or not kept.name.strip(".") or "/" in kept.name:
        return None
    file = Path(folder) / kept.name
    return file if file.is_file() else None


def _from_file(file: Path, named_by: str, source: str, *, guarded: bool = False) -> Given:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISREG(mode) and mode & _FOR_OTHERS and not guarded:
                raise PassphraseUnavailable(
                    f"The passphrase file {file} is open to others than its owner (mode {stat.S_IMODE(mode):04o}).",
                    next_step=f"`chmod 600 {file}`; if somebody may have read it, exchange the passphrase:"
                    " `newhope repo key add`, then `newhope repo key remove`.",
                )
            content = stream.read(LONGEST_BYTES + 1)
    except OSError as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror})"
        raise PassphraseUnavailable(
            f"The passphrase file {file}, named by {named_by}, {reason}.",
            next_step=f"bring it back, or correct {named_by}; where every passphrase is lost, the recovery sheet opens"
            " the repository: `newhope repo key add --help`.",
        ) from error
    return Given(passphrase_in(content, source), source)


def _from_command(command: tuple[str, ...], repository: str) -> Given:
    source = f"the passphrase_command of {repository} ({command[0]} ...)"
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            # What it complains about may hold what it should not say.
            stderr=subprocess.DEVNULL,
            cwd="/",
            # So that it can be ended with everything it started.
            start_new_session=True,
        )
    except OSError as error:
        raise _command_failed(source, f"cannot be started: {error.strerror}") from error
    with process:
        content = _output_of(process, time.monotonic() + COMMAND_TIMEOUT_S)
        if content is None:
            # It is not waited for yet, so the number is still that of its own group.
            os.killpg(process.pid, signal.SIGKILL)
    if content is None:
        raise _command_failed(source, f"did not end within {COMMAND_TIMEOUT_S:.0f} s")
    if process.returncode != 0:
        ended = f"status {process.returncode}" if process.returncode > 0 else f"signal {-process.returncode}"
        raise _command_failed(source, f"ended with {ended}")
    return Given(passphrase_in(content, source), source)


def _output_of(process: subprocess.Popen[bytes], deadline: float) -> bytes | None:
    """What a process prints until it ends, and a little more than a passphrase can be; None if it goes on."""
    assert process.stdout is not None  # noqa: S101 - it was asked for above
    printed, ended = process.stdout.fileno(), os.pidfd_open(process.pid)
    content = b""
    try:
        while _comes(printed, deadline):
            piece = os.read(printed, LONGEST_BYTES)
            content = (content + piece)[: LONGEST_BYTES + 1]
            if not piece:
                return content if _comes(ended, deadline) else None
        return None
    finally:
        os.close(ended)


def _comes(descriptor: int, deadline: float) -> bool:
    left = deadline - time.monotonic()
    return left > 0 and bool(select.select([descriptor], [], [], left)[0])


def _command_failed(source: str, how: str) -> PassphraseUnavailable:
    return PassphraseUnavailable(
        f"{source[0].upper()}{source[1:]} {how}.",
        next_step="run it by hand as this user, in the folder / and without input, and see what it says; its words"
        " stand in the settings.",
    )
