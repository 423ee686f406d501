"""Restores planned from a fleet and what was said of it, and single checks of them."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from engine.fleet import FitnessCheck
from engine.hosts.answers import HostAnswers
from engine.repository import Presence
from engine.repository.model import FileRecord
from engine.restore import Evidence, NetworkMapping, Request, RestorePlan, plan
from engine.restore.evidence import RepositoryEvidence
from tests.builders import GIB, make_fleet, make_host, make_point, make_settings, make_vm

WHOLE = RepositoryEvidence(blocks=Presence(4000, 0))

TAKEN = HostAnswers(taken_by_libvirt=True)

ASKED = Evidence(repository=WHOLE, answers=TAKEN, others=())


def planned(
    point: Any = None, *, evidence: Evidence = ASKED, fleet: Any = None, target: Any = None, **choices: Any
) -> RestorePlan:
    point = point or make_point("web")
    if fleet is None:
        hosts = [make_host("alderaan", vms=[make_vm("web")]), target or make_host("coruscant"), make_host("yavin")]
        fleet = make_fleet(hosts=hosts, points=[point])
    request = Request(point.repository, point.manifest.vm.uuid, point.id, "coruscant", **choices)
    return plan(make_settings(), fleet, request, evidence=evidence)


def check(made: RestorePlan, name: str) -> FitnessCheck:
    return next(each for each in made.checks if each.name == name)


def names(made: RestorePlan) -> list[str]:
    return [each.name for each in made.checks]


def of_answers(**answers: Any) -> Evidence:
    return structs.replace(ASKED, answers=structs.replace(TAKEN, **answers))


def of_repository(**changes: Any) -> Evidence:
    return structs.replace(ASKED, repository=structs.replace(WHOLE, **changes))


def saved(**changes: Any) -> Any:
    memory = FileRecord("saved-state", "memory and devices", 3 * GIB, "ab" * 32, 1)
    return make_point("web", files=(memory,), **changes)


ISOLATED = (NetworkMapping(0, "isolated"),)
