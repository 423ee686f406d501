"""The recovery sheet: a repository's master key on paper, for the safe.

Four lines of 16 letters and digits. Each is 8 bytes of the key and 2 bytes that check the line, so that a slip of the
pen, or two lines exchanged, is found where it was made. The alphabet has none of I, L, O and U: whoever copies an O
meant a zero. The sheet opens the repository even when every passphrase is forgotten and every key slot is lost.
"""

from __future__ import annotations

import re
from datetime import datetime

from blake3 import blake3

from engine.repository.errors import RepositoryLocked

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LINES = 4
BYTES_A_LINE = 8
CHECK_BYTES = 2
SIGNS_A_LINE = (BYTES_A_LINE + CHECK_BYTES) * 8 // 5
LINE = re.compile(r"^[ \t>*|]*([1-4])[ \t]*[:.)][ \t]*([0-9A-Za-z \t-]+?)[ \t|]*$", re.MULTILINE)
MEANT = str.maketrans("ILO", "110", " \t-")


def sheet(master_key: bytes, repository_id: str, name: str, location: str, created: datetime) -> str:
    """The text to print. It is as secret as the repository itself."""
    lines = (f"    {number}: {_line(number, master_key)}" for number in range(1, LINES + 1))
    return "\n".join(
        (
            "newhope recovery sheet",
            "",
            f"Repository   {name}",
            f"Location     {location}",
            f"Id           {repository_id}",
            f"Made         {created:%Y-%m-%dT%H:%M:%SZ}",
            "",
            "Whoever has these four lines and the repository's files can read everything in it.",
            "Keep this sheet where the files are not: on paper, in a safe. Not in a mail, not in a cloud.",
            "",
            *lines,
            "",
            "To open the repository with them when every passphrase is lost, and add a new key:",
            "    newhope repo key add REPOSITORY --from-sheet FILE",
            "No program at hand? FORMAT.md of newhope tells how these lines become the key.",
            "",
        )
    )


def key_on_sheet(text: str) -> bytes:
    """The master key of a sheet, or of its four lines alone. No error holds a word of it."""
    lines = {
        int(number): signs.upper().translate(MEANT) for number, signs in LINE.findall("\n".join(text.splitlines()))
    }
    missing = [str(number) for number in range(1, LINES + 1) if number not in lines]
    if missing:
        raise _unreadable(f"line {' and line '.join(missing)} is missing")
    return b"".join(_bytes_of(number, lines[number]) for number in range(1, LINES + 1))


def _line(number: int, master_key: bytes) -> str:
    piece = master_key[(number - 1) * BYTES_A_LINE : number * BYTES_A_LINE]
    value = int.from_bytes(piece + _check(number, piece))
    signs = "".join(ALPHABET[value >> 5 * place & 31] for place in reversed(range(SIGNS_A_LINE)))
    return " ".join(signs[at : at + 4] for at in range(0, SIGNS_A_LINE, 4))


def _bytes_of(number: int, signs: str) -> bytes:
    if len(signs) != SIGNS_A_LINE:
        raise _unreadable(f"line {number} has {len(signs)} letters and digits where {SIGNS_A_LINE} belong")
    if not set(signs) <= set(ALPHABET):
        raise _unreadable(f"line {number} has a letter that no sheet has")
    value = 0
    for sign in signs:
        value = value << 5 | ALPHABET.index(sign)
    content = value.to_bytes(BYTES_A_LINE + CHECK_BYTES)
    piece, check = content[:BYTES_A_LINE], content[BYTES_A_LINE:]
    if check != _check(number, piece):
        raise _unreadable(f"line {number} was not copied as it stands on the sheet")
    return piece


def _check(number: int, piece: bytes) -> bytes:
    return blake3(bytes([number]) + piece).digest(CHECK_BYTES)


def _unreadable(why: str) -> RepositoryLocked:
    return RepositoryLocked(
        f"This is not a recovery sheet that can be read: {why}.",
        next_step="Compare it with the paper, sign by sign: four lines, 16 letters and digits each.",
    )
