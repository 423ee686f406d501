"""Whether and when a backup that failed is tried again by the same run. Pure.

What keeps a backup from succeeding often passes by itself in minutes: another program's snapshot or block job on the
VM, a migration, a host that reboots. Everything else would fail again in the same way, and is left to the next run,
which waits longer after each failure (`requirements.due`).
"""

from __future__ import annotations

from collections.abc import Collection

from engine.errors import ExitCode
from engine.settings.model import Method

WAITS_S = (20.0, 120.0, 600.0)
"""Before the second, third and fourth attempt; there is no fifth."""
_PASSES: Collection[int] = (ExitCode.CONFLICT, ExitCode.HOST_UNREACHABLE)


def wait_before_again_s(method: Method, exit_code: int, failed: int) -> float | None:
    """Return how many seconds to wait after that many attempts failed, the last with `exit_code`; None for no more.

    One that the guest notices is tried again only after a conflict, which is found before the guest is touched: after
    any other failure it could be shut down, or paused, a second time.
    """
    if exit_code not in _PASSES or failed > len(WAITS_S):
        return None
    if method is not Method.HOT and exit_code != ExitCode.CONFLICT:
        return None
    return WAITS_S[failed - 1]
