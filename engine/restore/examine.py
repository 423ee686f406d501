"""A plan with every check made: the fleet as it was last seen, and what repository, host and journal say right now."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from msgspec import structs

from engine.errors import NewhopeError
from engine.fleet import Fleet, HostFitness, find_snapshot, open_repository
from engine.hosts import HostLane
from engine.hosts.answers import HostAnswers, ask
from engine.hosts.model import HostSnapshot, HostStatus
from engine.repository import Point, Repository
from engine.restore.decide import best_host, decide, hosts_by_fitness
from engine.restore.evidence import definition_in, gather_evidence, question_of
from engine.restore.model import Request, RestorePlan
from engine.restore.plan import find_point, plan
from engine.restore.rates import Rates
from engine.settings import Settings, find_repository


def examined_plan(
    settings: Settings, lanes: Mapping[str, HostLane], fleet: Fleet, request: Request, rates: Rates
) -> RestorePlan:
    """Plan a restore, ask everybody about exactly that one, and judge it. Raises what `plan` raises."""
    point = find_point(fleet, request)
    hosts: tuple[HostFitness, ...] = ()
    with _opened(settings, request) as opened:
        if not request.to_host:
            hosts = hosts_by_fitness(settings, fleet, point, _answers(settings, opened, lanes, fleet, point, request))
            request = structs.replace(request, to_host=best_host(hosts))
        decided = plan(settings, fleet, request, rates).request
        target = find_snapshot(fleet, decided.to_host)
        lane = lanes[target.host] if target.status is HostStatus.ONLINE else None
        evidence = gather_evidence(settings, opened, lane, target, point, decided)
    return structs.replace(plan(settings, fleet, decided, rates, evidence), hosts=hosts)


@contextmanager
def _opened(settings: Settings, request: Request) -> Generator[Repository | NewhopeError]:
    """The request's repository, or why it cannot be opened, of which the plan's checks tell."""
    try:
        repository = open_repository(find_repository(settings, request.repository))
    except NewhopeError as error:
        yield error
        return
    with repository:
        yield repository


def _answers(
    settings: Settings,
    opened: Repository | NewhopeError,
    lanes: Mapping[str, HostLane],
    fleet: Fleet,
    point: Point,
    request: Request,
) -> dict[str, HostAnswers]:
    """What each host says that answers, asked side by side; one that cannot be asked is judged by what is known."""
    if isinstance(opened, NewhopeError):
        return {}
    try:
        with opened.reader() as reader:
            definition = definition_in(point, reader)
    except NewhopeError:
        # The plan's own checks tell of it.
        return {}
    answering = [each for each in fleet.snapshots if each.status is HostStatus.ONLINE]
    if definition is None or not request.defines or not answering:
        return {}

    def answer(snapshot: HostSnapshot) -> HostAnswers | None:
        to_host = structs.replace(request, to_host=snapshot.host)
        decided = decide(settings, fleet, to_host, point, snapshot)
        try:
            return ask(lanes[snapshot.host], question_of(point, decided, snapshot, definition))
        except (NewhopeError, ValueError):
            return None

    with ThreadPoolExecutor(len(answering), thread_name_prefix="ask hosts") as pool:
        said = zip(answering, pool.map(answer, answering), strict=True)
        return {snapshot.host: answers for snapshot, answers in said if answers is not None}
