"""A warning that can hurt others, or hide wrong data, is accepted by its name and by nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import ExitCode, NewhopeError
from engine.fleet import CheckState, FitnessCheck
from engine.restore import Request, RestorePlan, accepting, open_warnings, plan, refuse_names, refuse_open
from tests.builders import make_fleet, make_point, make_settings

POINT = make_point("web")


def beside_a_running_original(**choices: Any) -> RestorePlan:
    request = Request(POINT.repository, POINT.manifest.vm.uuid, POINT.id, "coruscant", **choices)
    return plan(make_settings(), make_fleet(points=[POINT]), request)


def test_it_is_refused_with_its_name_and_what_it_means():
    made = beside_a_running_original()

    with pytest.raises(NewhopeError) as refused:
        refuse_open(made.checks, made.request)

    assert refused.value.exit_code == ExitCode.PREFLIGHT
    assert "original: web is running on alderaan" in refused.value.what
    assert "--accept original" in refused.value.next_step


def test_accepted_it_is_no_longer_open_and_stands_in_the_command():
    made = accepting(beside_a_running_original(), ["original"])

    refuse_open(made.checks, made.request)
    assert made.request.accepted == ("original",)
    assert made.command.endswith(" --accept original")


def test_accepting_once_more_keeps_what_was_accepted():
    made = accepting(accepting(beside_a_running_original(), ["pool"]), ["original"])

    assert made.request.accepted == ("original", "pool")
    assert made.command.count("--accept") == 1
    assert made.command.endswith(" --accept original,pool")


def test_what_is_accepted_changes_nothing_of_what_is_done():
    made = beside_a_running_original()
    again = plan(make_settings(), make_fleet(points=[POINT]), accepting(made, ["original"]).request)

    assert again.request.digest == made.request.digest
    assert again.command.endswith(" --accept original")


def test_only_warnings_that_ask_for_it_are_open():
    def make(name: str, state: CheckState, *, by_name: bool) -> FitnessCheck:
        return FitnessCheck(name, state, "evidence", "remedy", by_name=by_name)

    checks = (
        make("MAC addresses", CheckState.WARN, by_name=True),
        make("media", CheckState.WARN, by_name=False),
        make("name", CheckState.FAIL, by_name=True),
        make("pool", CheckState.PASS, by_name=True),
    )

    assert [check.key for check in open_warnings(checks, ())] == ["mac-addresses"]
    assert open_warnings(checks, ["mac-addresses"]) == ()


def test_a_name_that_this_restore_does_not_need_is_fine():
    refuse_names(["trust", "pool-fast", "original"], beside_a_running_original().checks)


def test_a_misspelt_name_is_refused_with_those_that_are_needed():
    with pytest.raises(NewhopeError) as refused:
        refuse_names(["orignal"], beside_a_running_original().checks)

    assert refused.value.exit_code == ExitCode.USAGE
    assert "original" in refused.value.next_step


def test_a_failure_cannot_be_accepted():
    made = beside_a_running_original(pool="nowhere", name="web")

    with pytest.raises(NewhopeError, match="it failed"):
        refuse_names(["network", "name", "UUID", "repository", "definition", "firmware"], [failed("network")])
    assert made.blocked


def failed(name: str) -> FitnessCheck:
    return FitnessCheck(name, CheckState.FAIL, "evidence", "remedy")
