"""One TOML table, read key by key; what is wrong is noted and reading goes on.

Every reader of a key returns None where the value is missing or wrong, after it noted why; the caller goes on with
what it has, so that one look at the file shows every problem.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date, datetime, time
from pathlib import Path
from typing import TypeVar, cast

from engine.settings.byte_size import InvalidSize, parse_size
from engine.settings.duration import InvalidDuration, parse_duration
from engine.settings.key_lines import KeyLines, KeyPath, dotted
from engine.settings.nearest import in_words, nearest
from engine.settings.problem import Problem

_T = TypeVar("_T")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "true or false"),
    ((int, float), "a number"),
    (str, "a text"),
    (list, "a list"),
    (dict, "a table"),
    ((datetime, date, time), "a date or time"),
)


class Complaints:
    """The problems found so far, and the lines they stand on."""

    def __init__(self, lines: KeyLines) -> None:
        self._lines = lines
        self._problems: list[Problem] = []
        self._paths: list[KeyPath] = []

    def add(self, path: KeyPath, what: str, fix: str) -> None:
        """Note a problem with the value at `path`."""
        self._problems.append(Problem(key=dotted(path), line=self._lines.line_of(path), what=what, fix=fix))
        self._paths.append(path)

    def about(self, path: KeyPath) -> bool:
        """Whether there is a problem with the value at `path` or within it."""
        return any(found[: len(path)] == path for found in self._paths)

    def in_order(self) -> tuple[Problem, ...]:
        """Return all problems in the order of the file, those of the whole file first."""
        return tuple(sorted(self._problems, key=lambda problem: problem.line or 0))


class Table:
    """A TOML table at a path, and where to complain about it."""

    def __init__(self, values: dict[str, object], path: KeyPath, complaints: Complaints) -> None:
        self.path = path
        self._values = values
        self._complaints = complaints

    def complain(self, key: str | None, what: str, fix: str) -> None:
        """Note a problem with one of the table's keys, or with the table itself."""
        self._complaints.add(self.path if key is None else (*self.path, key), what, fix)

    def complained(self, key: str) -> bool:
        """Whether there is a problem with one of the table's keys."""
        return self._complaints.about((*self.path, key))

    def complain_about_element(self, key: str, number: int, what: str, fix: str) -> None:
        """Note a problem with one element of a list, numbered from 0."""
        self._complaints.add((*self.path, key, number), what, fix)

    def only(self, known: Iterable[str], *, apart_from: Iterable[str] = ()) -> None:
        """Complain about every key that is not known, with the nearest one that is.

        Keys `apart_from` these are complained about by somebody else.
        """
        names, others = list(known), list(apart_from)
        for key in self._values:
            if key in names or key in others:
                continue
            alike = nearest(key, names)
            fix = f'Did you mean "{alike[0]}"?' if alike else f"Known here: {in_words(sorted(names))}."
            self.complain(key, f'There is no setting "{key}" here.', fix)

    def text(self, key: str) -> str | None:
        """Return a text that is not blank."""
        value = self._of_kind(key, str, "a text", f'Write {key} = "...".')
        if value is not None and not value.strip():
            self.complain(key, "It is empty.", f'Write {key} = "...", or remove the line if it is optional.')
            return None
        return value

    def flag(self, key: str) -> bool | None:
        """Return true or false."""
        return self._of_kind(key, bool, "true or false", f"Write {key} = true or {key} = false, without quotes.")

    def count(self, key: str) -> int | None:
        """Return a whole number of at least one."""
        value = self._of_kind(key, int, "a whole number", f"Write a whole number without quotes, such as {key} = 2.")
        if value is not None and value < 1:
            self.complain(key, f"It is {value}; it must be at least 1.", f"Write {key} = 1 or more.")
            return None
        return value

    def choice(self, key: str, allowed: Iterable[str]) -> str | None:
        """Return one of the allowed words."""
        words = list(allowed)
        value = self.text(key)
        if value is None or value in words:
            return value
        quoted = in_words((f'"{word}"' for word in words), last="or")
        alike = nearest(value, words)
        fix = f'Did you mean "{alike[0]}"? It can be {quoted}.' if alike else f"It can be {quoted}."
        self.complain(key, f'"{value}" is not known here.', fix)
        return None

    def duration(self, key: str, example: str) -> int | None:
        """Return a duration in seconds; it must be given."""
        if key not in self._values:
            self.complain(None, f'"{key}" is missing.', f'Add {key} = "{example}".')
            return None
        value = self._values[key]
        if isinstance(value, int) and not isinstance(value, bool):
            self.complain(key, f"It is the number {value}, without a unit.", f'Write it like {key} = "{example}".')
            return None
        text = self.text(key)
        if text is None:
            return None
        try:
            return parse_duration(text)
        except InvalidDuration as error:
            self.complain(key, error.what, error.next_step)
            return None

    def size(self, key: str) -> int | None:
        """Return a size in bytes."""
        text = self.text(key)
        if text is None:
            return None
        try:
            return parse_size(text)
        except InvalidSize as error:
            self.complain(key, error.what, error.next_step)
            return None

    def folder(self, key: str, *, near: Path | None = None) -> Path | None:
        """Return an absolute path; for a relative one, the complaint offers it made absolute beside `near`."""
        value = self.text(key)
        if value is None:
            return None
        if "\0" in value:
            self.complain(key, "A path cannot hold a NUL character.", "Remove it.")
            return None
        path = Path(value)
        if path.is_absolute():
            return path
        if value.startswith("~"):
            whole = f'for example {key} = "{Path.home() / value[1:].lstrip("/")}"'
        elif near:
            whole = f'for example {key} = "{near / path}"'
        else:
            whole = f'for example {key} = "/{path}"'
        self.complain(key, f'"{value}" is not an absolute path.', f'Write it from "/" on, {whole}.')
        return None

    def texts(self, key: str) -> tuple[tuple[int, str], ...]:
        """Return the texts of a list with their numbers; what is no text or blank is complained about."""
        how = f'Write {key} = ["...", "..."].'
        values = cast("list[object] | None", self._of_kind(key, list, "a list of texts", how))
        found: list[tuple[int, str]] = []
        for number, value in enumerate(values or ()):
            if not isinstance(value, str):
                self.complain_about_element(key, number, f"It is {_kind(value)}, not a text.", how)
            elif not value.strip():
                self.complain_about_element(key, number, "It is empty.", "Remove it, or write a text.")
            else:
                found.append((number, value))
        return tuple(found)

    def is_list(self, key: str) -> bool:
        """Whether a list stands there."""
        return isinstance(self._values.get(key), list)

    def words(self, key: str) -> dict[str, str]:
        """Return a table of texts by free names, none of them blank."""
        inner = self.table(key, f'Write {key} = {{ rack = "r1", power = "feed-a" }}.')
        if inner is None:
            return {}
        found: dict[str, str] = {}
        for name in inner.names():
            value = inner.text(name)
            if value is not None:
                found[name] = value
        return found

    def table(self, key: str, how: str) -> Table | None:
        """Return the table at a key."""
        values = cast("dict[str, object] | None", self._of_kind(key, dict, "a table", how))
        return None if values is None else Table(values, (*self.path, key), self._complaints)

    def tables(self, key: str, how: str) -> tuple[Table, ...]:
        """Return the tables of a list; what is none is complained about."""
        values = cast("list[object] | None", self._of_kind(key, list, "a list of tables", how))
        found: list[Table] = []
        for number, value in enumerate(values or ()):
            if isinstance(value, dict):
                path = (*self.path, key, number)
                found.append(Table(cast("dict[str, object]", value), path, self._complaints))
            else:
                self.complain_about_element(key, number, f"It is {_kind(value)}, not a table.", how)
        return tuple(found)

    def named_tables(self, key: str, kind: str) -> tuple[tuple[str, Table], ...]:
        """Return the sections `[key.NAME]` whose names can be used, with those names."""
        sections = self.table(key, f"Name each {kind} in the header of its section: [{key}.NAME].")
        found: list[tuple[str, Table]] = []
        for name in sections.names() if sections else ():
            section = sections.table(name, f"Write a section [{key}.{name}].") if sections else None
            if section and _usable_name(section, name, key, kind):
                found.append((name, section))
        return tuple(found)

    def names(self) -> tuple[str, ...]:
        """Return the table's keys in the order of the file."""
        return tuple(self._values)

    def _of_kind(self, key: str, kind: type[_T], must_be: str, how: str) -> _T | None:
        value = self._values.get(key)
        if value is None:
            return None
        if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
            return value
        self.complain(key, f"It is {_kind(value)}; it must be {must_be}.", how)
        return None


def _usable_name(section: Table, name: str, key: str, kind: str) -> bool:
    if _NAME.fullmatch(name):
        return True
    if not name:
        section.complain(None, f"The name of this {kind} is empty.", f"Give it one: [{key}.NAME].")
        return False
    rule = "a name is made of the letters A-Z and a-z, digits, and . _ - (not first)"
    offered = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")
    fix = f"Use a name such as {offered}." if offered else f"Write [{key}.NAME] with such a name."
    section.complain(None, f'"{name}" cannot be the name of a {kind}: {rule}.', fix)
    return False


def _kind(value: object) -> str:
    for types, word in _KINDS:
        if isinstance(value, types):
            return word
    return "something else"
