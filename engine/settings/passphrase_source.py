"""From where the passphrase of a repository comes, as its section says it: a file, or a command that prints it.

Never the passphrase itself: this file is copied, mailed and shown. So nothing that is wrong here is repeated in a
complaint, because what stands in the wrong place may be the passphrase.
"""

from __future__ import annotations

from pathlib import Path

from engine.settings.table import Table

KEYS = ("passphrase_file", "passphrase_command")
SECRETS = ("passphrase", "password", "key", "secret", "master_key")
"""What somebody may write who means the passphrase itself."""
_PRINTING = ("echo", "printf")
_FILE_HOW = 'Write passphrase_file = "/folder/file"; only its owner may read that file.'
_COMMAND_HOW = 'Write passphrase_command = ["pass", "show", "newhope"]: the program and its arguments, without a shell.'


def read_source(table: Table) -> tuple[Path | None, tuple[str, ...]]:
    """Read the file and the command of a repository's section; the table noted what is wrong."""
    for key in SECRETS:
        if key in table.names():
            table.complain(
                key,
                "A passphrase does not belong into this file.",
                f"Remove the line, and change the passphrase if the file was seen by others. {_FILE_HOW}",
            )
    file = _read_file(table)
    command = _read_command(table)
    if file is not None and command:
        fix = "Remove one of the two."
        table.complain("passphrase_command", "There is a passphrase_file too, and only one can be meant.", fix)
    return file, command


def _read_file(table: Table) -> Path | None:
    value = table.text("passphrase_file")
    if value is None:
        return None
    if "\0" in value or not Path(value).is_absolute():
        what = "It is not an absolute path (it is not shown here, lest it is the passphrase)."
        table.complain("passphrase_file", what, _FILE_HOW)
        return None
    return Path(value)


def _read_command(table: Table) -> tuple[str, ...]:
    key = "passphrase_command"
    if key not in table.names():
        return ()
    if not table.is_list(key):
        table.complain(key, "It is not a list of words.", _COMMAND_HOW)
        return ()
    numbered = table.texts(key)
    words = tuple(word for _, word in numbered)
    if any("\0" in word for word in words):
        table.complain(key, "A word of it holds a NUL character.", "Remove it.")
        return ()
    if not words:
        if not table.complained(key):
            table.complain(key, "It is empty.", _COMMAND_HOW)
        return ()
    if Path(words[0]).name in _PRINTING:
        what = f"With {Path(words[0]).name}, the passphrase itself stands in this file."
        table.complain(key, what, f"Remove it, and change the passphrase. {_COMMAND_HOW}")
        return ()
    return words
