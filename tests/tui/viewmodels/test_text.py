from hypothesis import given
from hypothesis import strategies as st

from tui.viewmodels.text import (
    Column,
    between,
    clipped,
    fitting,
    labelled,
    line,
    plain_text,
    quiet,
    rule,
    width_of,
    wrapped,
)


def test_a_rule_names_what_is_below_it_and_reaches_across() -> None:
    text = plain_text(rule("VMS (3)", 40, "worst first"))

    assert len(text) == 40
    assert text.startswith("── VMS (3) ─")
    assert text.endswith(" worst first ──")


def test_a_sentence_is_broken_under_itself() -> None:
    lines = [plain_text(one) for one in labelled("NEXT", "one two three four five six", 20)]

    assert lines == ["NEXT     one two", "         three four", "         five six"]


def test_the_left_end_of_a_line_gives_way_to_the_right_one() -> None:
    text = plain_text(between(line("a long title that does not fit"), line("as of 12:04"), 24))

    assert len(text) == 24
    assert text.endswith(" as of 12:04")
    assert "…" in text


@given(st.lists(st.text("abc ", max_size=12), max_size=5), st.integers(0, 40))
def test_a_clipped_line_is_never_wider_than_allowed(parts: list[str], width: int) -> None:
    whole = line(*parts)

    cut = clipped(whole, width)

    assert width_of(cut) <= max(width, 0)
    assert width_of(whole) > width or cut == whole


@given(st.lists(st.text("abcdefg", min_size=1, max_size=12), max_size=40), st.integers(20, 80))
def test_wrapping_keeps_every_word_and_the_width(words: list[str], width: int) -> None:
    lines = wrapped(" ".join(words), width, first="  - ")

    assert all(width_of(one) <= width for one in lines)
    assert [word for one in lines for word in plain_text(one)[4:].split()] == words


def test_columns_are_given_up_in_the_order_that_was_said() -> None:
    columns = (Column("a", "A", 10), Column("b", "B", 10), Column("c", "C", 10))

    assert [column.key for column in fitting(columns, 33, give_up=("b", "c"))] == ["a", "b", "c"]
    assert [column.key for column in fitting(columns, 32, give_up=("b", "c"))] == ["a", "c"]
    assert [column.key for column in fitting(columns, 12, give_up=("b", "c"))] == ["a"]


def test_a_span_that_is_empty_is_left_out() -> None:
    assert line("", quiet("x"), "") == (quiet("x"),)
