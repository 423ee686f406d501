"""Whether a VM can run on a host: pure, from what is known of both, before anything is touched.

1. A host that does not answer cannot be asked: it fails, and everything else is skipped.
2. What nobody can change there and then decides: architecture, memory, firmware, TPM (`fitness_machine`).
3. What another choice in a restore lifts, pool, network, machine type, fails as changeable.
4. What works, but otherwise than before, warns: emulation in place of KVM, another CPU, a device of the old host that
   is left out, little memory left.
5. Each that speaks against the host says what to do about it, and what it means to go on all the same.
6. What a host itself said when it was asked with the definition at hand (`hosts.answers`) counts more than a list.

Each check follows from a failure that libvirt or QEMU reports only when the VM is defined or started, which is after
its disks were written.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from engine.fleet.fitness_machine import machine_checks
from engine.fleet.fitness_model import CheckState, FitnessCheck, HostFitness, Verdict
from engine.fleet.fitness_network import network_checks, virsh
from engine.hosts.answers import HostAnswers, PassedThrough
from engine.hosts.model import HostFacts, HostSnapshot, HostStatus, Pool
from engine.repository.model import VmFacts

RESERVE_PERCENT = 10
"""Share of a restore's bytes that must remain free in a pool beyond them."""

_VERDICT_ORDER = (Verdict.FITS, Verdict.FITS_WITH_CHANGES, Verdict.DOES_NOT_FIT)
_WHAT_DEPENDS = (
    "architecture", "machine type", "acceleration", "CPU", "processors", "firmware", "TPM", "versions", "memory",
    "pool", "network",
)  # fmt: skip


def fitness(
    facts: VmFacts,
    target: HostSnapshot,
    *,
    pool: str | None = None,
    needed_bytes: int = 0,
    networks: Sequence[str] | None = None,
    answers: HostAnswers | None = None,
    saved_with: str = "",
    starts: bool = True,
) -> HostFitness:
    """Return whether the VM can run on the host.

    `pool` is where its disks are to go (None: any pool with room), `needed_bytes` what has to be written there.
    `networks` says for each network card where it is to be connected: a network's name, `user` or `none`; cards
    beyond its end, and all without it, keep what they had. `answers`: what the host said to this VM's definition, if
    it was asked. `saved_with`: version of the QEMU that saved the memory it is to go on from, empty if it boots.
    """
    host = target.facts
    if target.status is not HostStatus.ONLINE or host is None:
        checks = _not_answering(target)
    else:
        checks = (
            FitnessCheck("host", CheckState.PASS, f"{target.host} answers"),
            *machine_checks(facts, host, target.host, answers, saved_with),
            _memory(facts, host, target.host, starts=starts),
            _storage(target, pool, needed_bytes),
            *network_checks(facts, target, networks or (), starts=starts),
            _devices(facts, target.host, answers),
        )
        checks = (*checks, *_definition(target.host, answers, checks))
    return HostFitness(host=target.host, verdict=_verdict(checks), checks=checks)


def ranked(found: Iterable[HostFitness]) -> tuple[HostFitness, ...]:
    """Return fitnesses with the best host first: by verdict, then by failures, then by all that speaks against it."""

    def order(each: HostFitness) -> tuple[int, int, int]:
        failures = sum(check.state is CheckState.FAIL for check in each.checks)
        return _VERDICT_ORDER.index(each.verdict), failures, sum(check.flawed for check in each.checks)

    return tuple(sorted(found, key=order))


def _verdict(checks: Iterable[FitnessCheck]) -> Verdict:
    verdict = Verdict.FITS
    for check in checks:
        if check.state is CheckState.FAIL and not check.changeable:
            return Verdict.DOES_NOT_FIT
        if check.flawed:
            verdict = Verdict.FITS_WITH_CHANGES
    return verdict


def _not_answering(target: HostSnapshot) -> tuple[FitnessCheck, ...]:
    reason = target.reason or "it does not answer"
    remedy = target.next_step or f"bring {target.host} back, or choose another host"
    skipped = f"{target.host} does not answer"
    return (
        FitnessCheck(
            name="host",
            state=CheckState.FAIL,
            evidence=f"{target.host} is {target.status.value}: {reason}",
            remedy=remedy,
            meaning="nothing can be written or started there before it answers",
        ),
        *(FitnessCheck(name, CheckState.SKIP, skipped) for name in _WHAT_DEPENDS),
    )


def _memory(facts: VmFacts, host: HostFacts, name: str, *, starts: bool) -> FitnessCheck:
    wanted, free = format_bytes(facts.memory_bytes), format_bytes(host.memory_free_bytes)
    if facts.memory_bytes > host.memory_bytes:
        return FitnessCheck(
            name="memory",
            state=CheckState.FAIL,
            evidence=f"{facts.name} needs {wanted}, {name} has {format_bytes(host.memory_bytes)} in all",
            remedy="choose a larger host",
            meaning="it would be written and defined, and QEMU would not get its memory",
        )
    if facts.memory_bytes > host.memory_free_bytes:
        return FitnessCheck(
            name="memory",
            state=CheckState.WARN,
            evidence=f"{facts.name} needs {wanted}, {name} has {free} free now",
            remedy=f"shut something down on {name} first",
            meaning="the host swaps, or its kernel ends a VM to make room, which may be another one",
            by_name=starts,
        )
    return FitnessCheck("memory", CheckState.PASS, f"{wanted} of {free} free")


