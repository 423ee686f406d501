"""A plan with every check made: the fleet as it was last seen, and what repository, host and journal say right now."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import structs

from engine.fleet import Fleet, find_snapshot
from engine.hosts import HostLane
from engine.hosts.model import HostStatus
from engine.restore.evidence import gather_evidence
from engine.restore.model import Request, RestorePlan
from engine.restore.plan import find_point, plan
from engine.restore.rates import Rates
from engine.settings import Settings


def examined_plan(
    settings: Settings, lanes: Mapping[str, HostLane], fleet: Fleet, request: Request, rates: Rates
) -> RestorePlan:
    """Plan a restore, ask everybody about exactly that one, and judge it. Raises what `plan` raises."""
    first = plan(settings, fleet, request, rates)
    decided = first.request
    target = find_snapshot(fleet, decided.to_host)
    lane = lanes[target.host] if target.status is HostStatus.ONLINE else None
    evidence = gather_evidence(settings, lane, target, find_point(fleet, decided), decided)
    return structs.replace(plan(settings, fleet, decided, rates, evidence), hosts=first.hosts)
