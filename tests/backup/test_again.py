"""Whether and when a backup that failed is tried again by the same run."""

from __future__ import annotations

import pytest

from engine.backup import wait_before_again_s
from engine.errors import ExitCode
from engine.settings import Method


def test_what_may_pass_is_tried_three_times_again_each_time_later() -> None:
    waits = [wait_before_again_s(Method.HOT, ExitCode.CONFLICT, failed) for failed in range(1, 5)]

    assert waits == [20, 120, 600, None]


@pytest.mark.parametrize("code", sorted(set(ExitCode) - {ExitCode.CONFLICT, ExitCode.HOST_UNREACHABLE}))
def test_nothing_else_is_tried_again(code: ExitCode) -> None:
    assert wait_before_again_s(Method.HOT, code, 1) is None


@pytest.mark.parametrize("method", sorted(set(Method) - {Method.HOT}))
def test_no_guest_is_interrupted_twice_by_one_run(method: Method) -> None:
    assert wait_before_again_s(method, ExitCode.HOST_UNREACHABLE, 1) is None
    assert wait_before_again_s(method, ExitCode.CONFLICT, 1) is not None
