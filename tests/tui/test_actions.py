"""The list of actions is what keys, footer, palette and help read; it must be without contradiction."""

import importlib
from collections import Counter

import pytest

from tui.actions import ACTIONS, Place, actions_of
from tui.keys import footer_line
from tui.screens.base import ConsoleScreen
from tui.viewmodels.help_sheet import help_sheet
from tui.viewmodels.text import plain_text

_SCREENS = {
    Place.FLEET: ("fleet", "FleetScreen"),
    Place.VM: ("vm", "VmScreen"),
    Place.BACKUP: ("backup", "BackupScreen"),
    Place.RESTORE: ("restore", "RestoreScreen"),
    Place.FILES: ("files", "FilesScreen"),
    Place.RESTORES: ("restores", "RestoresScreen"),
    Place.CONFIRM: ("confirm", "ConfirmScreen"),
    Place.WHAT_NOW: ("what_now", "WhatNowScreen"),
    Place.JOBS: ("jobs", "JobsScreen"),
    Place.JOB: ("job", "JobScreen"),
    Place.CHECKS: ("checks", "ChecksScreen"),
    Place.PROBLEMS: ("problems", "ProblemsScreen"),
    Place.HELP: ("help", "HelpScreen"),
}


def screen_of(place: Place) -> type[ConsoleScreen]:
    module, name = _SCREENS[place]
    return getattr(importlib.import_module(f"tui.screens.{module}"), name)


def never(action: str) -> str | None:
    return None


@pytest.mark.parametrize("place", Place)
def test_no_key_means_two_things_in_one_place(place: Place) -> None:
    keys = Counter(key for action in actions_of(place) for key in action.keys)

    assert [key for key, count in keys.items() if count > 1] == []


@pytest.mark.parametrize("place", Place)
def test_every_action_is_there_where_it_is_offered(place: Place) -> None:
    missing = [action.id for action in actions_of(place) if not hasattr(screen_of(place), f"action_{action.id}")]

    assert missing == []


@pytest.mark.parametrize("place", Place)
def test_a_screen_knows_its_place(place: Place) -> None:
    assert screen_of(place).place is place


def test_executing_is_possible_only_where_that_is_asked() -> None:
    places = [action.places for action in ACTIONS if action.id == "execute"]
    assert places == [frozenset({Place.CONFIRM}), frozenset({Place.WHAT_NOW})]
    assert not any("E" in action.keys for action in ACTIONS if action.id != "execute")


def test_enter_never_executes_cancels_or_deletes() -> None:
    assert {action.id for action in ACTIONS if "enter" in action.keys} == {"open", "onward"}


@pytest.mark.parametrize("place", Place)
@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_footer_fits_and_has_seven_keys_at_most_on_a_small_terminal(place: Place, width: int) -> None:
    text = plain_text(footer_line(place, width, never))

    assert len(text.rstrip()) <= width
    if width < 100:
        assert len([part for part in text.split("  ") if part.strip()]) <= 7
    if place not in (Place.CONFIRM, Place.WHAT_NOW):
        assert "q quit" in text


def test_what_is_not_possible_is_in_brackets_and_not_hidden_where_there_is_room() -> None:
    text = plain_text(footer_line(Place.VM, 140, lambda action: "no" if action == "restore" else None))

    assert "(R restore)" in text


@pytest.mark.parametrize("place", Place)
def test_the_help_sheet_names_every_key_of_a_place(place: Place) -> None:
    said = "\n".join(plain_text(one) for one in help_sheet(place, 76, never))

    assert all(action.help.split()[0] in said for action in actions_of(place))


def test_the_help_sheet_says_why_something_is_not_possible_now() -> None:
    said = "\n".join(
        plain_text(one) for one in help_sheet(Place.VM, 76, lambda action: "no point" if action == "restore" else None)
    )

    assert "not now: no point" in said
