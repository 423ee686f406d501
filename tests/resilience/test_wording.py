"""How findings write ages, lists and commands."""

from __future__ import annotations

import pytest

from engine.resilience.wording import age_in_words, command, counted, listed


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (0, "0s"),
        (42.9, "42s"),
        (60, "1m"),
        (3599, "59m"),
        (3600, "1h"),
        (15_120, "4h12m"),
        (86_399, "23h59m"),
        (86_400, "1d"),
        (273_600, "3d4h"),
        (100 * 86_400, "100d"),
    ],
)
def test_an_age_is_written_in_the_units_that_matter(seconds: float, text: str) -> None:
    assert age_in_words(seconds) == text


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c", "d"], "a, b, c and d"),
        (["a", "b", "c", "d", "e"], "a, b, c and 2 more"),
    ],
)
def test_a_list_is_written_as_a_sentence_has_it(names: list[str], text: str) -> None:
    assert listed(names) == text


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [(0, "VM", "0 VMs"), (1, "VM", "1 VM"), (2, "copy", "2 copies"), (1, "copy", "1 copy"), (3, "object", "3 objects")],
)
def test_a_number_is_written_with_its_noun(number: int, noun: str, text: str) -> None:
    assert counted(number, noun) == text


def test_a_command_is_written_as_a_shell_takes_it() -> None:
    assert command("newhope", "backup", "it's") == "`newhope backup 'it'\"'\"'s'`"