_NOWHERE = "there is nowhere to write its disks to: the restore stops before it writes anything"
FULL = "writing would end in the middle, with the pool full for every VM in it, and all would be taken back"
"""What it means to write into a pool without room."""
FILLS_UP = "the pool can fill up while VMs run, and then each that writes there is paused until there is room"
"""What it means to leave a pool nearly full."""


def _storage(target: HostSnapshot, pool: str | None, needed_bytes: int) -> FitnessCheck:
    active = [each for each in target.pools if each.active]
    if not pool:
        best = max(active, key=lambda each: each.available_bytes, default=None)
        if best is None:
            evidence = f"{target.host} has no active storage pool"
            remedy = f"`{virsh(target)} pool-list --all`; define or start one"
            return FitnessCheck("pool", CheckState.FAIL, evidence, remedy, meaning=_NOWHERE)
        return _room(target, best, needed_bytes, chosen=False)
    named = next((each for each in target.pools if each.name == pool), None)
    if named is None:
        known = ", ".join(each.name for each in active) or "none that is active"
        evidence = f"{target.host} has no pool {pool}; it has {known}"
        remedy = f"choose another: --pool {active[0].name}" if active else f"define the pool {pool} there"
        return FitnessCheck("pool", CheckState.FAIL, evidence, remedy, bool(active), _NOWHERE)
    if not named.active:
        remedy = f"`{virsh(target)} pool-start {shlex.quote(pool)}`"
        evidence = f"the pool {pool} on {target.host} is not active"
        return FitnessCheck("pool", CheckState.FAIL, evidence, remedy, True, _NOWHERE)
    return _room(target, named, needed_bytes, chosen=True)


def _room(target: HostSnapshot, pool: Pool, needed_bytes: int, *, chosen: bool) -> FitnessCheck:
    there = f"{format_bytes(pool.available_bytes)} free in pool {pool.name}"
    if not needed_bytes:
        return FitnessCheck("pool", CheckState.PASS, there)
    evidence = f"{format_bytes(needed_bytes)} to write, {there}"
    if pool.available_bytes < needed_bytes:
        larger = any(each.active and each.available_bytes >= needed_bytes for each in target.pools)
        remedy = f"make room in pool {pool.name} on {target.host}" + (", or choose another pool" if larger else "")
        return FitnessCheck("pool", CheckState.FAIL, evidence, remedy, chosen and larger, FULL)
    if pool.available_bytes < needed_bytes + needed_bytes * RESERVE_PERCENT // 100:
        remedy = f"make room in pool {pool.name} on {target.host}: less than {RESERVE_PERCENT} % would remain to grow"
        return FitnessCheck("pool", CheckState.WARN, evidence, remedy, meaning=FILLS_UP, by_name=True)
    return FitnessCheck("pool", CheckState.PASS, evidence)


def _definition(name: str, answers: HostAnswers | None, others: Iterable[FitnessCheck]) -> tuple[FitnessCheck, ...]:
    """What libvirt there says to the definition as a restore would make it, unless a failure explains it in words
    that help more."""
    if answers is None:
        return ()
    if answers.taken_by_libvirt:
        return (FitnessCheck("definition", CheckState.PASS, f"libvirt on {name} takes it as it will be"),)
    if not answers.refusal:
        return (FitnessCheck("definition", CheckState.SKIP, f"{name} cannot be asked whether it takes it"),)
    if any(check.state is CheckState.FAIL for check in others):
        return ()
    return (
        FitnessCheck(
            name="definition",
            state=CheckState.FAIL,
            evidence=f"libvirt on {name} refuses it: {answers.refusal.rstrip('.')}",
            remedy=f"mend that on {name}, or choose another host",
            meaning="its disks would be written, and then the VM could not be defined or started",
        ),
    )


def _devices(facts: VmFacts, name: str, answers: HostAnswers | None) -> FitnessCheck:
    if not facts.host_devices:
        return FitnessCheck("devices", CheckState.PASS, f"{facts.name} uses no device of its host")
    evidence = f"{facts.name} uses {', '.join(facts.host_devices)} of {facts.host} itself, which a restore leaves out"
    seen = _seen_devices(answers.devices, name) if answers is not None else ""
    return FitnessCheck(
        name="devices",
        state=CheckState.WARN,
        evidence=f"{evidence}{seen}",
        remedy="after a restore give it such a device of its new host, if it needs one: `virsh attach-device`",
        meaning="the guest starts without them: what hangs on them, such as a licence key or a GPU, does not work",
    )


def _seen_devices(devices: Sequence[PassedThrough], name: str) -> str:
    there = [each.name for each in devices if each.there]
    missing = [each.name for each in devices if each.there is False]
    found = f"; {name} has {', '.join(there)}" if there else ""
    return found + (f"; {name} has no {', no '.join(missing)}" if missing else "")


def format_bytes(count: int) -> str:
    """Return a number of bytes in three figures: `1.5 GiB`, `512 MiB`."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB" if size < 1000 else f"{size:.0f} TiB"
