"""Several slow questions at once."""

from __future__ import annotations

import threading

import pytest

from engine.fleet.side_by_side import ask_all


def test_answers_come_by_name() -> None:
    assert ask_all({"a": lambda: 1, "b": lambda: 2}, timeout_s=60) == {"a": 1, "b": 2}


def test_no_question_has_no_answer() -> None:
    assert ask_all({}, timeout_s=60) == {}


def test_questions_are_asked_at_the_same_time() -> None:
    meeting = threading.Barrier(3)

    answers = ask_all({name: lambda: meeting.wait(timeout=60) >= 0 for name in "abc"}, timeout_s=60)

    assert answers == {"a": True, "b": True, "c": True}


def test_a_question_without_answer_holds_up_nobody() -> None:
    over = threading.Event()

    answers = ask_all({"hangs": lambda: over.wait(600), "quick": lambda: True}, timeout_s=1)

    over.set()
    assert answers == {"quick": True}


def test_a_question_may_have_a_longer_limit_and_then_waits_for_no_other() -> None:
    begun, over = threading.Event(), threading.Event()

    def slow() -> bool:
        begun.wait(60)
        return not over.wait(1.5)

    def hang() -> bool:
        begun.set()
        return over.wait(600)

    answers = ask_all({"hangs": hang, "slow": slow}, timeout_s=0.2, longer={"slow": 60})

    over.set()
    assert answers == {"slow": True}


def test_an_answer_of_none_is_an_answer() -> None:
    assert ask_all({"a": lambda: None}, timeout_s=60) == {"a": None}


def test_a_defect_is_not_hidden() -> None:
    def fail() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ask_all({"fails": fail, "works": lambda: 1}, timeout_s=60)
