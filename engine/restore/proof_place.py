"""Where a point is proven when nobody chose a host, and nobody is there to look at what speaks against one. Pure.

A proof is a guest, and a guest that takes memory which others need would do more harm than good: a host counts only if
what the VM needs is free there now.
"""

from __future__ import annotations

from msgspec import structs

from engine.errors import ExitCode, NewhopeError
from engine.fleet import CheckState, Fleet, HostFitness, Verdict
from engine.restore.acceptance import open_warnings
from engine.restore.model import AtEnd, Mode, Request, RestorePlan
from engine.restore.plan import plan
from engine.restore.rates import Rates
from engine.settings import Settings

KEPT_S = 3600
"""How long the VM of a proof may stay whose removal failed, before it is tried again (`settle.overdue`)."""
_MEMORY = "memory"


class NoPlaceForProof(NewhopeError):
    """No host can take the guest of a proof now."""

    exit_code = ExitCode.PREFLIGHT


def proof_request(repository: str, vm_uuid: str, point_id: str, operator: str) -> Request:
    """The request that proves a point, its host left open."""
    return Request(
        repository=repository,
        vm_uuid=vm_uuid,
        point_id=point_id,
        operator=operator,
        mode=Mode.TEST,
        keep_for_s=KEPT_S,
        at_end=AtEnd.UNDO,
        reason="proof",
        proves=True,
    )


def place_proof(settings: Settings, fleet: Fleet, request: Request, rates: Rates) -> RestorePlan:
    """Plan the proof on the fittest host that can take it. Raises NoPlaceForProof, NotFound."""
    ranking = plan(settings, fleet, request, rates)
    refused: list[str] = []
    for host in ranking.hosts:
        reason = _against(host)
        if not reason:
            tried = plan(settings, fleet, structs.replace(request, to_host=host.host), rates)
            # Nobody is there who could accept a warning by its name.
            standing = [check for check in tried.checks if check.state is CheckState.FAIL]
            standing += open_warnings(tried.checks, ())
            if not standing:
                return tried
            reason = standing[0].evidence
        refused.append(f"{host.host}: {reason}")
    raise NoPlaceForProof(
        f"No host can take the proof of {ranking.vm} now. {'; '.join(refused)}.",
        untouched="The recovery point is as it was, and nothing was started.",
        next_step=f"see each host's fitness: newhope prove {ranking.vm}@{request.point_id[:8]} --dry-run.",
    )


def _against(host: HostFitness) -> str:
    """Why a host is not even tried; empty if it is."""
    if host.verdict is Verdict.DOES_NOT_FIT:
        return host.reason
    memory = next((check for check in host.checks if check.name == _MEMORY), None)
    return memory.evidence if memory is not None and memory.state is not CheckState.PASS else ""
