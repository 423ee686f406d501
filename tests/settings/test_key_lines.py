"""Where each key of a TOML text stands."""

from __future__ import annotations

import tomllib
from typing import cast

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from engine.settings.key_lines import KeyLines, KeyPath, dotted

TEXT = '''\
# a comment with [brackets] and "quotes"
state = "/x"   # [not.a.table]

[hosts.alderaan]
uri = "qemu:///system # no comment"
places = { rack = "r1", "power feed" = 'a}b', nested = { deep = 1 } }

[ hosts . "my host" ]
uri = """
several
lines = 1
[no.header]
"""
pool = \'\'\'x\'\'\'
dotted.key.path = 3

[levels.gold]
vms = [
  "web*",   # first
  'db]',

  [1, 2],
  { inner = true },
]
rpo = "1h"
[[steps]]
name = "one"
[[steps]]
name = "two"
[steps.check]
kind = "ping"
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("state",), 2),
        (("hosts",), 4),
        (("hosts", "alderaan"), 4),
        (("hosts", "alderaan", "uri"), 5),
        (("hosts", "alderaan", "places"), 6),
        (("hosts", "alderaan", "places", "rack"), 6),
        (("hosts", "alderaan", "places", "power feed"), 6),
        (("hosts", "alderaan", "places", "nested", "deep"), 6),
        (("hosts", "my host"), 8),
        (("hosts", "my host", "uri"), 9),
        (("hosts", "my host", "pool"), 14),
        (("hosts", "my host", "dotted"), 15),
        (("hosts", "my host", "dotted", "key", "path"), 15),
        (("levels", "gold"), 17),
        (("levels", "gold", "vms"), 18),
        (("levels", "gold", "vms", 0), 19),
        (("levels", "gold", "vms", 1), 20),
        (("levels", "gold", "vms", 2), 22),
        (("levels", "gold", "vms", 2, 1), 22),
        (("levels", "gold", "vms", 3, "inner"), 23),
        (("levels", "gold", "rpo"), 25),
        (("steps",), 26),
        (("steps", 0, "name"), 27),
        (("steps", 1), 28),
        (("steps", 1, "name"), 29),
        (("steps", 1, "check", "kind"), 31),
    ],
)
def test_a_key_is_found_on_its_line(path: KeyPath, line: int) -> None:
    assert KeyLines(TEXT).line_of(path) == line


def test_a_key_that_is_not_there_has_the_line_of_its_table() -> None:
    lines = KeyLines(TEXT)

    assert lines.line_of(("levels", "gold", "rto")) == 17
    assert lines.line_of(("nothing", "here")) is None
    assert lines.line_of(()) is None


def test_lines_count_the_same_with_the_line_ends_of_another_system() -> None:
    assert KeyLines(TEXT.replace("\n", "\r\n")).line_of(("levels", "gold", "vms", 2)) == 22


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment", "a = 1", "a = []\n", "a = {}", "[t]", 'a = ""'])
def test_small_texts_are_scanned_to_their_end(text: str) -> None:
    lines = KeyLines(text)

    assert lines.line_of(tuple(tomllib.loads(text))) == (1 if tomllib.loads(text) else None)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("hosts", "a", "uri"), "hosts.a.uri"),
        (("levels", "gold", "vms", 1), "levels.gold.vms[1]"),
        (("hosts", "my host"), 'hosts."my host"'),
    ],
)
def test_a_path_reads_as_people_write_it(path: KeyPath, text: str) -> None:
    assert dotted(path) == text


_LEAVES = st.one_of(
    st.text(), st.integers(-9, 9), st.booleans(), st.floats(allow_nan=False), st.datetimes(), st.dates()
)
_VALUES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4), max_leaves=12
)


def _paths(value: object, path: KeyPath = ()) -> list[KeyPath]:
    if isinstance(value, dict):
        inner = cast("dict[str, object]", value).items()
        return [path, *(found for key, child in inner for found in _paths(child, (*path, key)))]
    if isinstance(value, list):
        items = enumerate(cast("list[object]", value))
        return [path, *(found for number, child in items for found in _paths(child, (*path, number)))]
    return [path]


@given(st.dictionaries(st.text(), _VALUES, max_size=5), st.booleans())
def test_every_key_of_any_document_is_found(document: dict[str, object], multiline: bool) -> None:
    text = tomli_w.dumps(document, multiline_strings=multiline)

    lines = KeyLines(text)

    values = tomllib.loads(text)
    for path in _paths(values):
        if path:
            assert path in lines._lines  # pyright: ignore[reportPrivateUsage]
