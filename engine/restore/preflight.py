"""What stands in the way of a restore, found before anything is touched: pure, from the fleet and gathered evidence.

1. The host: whether the VM can run there (`engine.fleet.fitness`), and what it said itself (`preflight_ties`).
2. The point: repository, key, blocks, how far its content can be trusted (`preflight_point`).
3. Room: every pool that is written to, with what other restores have yet to write there (`preflight_space`).
4. Identity: name, UUID, addresses, and where the original and its twins are, on every host (`preflight_identity`).

PASS, WARN, FAIL, or SKIP where something could not be asked. A failure blocks. A warning is accepted by going on, but
for those that can hurt what is not restored, or hide wrong data: these are accepted by name (`acceptance`).
"""

from __future__ import annotations

from msgspec import structs

from engine.fleet import WOULD_NOT_START, CheckState, FitnessCheck, Fleet, fitness
from engine.hosts.model import HostSnapshot
from engine.repository import Point, VmFacts
from engine.restore.becoming import cpu_choice
from engine.restore.evidence import Evidence
from engine.restore.model import Request
from engine.restore.preflight_identity import identity_checks
from engine.restore.preflight_instant import instant_checks
from engine.restore.preflight_point import point_checks
from engine.restore.preflight_space import space_checks
from engine.restore.preflight_ties import ties_checks

_OF_DISKS = ("host",)
"""Checks of a host's fitness that matter for disks without a VM."""
_NOT_ASKED = Evidence()


def preflight(
    fleet: Fleet, point: Point, target: HostSnapshot, request: Request, evidence: Evidence = _NOT_ASKED
) -> tuple[FitnessCheck, ...]:
    """Every check of a decided request against the target host as it was last seen; failures first."""
    fit = fitness(
        with_choices(point.manifest.vm, request),
        target,
        pool=request.pool,
        networks=tuple(mapping.to for mapping in request.networks),
        answers=evidence.answers,
        saved_with=evidence.saved_with if request.memory else "",
        starts=request.start,
    )
    asked = (_chosen_cpu(check, target, request) for check in fit.checks if check.name != "pool")
    of_host = [check for check in asked if request.defines or check.name in _OF_DISKS]
    checks = [
        *of_host,
        *space_checks(point, target, request, evidence.others or ()),
        *point_checks(fleet, point, request, evidence.repository),
        *_chosen_hardware(point, request),
        *instant_checks(point, target, request),
    ]
    if request.defines:
        checks += identity_checks(fleet, point, target, request)
    checks += ties_checks(fleet, point, target, request, evidence)
    order = (CheckState.FAIL, CheckState.WARN, CheckState.PASS, CheckState.SKIP)
    return tuple(sorted(checks, key=lambda check: (order.index(check.state), not check.by_name)))


def with_choices(facts: VmFacts, request: Request) -> VmFacts:
    """The VM with the machine type and CPU that the operator chose for it."""
    cpu = cpu_choice(request.cpu)
    return structs.replace(
        facts,
        machine=request.machine or facts.machine,
        cpu_mode=cpu.mode if cpu is not None else facts.cpu_mode,
        cpu_model=cpu.model if cpu is not None else facts.cpu_model,
    )


def _chosen_cpu(check: FitnessCheck, target: HostSnapshot, request: Request) -> FitnessCheck:
    """A CPU that was chosen is given as it is, never replaced by what the host has."""
    if check.name != "CPU" or not request.cpu or not check.flawed:
        return check
    return FitnessCheck(
        name="CPU",
        state=CheckState.FAIL,
        evidence=f"{target.host} cannot give it the CPU {request.cpu}",
        remedy="leave --cpu out, or choose what the host itself can give: --cpu host-model or --cpu maximum",
        changeable=True,
        meaning=WOULD_NOT_START,
    )


def _chosen_hardware(point: Point, request: Request) -> tuple[FitnessCheck, ...]:
    """What the operator chose is said once more, with what it means."""
    facts = point.manifest.vm
    if not request.defines or not request.machine or request.machine == facts.machine:
        return ()
    return (
        FitnessCheck(
            name="other machine type",
            state=CheckState.FAIL if request.memory else CheckState.WARN,
            evidence=f"{facts.name} had {facts.machine} and gets {request.machine}",
            remedy="let it boot from its disks: --no-memory"
            if request.memory
            else "log in at its console after the start and look at its network cards",
            changeable=request.memory is True,
            meaning="its memory knows the old hardware, and cannot go on with another"
            if request.memory
            else "the guest finds other hardware: network cards may get other names, Windows may want to be activated",
        ),
    )
