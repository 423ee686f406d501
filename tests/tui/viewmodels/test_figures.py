from datetime import UTC, datetime, timedelta, timezone

import pytest

from tui.viewmodels import figures

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "-"),
        (-5, "now"),
        (59, "now"),
        (60, "1m"),
        (3599, "59m"),
        (3600, "1h00"),
        (11100, "3h05"),
        (86400, "1d"),
        (2 * 86400 + 4 * 3600, "2d 4h"),
        (41 * 86400 + 3600, "41d"),
    ],
)
def test_an_age_is_said_as_a_person_would(seconds: float | None, said: str) -> None:
    assert figures.age(seconds) == said


@pytest.mark.parametrize("seconds", [0, 61, 3700, 90_000, 9 * 86400 + 23 * 3600, 400 * 86400])
def test_an_age_never_takes_more_than_six_cells(seconds: int) -> None:
    assert len(figures.age(seconds)) <= 6


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (9.94 * 2**30, "9.9 GiB"),
        (10 * 2**30, "10 GiB"),
        (2**50, "1.0 PiB"),
    ],
)
def test_a_size_has_the_figures_that_matter(count: float, said: str) -> None:
    assert figures.size(count) == said


@pytest.mark.parametrize("count", [2**exponent - 1 for exponent in range(1, 60)])
def test_a_size_never_takes_more_than_eight_cells(count: int) -> None:
    assert len(figures.size(count)) <= 8


def test_nothing_is_a_hundred_percent_before_it_is_all() -> None:
    assert figures.percent(999_999, 1_000_000) == "99%"
    assert figures.percent(1_000_000, 1_000_000) == "100%"
    assert figures.percent(5, 0) == "-"


def test_a_moment_is_as_long_as_it_must_be_and_on_the_operators_clock() -> None:
    zone = timezone(timedelta(hours=2))

    assert figures.moment(NOW - timedelta(hours=1), NOW, zone) == "13:00"
    assert figures.moment(NOW - timedelta(days=1), NOW, zone) == "11-21 14:00"
    assert figures.moment(NOW - timedelta(days=400), NOW, zone) == "2025-10-18"
    assert figures.moment(None, NOW, zone) == "-"


@pytest.mark.parametrize(
    ("seconds", "said"), [(900, "15m"), (3600, "1h"), (86400, "1d"), (90, "90s"), (5400, "90m"), (7, "7s")]
)
def test_a_requirement_is_said_as_it_is_set(seconds: int, said: str) -> None:
    assert figures.limit(seconds) == said


def test_a_duration_that_is_measured_shows_its_seconds() -> None:
    assert figures.span(7) == "0:07"
    assert figures.span(760) == "12:40"
    assert figures.span(3729) == "1:02:09"
