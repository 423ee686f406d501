"""What a restored journal must hold: everything acknowledged before the moment, nothing from after it."""

import pytest
from msgspec import structs

from engine.lab.journal import JournalStatus, what_differs

LINES = b"1 x\n2 x\n3 x\n4 x\n"
BEFORE = JournalStatus("web", "boot", 1, 0, 0, acked=3, acked_bytes=12)
AFTER = structs.replace(BEFORE, acked=5, acked_bytes=20)
FOUND = structs.replace(BEFORE, found_bytes=16, found_last=4, boots=2)


def test_a_journal_of_the_moment_is_right():
    assert what_differs(BEFORE, AFTER, FOUND, LINES, LINES) is None


@pytest.mark.parametrize(
    ("found", "kept", "words"),
    [
        (structs.replace(FOUND, found_last=2), LINES, "acknowledged before the backup"),
        (structs.replace(FOUND, found_last=7), LINES, "not written yet"),
        (structs.replace(FOUND, found_second_last=2), LINES, "not of one moment"),
        (structs.replace(FOUND, found_second_last=5), LINES, "not of one moment"),
        (FOUND, LINES[:-1], "not the original's"),
        (FOUND, LINES.replace(b"2", b"9"), "not the original's"),
    ],
)
def test_what_is_wrong_with_a_journal_is_said(found: JournalStatus, kept: bytes, words: str):
    assert words in (what_differs(BEFORE, AFTER, found, kept, LINES) or "")


def test_the_second_disk_may_be_one_line_behind():
    assert what_differs(BEFORE, AFTER, structs.replace(FOUND, found_second_last=3), LINES, LINES) is None
