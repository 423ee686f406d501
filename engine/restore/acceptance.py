"""Warnings that are accepted by name: which are open, and what it takes to go on.

A general yes is an answer to a question that was read to its end. At 03:00 it is not always. So a warning that can hurt
a VM or a pool that is not restored at all, or that can hide wrong data, has to be named: `original`, `uuid`,
`mac-addresses`, `memory`, `pool`, `device`, `trust`, `other-jobs`. The run holds the list against its own look at the
hosts: what has become dangerous since the plan stops it.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import structs

from engine.errors import ExitCode, NewhopeError
from engine.fleet import CheckState, FitnessCheck
from engine.restore.model import Request, RestorePlan
from engine.restore.plan import accept_words

_KEYS = frozenset({"original", "uuid", "mac-addresses", "memory", "device", "trust", "other-jobs"})


class NotAccepted(NewhopeError):
    """A warning that has to be accepted by name was not."""

    exit_code = ExitCode.PREFLIGHT


class NoSuchWarning(NewhopeError):
    """A name that was given is that of no warning which is accepted by name."""

    exit_code = ExitCode.USAGE


def open_warnings(checks: Iterable[FitnessCheck], accepted: Iterable[str]) -> tuple[FitnessCheck, ...]:
    """Those that have to be accepted by name, and were not."""
    names = set(accepted)
    return tuple(
        check for check in checks if check.state is CheckState.WARN and check.by_name and check.key not in names
    )


def refuse_names(names: Iterable[str], checks: Iterable[FitnessCheck]) -> None:
    """Raise NoSuchWarning for a name that can never be one; one that this restore does not need is fine."""
    checks = tuple(checks)
    by_name = sorted({check.key for check in checks if check.by_name})
    for name in names:
        if name in _KEYS or name in by_name or name.startswith("pool"):
            continue
        failed = any(check.key == name and check.state is CheckState.FAIL for check in checks)
        why = "it failed, and a failure cannot be accepted" if failed else "no warning of that name is accepted so"
        raise NoSuchWarning(
            f"--accept {name}: {why}.",
            next_step=f"this restore has to be told: {', '.join(by_name)}." if by_name else "leave --accept out.",
        )


def accepting(plan: RestorePlan, names: Iterable[str]) -> RestorePlan:
    """The same plan, with these warnings accepted too."""
    return with_accepted(plan, {*plan.request.accepted, *names})


def with_accepted(plan: RestorePlan, names: Iterable[str]) -> RestorePlan:
    """The same plan, with these warnings accepted and no others."""
    accepted = tuple(sorted(names))
    command = plan.command.removesuffix(accept_words(plan.request.accepted)) + accept_words(accepted)
    return structs.replace(plan, request=structs.replace(plan.request, accepted=accepted), command=command)


def refuse_open(checks: Iterable[FitnessCheck], request: Request) -> None:
    """Raise NotAccepted if a warning is open."""
    found = open_warnings(checks, request.accepted)
    if not found:
        return
    keys = sorted({*request.accepted, *(check.key for check in found)})
    told = "; ".join(f"{check.name}: {check.evidence} ({check.meaning})" for check in found)
    raise NotAccepted(
        f"{request.name} is not restored to {request.to_host} before this is accepted by name: {told}.",
        next_step=f"{found[0].remedy}; or accept it: --accept {','.join(keys)}.",
    )
