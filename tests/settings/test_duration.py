"""Durations as people write them, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import ExitCode
from engine.settings import InvalidDuration, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1s", 1),
        ("90s", 90),
        ("30m", 1800),
        ("4h", 14400),
        ("1d", 86400),
        ("1w", 604800),
        ("1d12h", 129600),
        ("1d 12h", 129600),
        (" 2h ", 7200),
        ("1H30M", 5400),
        ("1w2d3h4m5s", 788645),
        ("36h", 129600),
        ("007m", 420),
    ],
)
def test_a_duration_is_read_as_people_write_it(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("-4h", "negative"),
        ("-1", "negative"),
        ("0s", "zero"),
        ("0h0m", "zero"),
        ("15", "no unit"),
        ("four hours", "not a duration"),
        ("4x", "not a duration"),
        ("4h4h", "not a duration"),
        ("30m1h", "not a duration"),
        ("1.5h", "not a duration"),
        ("h", "not a duration"),
        ("4 h 3", "not a duration"),
        ("٤h", "not a duration"),
        ("9999999999w", "hundred years"),
    ],
)
def test_what_is_no_duration_is_refused_with_the_way_to_write_it(text: str, word: str) -> None:
    with pytest.raises(InvalidDuration) as caught:
        parse_duration(text)

    assert word in caught.value.what
    assert '"' in caught.value.next_step
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.4, "0s"),
        (59.6, "1m"),
        (61, "1m1s"),
        (3600, "1h"),
        (129600, "1d12h"),
        (700000, "8d2h26m40s"),
        (-90, "-1m30s"),
    ],
)
def test_a_duration_is_written_short(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(min_value=1, max_value=100 * 365 * 86400))
def test_what_is_written_reads_back_as_the_same_duration(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds
