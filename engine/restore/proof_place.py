"""Where a point is proven when nobody chose a host, and nobody is there to look at what speaks against one.

A proof is a guest, and a guest that takes memory which others need would do more harm than good: a host counts only if
no check of its plan fails, and no warning is left that an operator would have to accept by name. A point that is
doubted is one to be proven all the more, so that this is accepted.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import structs

from engine.errors import ExitCode, NewhopeError
from engine.fleet import CheckState, Fleet, Verdict
from engine.hosts import HostLane
from engine.restore.acceptance import open_warnings
from engine.restore.examine import examined_plan
from engine.restore.model import AtEnd, Mode, Request, RestorePlan
from engine.restore.plan import plan
from engine.restore.rates import Rates
from engine.settings import Settings

KEPT_S = 3600
"""How long the VM of a proof may stay whose removal failed, before it is tried again (`settle.overdue`)."""
PROOF_ACCEPTS = ("trust",)
"""Warnings that every proof accepts by name: they say what it is about to find out."""


class NoPlaceForProof(NewhopeError):
    """No host can take the guest of a proof now."""

    exit_code = ExitCode.PREFLIGHT


def as_proof(request: Request) -> Request:
    """The request, made one that proves its point and takes everything away."""
    return structs.replace(
        request,
        mode=Mode.TEST,
        keep_for_s=KEPT_S,
        at_end=AtEnd.UNDO,
        reason="proof",
        proves=True,
        accepted=PROOF_ACCEPTS,
    )


def place_proof(
    settings: Settings, lanes: Mapping[str, HostLane], fleet: Fleet, request: Request, rates: Rates
) -> RestorePlan:
    """Plan the proof on the fittest host that can take it. Raises NoPlaceForProof, NotFound."""
    ranking = plan(settings, fleet, request, rates)
    refused: list[str] = []
    for host in ranking.hosts:
        reason = host.reason
        if host.verdict is not Verdict.DOES_NOT_FIT:
            tried = examined_plan(settings, lanes, fleet, structs.replace(request, to_host=host.host), rates)
            reason = _against(tried)
            if not reason:
                return tried
        refused.append(f"{host.host}: {reason}")
    raise NoPlaceForProof(
        f"No host can take the proof of {ranking.vm} now. {'; '.join(refused) or 'There is none'}.",
        untouched="The recovery point is as it was, and nothing was started.",
        next_step=f"see what speaks against each host: newhope prove {ranking.vm}@{request.point_id[:8]} --dry-run.",
    )


def _against(tried: RestorePlan) -> str:
    """Why a plan is not carried out with nobody there; empty if it is."""
    failed = [check for check in tried.checks if check.state is CheckState.FAIL]
    wanted = [*failed, *open_warnings(tried.checks, tried.request.accepted)]
    return "; ".join(check.evidence for check in wanted)
