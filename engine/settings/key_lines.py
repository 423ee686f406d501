"""On which line of a TOML text every key and array element stands.

tomllib gives values without lines, and an error without a line costs its reader a search. So the text, already known
to be valid TOML, is scanned once more:

1. A header (`[a.b]`, `[[a]]`) sets the table that following keys belong to; a path that runs through an array of
   tables means that array's last element.
2. A key (bare, quoted, dotted) up to `=` is noted with its line, and so is each of its parents when seen first.
3. Its value is skipped; arrays and inline tables are walked, so their elements and keys are noted too.

Keys are resolved by tomllib itself (`KEY = 0`), so quoting and escapes mean here what they mean there.
"""

from __future__ import annotations

import re
import tomllib
from typing import cast

KeyPath = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BLANK_ON_LINE = re.compile(r"[ \t]*")
_KEY = re.compile(r"""(?:[ \t.]|[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')+""")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|' + r"'''.*?'{3,5}|" + r'"(?:[^"\\\n]|\\.)*"|' + r"'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}\n#]*")


class KeyLines:
    """The lines of one text; `line_of` answers for paths that do not exist with the nearest parent that does."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._lines: dict[KeyPath, int] = {}
        self._elements: dict[KeyPath, int] = {}
        self._scan()

    def line_of(self, path: KeyPath) -> int | None:
        """Return the line of a key or array element, else that of its closest known parent, else None."""
        for length in range(len(path), 0, -1):
            if path[:length] in self._lines:
                return self._lines[path[:length]]
        return None

    def _scan(self) -> None:
        table: KeyPath = ()
        self._skip(_BLANK)
        while self._position < len(self._text):
            if self._text[self._position] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)

    def _header(self) -> KeyPath:
        start = self._position
        array = self._text.startswith("[[", start)
        self._position += 2 if array else 1
        path = self._resolve((), self._key_parts())
        self._position += 2 if array else 1
        if array:
            self._note(path, start)
            self._elements[path] = self._elements.get(path, -1) + 1
            path = (*path, self._elements[path])
        self._note(path, start)
        return path

    def _pair(self, table: KeyPath) -> None:
        start = self._position
        path = self._resolve(table, self._key_parts())
        self._note(path, start, above=len(table))
        self._position += 1
        self._skip(_BLANK_ON_LINE)
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        opening = self._text[self._position : self._position + 1]
        if opening == "[":
            self._array(path)
        elif opening == "{":
            self._inline_table(path)
        elif opening in ('"', "'"):
            self._skip(_STRING)
        else:
            self._skip(_SCALAR)

    def _array(self, path: KeyPath) -> None:
        self._position += 1
        number = 0
        while self._more_until("]"):
            self._note((*path, number), self._position)
            self._value((*path, number))
            number += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._position += 1
        while self._more_until("}"):
            self._pair(path)

    def _more_until(self, closing: str) -> bool:
        self._skip(_BLANK)
        if self._text.startswith(",", self._position):
            self._position += 1
            self._skip(_BLANK)
        if self._position >= len(self._text):
            return False
        if self._text[self._position] == closing:
            self._position += 1
            return False
        return True

    def _key_parts(self) -> list[str]:
        found = self._skip(_KEY)
        parts: list[str] = []
        inner: object = tomllib.loads(f"{found.strip()} = 0")
        while isinstance(inner, dict):
            name, inner = next(iter(cast("dict[str, object]", inner).items()))
            parts.append(name)
        return parts

    def _resolve(self, table: KeyPath, parts: list[str]) -> KeyPath:
        path = table
        for number, part in enumerate(parts, start=1):
            path = (*path, part)
            if number < len(parts) and path in self._elements:
                path = (*path, self._elements[path])
        return path

    def _note(self, path: KeyPath, position: int, *, above: int = 0) -> None:
        line = self._text.count("\n", 0, position) + 1
        for length in range(above + 1, len(path) + 1):
            self._lines.setdefault(path[:length], line)

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._position)
        found = match.group() if match else ""
        self._position += len(found)
        return found


def dotted(path: KeyPath) -> str:
    """Return a path as people write it: `levels.gold.vms[1]`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            plain = re.fullmatch(r"[A-Za-z0-9_-]+", part)
            text += ("." if text else "") + (part if plain else f'"{part}"')
    return text
