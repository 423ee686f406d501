"""From `newhope.toml` to `Settings`, or to every problem in it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from engine.settings.cross_checks import check_host_patterns, check_hosts, check_levels, check_repositories
from engine.settings.guest_files import check_sections, read_section
from engine.settings.key_lines import KeyLines
from engine.settings.location import default_file, default_state
from engine.settings.model import Settings
from engine.settings.problem import Problem, SettingsError
from engine.settings.sections import read_exclude, read_host, read_level, read_repository, read_rules
from engine.settings.table import Complaints, Table

_FIRST_STEPS = (
    "`newhope init` writes a first settings file for this machine, also where all that is left is a repository; "
    "`newhope lab up` makes practice hosts with settings of their own."
)
_SYNTAX_LINE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def load(file: Path | None = None) -> Settings:
    """Read the settings from `file`, or from where they lie by default; raises `SettingsError` with all problems."""
    chosen = (file or default_file()).absolute()
    return read_text(_text_of(chosen), chosen)


def read_text(text: str, file: Path) -> Settings:
    """Read settings from the text of `file`; raises `SettingsError` with all problems."""
    try:
        values: dict[str, object] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(file, (_syntax_problem(str(error), text),)) from None
    except RecursionError:
        problem = Problem("", None, "Its lists or tables are nested too deeply.", "Settings need three levels at most.")
        raise SettingsError(file, (problem,)) from None
    complaints = Complaints(KeyLines(text))
    settings = _read(Table(values, (), complaints), file, complaints)
    problems = complaints.in_order()
    if problems:
        raise SettingsError(file, problems)
    return settings


def _read(top: Table, file: Path, complaints: Complaints) -> Settings:
    top.only(("state", "hosts", "repositories", "levels", "exclude", "guest_files"))
    host_tables = top.named_tables("hosts", "host")
    repository_tables = top.named_tables("repositories", "repository")
    hosts = tuple(host for name, table in host_tables if (host := read_host(name, table)))
    repositories = tuple(
        repository for name, table in repository_tables if (repository := read_repository(name, table, file.parent))
    )
    levels = tuple(read_level(name, table) for name, table in top.named_tables("levels", "level"))
    exclude = read_exclude(top)
    guest_files = tuple(
        read_section(name, table, read_rules(table)) for name, table in top.named_tables("guest_files", "set of files")
    )
    host_names = [name for name, _ in host_tables]
    check_hosts(hosts, complaints)
    check_repositories(repositories, host_names, complaints)
    check_levels(levels, complaints)
    check_sections(guest_files, complaints)
    check_host_patterns(levels, exclude, guest_files, host_names, complaints)
    if "hosts" not in top.names() and "repositories" not in top.names():
        complaints.add((), "It names neither a host nor a repository.", _FIRST_STEPS)
    return Settings(
        file=file,
        hosts=hosts,
        repositories=repositories,
        levels=levels,
        state=top.folder("state", near=file.parent) or default_state(),
        exclude=exclude,
        guest_files=guest_files,
    )


def _text_of(file: Path) -> str:
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        missing = Problem("", None, "The file does not exist.", _FIRST_STEPS)
        raise SettingsError(file, (missing,)) from None
    except IsADirectoryError:
        folder = Problem("", None, "It is a folder.", f"Name the file in it, for example {file / 'newhope.toml'}.")
        raise SettingsError(file, (folder,)) from None
    except PermissionError:
        fix = f"Become the user it belongs to, or let yours read it: `ls -l {file}` shows who may."
        raise SettingsError(file, (Problem("", None, "This user may not read the file.", fix),)) from None
    except OSError as error:
        reason = error.strerror or str(error)
        fix = f"Look at the file and its disk: `ls -l {file}`."
        raise SettingsError(file, (Problem("", None, f"The file cannot be read: {reason}.", fix),)) from None
    try:
        # Editors of another system may put a byte order mark in front, which TOML does not allow.
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        what = f"The byte 0x{content[error.start]:02x} on this line is not UTF-8."
        fix = f"Save the file as UTF-8: `iconv -f ISO-8859-1 -t UTF-8 {file}` shows how it would read."
        raise SettingsError(file, (Problem("", line, what, fix),)) from None


def _syntax_problem(message: str, text: str) -> Problem:
    match = _SYNTAX_LINE.search(message)
    plain = _SYNTAX_LINE.sub("", message)
    line = int(match[1]) if match and match[1] else _line_of_open_end(plain, text)
    at = f" at column {match[2]}" if match and match[2] else ""
    reason = re.sub(r"\('(.*?)',?\)", lambda found: found[1].replace("', '", "."), plain)
    rest = "The rest of the file is checked once this is mended."
    what = f"This is not TOML{at}: {reason[:1].lower()}{reason[1:]}."
    return Problem("", line, what, f"{_syntax_fix(plain, open_end=not at)} {rest}")


def _line_of_open_end(message: str, text: str) -> int:
    """Return the line that something opened and the end of the text did not close, as near as can be told."""
    if message.startswith("Expected \"'"):
        # No quote follows the one that opens, or tomllib would have stopped there: it is the last of the text.
        return text.count("\n", 0, text.rindex("'")) + 1
    return text.rstrip().count("\n") + 1


def _syntax_fix(message: str, *, open_end: bool) -> str:
    """Return what usually mends a syntax error of that message (the messages of Python's tomllib)."""
    if "twice" in message or "overwrite" in message or "redefine" in message:
        return "Keep one of the two."
    if message.startswith("Invalid value") and open_end:
        return "Close the bracket, or give the last key its value."
    if message.startswith("Invalid value"):
        return 'Put texts in quotes: name = "value".'
    if "Expected '='" in message:
        return 'Write name = "value", or [section].'
    if "Unterminated string" in message or "Illegal character" in message or message.startswith("Expected \"'"):
        return "Close the quotes on the same line."
    if "nclosed" in message or "Expected ']'" in message:
        return "Close the bracket."
    return "Compare the line with its neighbours."
