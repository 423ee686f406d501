"""`[[levels.NAME.checks]]`: what is asked of a guest that was booted to prove a recovery point.

    [[levels.gold.checks]]
    command = "pg_isready -q"            # or ["pg_isready", "-q"], without a shell
    time_limit = "2m"

    [[levels.gold.checks]]
    name = "web server"
    port = 443

    [[levels.gold.checks]]
    file = "/var/backups/db.sql"
    min_size = "1MiB"
    max_age = "1d"

Which of `command`, `port` and `file` stands there says what kind of check it is.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from engine.settings.byte_size import format_size
from engine.settings.duration import format_duration
from engine.settings.model import CHECK_TIME_LIMIT_S, CommandCheck, FileCheck, GuestCheck, PortCheck
from engine.settings.table import Table

KEY = "checks"
_ALL_HAVE = ("name", "time_limit")
_KINDS = {"command": _ALL_HAVE, "port": _ALL_HAVE, "file": (*_ALL_HAVE, "min_size", "max_age")}
_HOW = 'Write it as [[levels.NAME.checks]] with command = "...", port = 443 or file = "/path".'
_HIGHEST_PORT = 65535
_LONGEST_NAME = 60


def read_checks(level: Table) -> tuple[GuestCheck, ...]:
    """Read the checks of a level; one that is wrong is left out, and the table noted why."""
    found: list[GuestCheck] = []
    names: set[str] = set()
    for table in level.tables(KEY, _HOW):
        check = _read(table)
        if check is None:
            continue
        if check.name in names:
            what = f'Two checks of this level are called "{check.name}".'
            table.complain("name", what, 'Give each a name of its own: name = "...".')
        names.add(check.name)
        found.append(check)
    return tuple(found)


def as_toml(check: GuestCheck) -> dict[str, object]:
    """The keys that `read_checks` reads, without what is at its default."""
    limit = None if check.time_limit_s == CHECK_TIME_LIMIT_S else format_duration(check.time_limit_s)
    document: dict[str, object]
    match check:
        case CommandCheck():
            document = {"command": check.line or list(check.words)}
        case PortCheck():
            document = {"port": check.port}
        case FileCheck():
            least = None if check.min_size_bytes is None else format_size(check.min_size_bytes)
            oldest = None if check.max_age_s is None else format_duration(check.max_age_s)
            document = {"file": check.path, "min_size": least, "max_age": oldest}
    return {"name": check.name, **document, "time_limit": limit}


def _read(table: Table) -> GuestCheck | None:
    kinds = [kind for kind in _KINDS if kind in table.names()]
    if len(kinds) != 1:
        what = "It checks nothing." if not kinds else f"It is {' and '.join(kinds)} at once."
        table.complain(None, what, "A check has one of command, port and file; write another one for each further.")
        return None
    (kind,) = kinds
    table.only((kind, *_KINDS[kind]))
    limit_s = table.duration("time_limit", "1m") if "time_limit" in table.names() else None
    name = _name(table)
    limit_s = limit_s or CHECK_TIME_LIMIT_S
    if kind == "command":
        return _command(table, name, limit_s)
    if kind == "port":
        port = table.count("port")
        if port is not None and port > _HIGHEST_PORT:
            table.complain("port", f"It is {port}; ports end at {_HIGHEST_PORT}.", "Write port = 443, say.")
            return None
        return None if port is None else PortCheck(name or f"port {port}", port, limit_s)
    return _file(table, name, limit_s)


def _name(table: Table) -> str | None:
    name = table.text("name")
    if name is None or (len(name) <= _LONGEST_NAME and name == name.strip() and name.isprintable()):
        return name
    what = f"A name has no more than {_LONGEST_NAME} characters, and no space or line break at its ends."
    table.complain("name", what, 'Write a short one: name = "database".')
    return None


def _command(table: Table, name: str | None, limit_s: int) -> CommandCheck | None:
    if not table.is_list("command"):
        line = table.text("command")
        return None if line is None else CommandCheck(name or _short(line), line=line, time_limit_s=limit_s)
    texts = table.texts("command")
    if not texts and not table.complained("command"):
        table.complain("command", "It is empty.", 'Write command = ["pg_isready", "-q"], or a text for the shell.')
    words = tuple(word for _, word in texts)
    return CommandCheck(name or _short(" ".join(words)), words, time_limit_s=limit_s) if words else None


def _file(table: Table, name: str | None, limit_s: int) -> FileCheck | None:
    path = table.text("file")
    if path is None:
        return None
    if "\0" in path or not PurePosixPath(path).is_absolute():
        table.complain(
            "file", f'"{path}" is not an absolute path in the guest.', f'Write it from the root on: "/{path}".'
        )
        return None
    return FileCheck(
        name=name or _short(path),
        path=path,
        min_size_bytes=table.size("min_size"),
        max_age_s=table.duration("max_age", "1d") if "max_age" in table.names() else None,
        time_limit_s=limit_s,
    )


def _short(text: str) -> str:
    """What a check is called that was given no name."""
    plain = re.sub(r"\s+", " ", text).strip()
    return plain if len(plain) <= _LONGEST_NAME else f"{plain[: _LONGEST_NAME - 3]}..."
