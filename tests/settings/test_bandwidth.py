"""How fast a repository may be synced, by the hours of the day."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from engine.settings import InvalidRate, SettingsError, format_rate, limit_at, parse_rate, read_text, to_text
from engine.settings.model import Bandwidth, BandwidthHours

FILE = Path("/etc/newhope.toml")
MIB = 1 << 20


def bandwidth(*lines: str) -> Bandwidth:
    text = "\n".join(['[repositories.far]\npath = "/srv/far"', *lines])
    settings = read_text(text, FILE)
    assert read_text(to_text(settings), FILE) == settings
    return settings.repositories[0].bandwidth


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2MiB", 2 * MIB), ("2 mib/s", 2 * MIB), ("1.5GiB", 3 << 29), ("500KiB", 500 << 10), ("20MB", 20_000_000),
        ("100Mbit", 12_500_000), ("100Mbit/s", 12_500_000), ("2048B", 2048), ("50M", 50 * MIB),
    ],
)  # fmt: skip
def test_rates_are_read_as_people_write_them(text: str, expected: int):
    assert parse_rate(text) == expected
    assert parse_rate(format_rate(expected)) == expected


@pytest.mark.parametrize("text", ["", "2", "MiB", "2 MiB a second", "-2MiB", "2PiB", "1B", "0MiB", "two MiB", "2MiB/m"])
def test_what_is_no_rate_is_refused_with_an_example(text: str):
    with pytest.raises(InvalidRate) as caught:
        parse_rate(text)
    assert "MiB" in caught.value.next_step


def test_without_a_word_there_is_no_limit():
    assert bandwidth() == Bandwidth()
    assert limit_at(bandwidth(), datetime(2026, 11, 22, 9)) is None


def test_a_window_counts_inside_and_the_standing_limit_outside():
    limits = bandwidth(
        'bandwidth = "20MiB"',
        'bandwidth_hours = [{ from = "08:00", to = "18:00", limit = "2MiB" },',
        '  { from = "22:30", to = "05:00", limit = "unlimited" }]',
    )

    assert limits == Bandwidth(20 * MIB, (BandwidthHours(480, 1080, 2 * MIB), BandwidthHours(22 * 60 + 30, 300, None)))
    by_time = {time: limit_at(limits, datetime.fromisoformat(f"2026-11-22T{time}")) for time in (
        "07:59:59", "08:00:00", "17:59:59", "18:00:00", "22:29:59", "22:30:00", "00:00:00", "04:59:59", "05:00:00",
    )}  # fmt: skip
    assert by_time == {
        "07:59:59": 20 * MIB, "08:00:00": 2 * MIB, "17:59:59": 2 * MIB, "18:00:00": 20 * MIB, "22:29:59": 20 * MIB,
        "22:30:00": None, "00:00:00": None, "04:59:59": None, "05:00:00": 20 * MIB,
    }  # fmt: skip


def test_a_window_may_be_the_whole_day_or_end_at_midnight():
    assert bandwidth('bandwidth_hours = [{ from = "00:00", to = "24:00", limit = "2MiB" }]').hours[0].end == 1440
    evening = bandwidth('bandwidth_hours = [{ from = "18:00", to = "24:00", limit = "2MiB" }]')
    assert limit_at(evening, datetime(2026, 11, 22, 23, 59)) == 2 * MIB
    assert limit_at(evening, datetime(2026, 11, 22, 0, 0)) is None


@pytest.mark.parametrize(
    ("line", "key", "what", "fix"),
    [
        ("bandwidth = 20", "repositories.far.bandwidth", "a number", 'bandwidth = "..."'),
        ('bandwidth = "20"', "repositories.far.bandwidth", "has no unit", "20MiB"),
        ('bandwidth = "fast"', "repositories.far.bandwidth", "not a number of bytes", "unlimited"),
        ('bandwith = "2MiB"', "repositories.far.bandwith", "no setting", "bandwidth"),
        ('bandwidth_hours = "08:00"', "repositories.far.bandwidth_hours", "a text", "from ="),
        ("bandwidth_hours = [8]", "repositories.far.bandwidth_hours[0]", "a number, not a table", "from ="),
        ('bandwidth_hours = [{ from = "08:00", to = "9:60", limit = "2MiB" }]',
         "repositories.far.bandwidth_hours[0].to",
         '"9:60" is not a time', "08:00"),
        ('bandwidth_hours = [{ from = "24:00", to = "25:00", limit = "2MiB" }]',
         "repositories.far.bandwidth_hours[0].from", "not a time", "08:00"),
        ('bandwidth_hours = [{ from = 08:00:00, to = "18:00", limit = "2MiB" }]',
         "repositories.far.bandwidth_hours[0].from", "a date or time", 'from = "..."'),
        ('bandwidth_hours = [{ from = "08:00", to = "08:00", limit = "2MiB" }]',
         "repositories.far.bandwidth_hours[0].to",
         "ends when it begins", "24:00"),
        ('bandwidth_hours = [{ from = "08:00", limit = "2MiB" }]', "repositories.far.bandwidth_hours[0]",
         '"to" is missing', "to ="),
        ('bandwidth_hours = [{ from = "08:00", to = "09:00" }]', "repositories.far.bandwidth_hours[0]",
         '"limit" is missing', "limit ="),
        ('bandwidth_hours = [{ from = "08:00", to = "09:00", rate = "2MiB", limit = "2MiB" }]',
         "repositories.far.bandwidth_hours[0].rate", "no setting", "limit"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line_and_a_fix(line: str, key: str, what: str, fix: str):
    with pytest.raises(SettingsError) as caught:
        bandwidth(line)

    problems = {problem.key: problem for problem in caught.value.problems}
    assert problems[key].line == 3
    assert what in problems[key].what
    assert fix in problems[key].fix


def test_windows_that_overlap_are_refused_because_nobody_could_tell_which_counts():
    with pytest.raises(SettingsError) as caught:
        bandwidth(
            'bandwidth_hours = [{ from = "22:00", to = "06:00", limit = "20MiB" },',
            '  { from = "05:00", to = "08:00", limit = "2MiB" }]',
        )

    (problem,) = caught.value.problems
    assert (problem.line, problem.key) == (4, "repositories.far.bandwidth_hours[1]")
    assert "22:00 to 06:00" in problem.what
