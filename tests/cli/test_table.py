from datetime import UTC, datetime, timedelta

import pytest

from engine.cli.table import Column, bad, good, lines
from engine.cli.wording import age, count, local, since, size

COLUMNS = (Column("VM", gives_way=True), Column("STATE"), Column("SIZE", right=True))


def test_columns_are_aligned_and_states_are_words_with_shapes() -> None:
    rows = [("web", good("OK"), "1 GiB"), ("database", bad("FAIL"), "12 GiB")]

    assert lines(COLUMNS, rows, width=None, colour=False) == [
        "VM        STATE     SIZE",
        "web       + OK     1 GiB",
        "database  x FAIL  12 GiB",
    ]


def test_colour_adds_nothing_but_colour() -> None:
    rows = [("web", good("OK"), "1 GiB")]

    plain, coloured = (lines(COLUMNS, rows, width=None, colour=colour) for colour in (False, True))

    assert coloured[1] != plain[1]
    assert coloured[1].replace("\x1b[32m", "").replace("\x1b[0m", "") == plain[1]


def test_a_narrow_screen_cuts_only_what_may_give_way() -> None:
    rows = [("a-very-long-name-of-a-machine", good("OK"), "1 GiB")]

    narrow = lines(COLUMNS, rows, width=30, colour=False)

    assert max(len(line) for line in narrow) <= 30
    assert "a-very-long" in narrow[1] and ".." in narrow[1] and narrow[1].endswith("1 GiB")


def test_a_last_column_that_folds_loses_no_word() -> None:
    columns = (Column("CHECK"), Column("EVIDENCE", folds=True))
    rows = [(bad("FAIL"), "the pool default on alderaan is not active"), (good("PASS"), "")]

    assert lines(columns, rows, width=30, colour=False) == [
        "CHECK   EVIDENCE",
        "x FAIL  the pool default on",
        "        alderaan is not active",
        "+ PASS",
    ]
    assert len(lines(columns, rows, width=None, colour=False)) == 3


def test_no_rows_leave_the_heading() -> None:
    assert lines(COLUMNS, [], width=80, colour=False) == ["VM  STATE  SIZE"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (42.9, "42 s"), (725, "12 m 05 s"), (7380, "2 h 03 m"), (273_600, "3 d 04 h"), (-5, "0 s")],
)
def test_ages(seconds: float, text: str) -> None:
    assert age(seconds) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (250 << 20, "250 MiB"), (3 << 40, "3.0 TiB")],
)
def test_sizes(size_bytes: int, text: str) -> None:
    assert size(size_bytes) == text


def test_times_are_local_and_have_their_date() -> None:
    moment = datetime(2026, 11, 22, 8, 13, 5, tzinfo=UTC)

    assert local(moment) == moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    assert since(moment, moment + timedelta(hours=2, minutes=3)) == "2 h 03 m"


def test_counted_words() -> None:
    assert (count(1, "VM"), count(0, "VM"), count(2, "VM")) == ("1 VM", "0 VMs", "2 VMs")
