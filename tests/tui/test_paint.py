from hypothesis import given
from hypothesis import strategies as st

from tui.viewmodels.text import Line, Span, Tone, line
from tui.widgets.paint import changed_runs, fitted

LINES = st.lists(st.builds(Span, st.text("ab ", max_size=9), st.sampled_from(Tone)), max_size=6).map(tuple)


def cells(of: Line, width: int) -> list[tuple[str, Tone]]:
    found = [(letter, span.tone) for span in of for letter in span.text]
    return found + [(" ", Tone.PLAIN)] * (width - len(found))


@given(LINES, LINES)
def test_writing_only_the_changed_runs_gives_the_new_line(old: Line, new: Line) -> None:
    width = 60
    shown, wanted = cells(old, width), cells(new, width)

    for first, end in changed_runs(old, new):
        shown[first:end] = wanted[first:end]

    same_look = [(letter, Tone.PLAIN if letter == " " and tone is not Tone.HERE else tone) for letter, tone in shown]
    assert same_look == [(x, Tone.PLAIN if x == " " and tone is not Tone.HERE else tone) for x, tone in wanted]


def test_what_did_not_change_is_not_written() -> None:
    assert changed_runs(line("web  20m"), line("web  20m")) == []
    assert changed_runs(line("web  20m"), line("web  21m")) == [(6, 7)]


def test_changes_that_are_near_are_written_as_one() -> None:
    assert changed_runs(line("a....b"), line("x....y")) == [(0, 6)]
    assert changed_runs(line("a" + "." * 20 + "b"), line("x" + "." * 20 + "y")) == [(0, 1), (21, 22)]


@given(st.text(max_size=30), st.integers(1, 40), st.booleans())
def test_a_cell_is_exactly_as_wide_as_its_column(text: str, width: int, right: bool) -> None:
    from rich.cells import cell_len

    assert cell_len(fitted(text, width, right=right)) == width


def test_what_is_cut_off_is_marked() -> None:
    assert fitted("alderaan", 5) == "alde…"
    assert fitted("ab", 4, right=True) == "  ab"
