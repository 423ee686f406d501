"""Whether each network card of a VM finds on a host what it was connected to."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from engine.fleet.fitness_model import WOULD_NOT_START, CheckState, FitnessCheck
from engine.hosts.model import HostSnapshot
from engine.repository.model import VmFacts


def network_checks(
    facts: VmFacts, target: HostSnapshot, networks: Sequence[str], *, starts: bool
) -> tuple[FitnessCheck, ...]:
    """Return one check for each network card, numbered where there are several.

    `networks` is as in `fitness`; `starts`: whether it is to be started at once. A choice that repeats the name a card
    had keeps the card's kind, a bridge or a device; any other name is that of a network.
    """
    if not facts.nics:
        return (FitnessCheck("network", CheckState.PASS, f"{facts.name} has no network card"),)
    checks: list[FitnessCheck] = []
    for number, card in enumerate(facts.nics):
        name = "network" if len(facts.nics) == 1 else f"network {number + 1}"
        kind, _, source = card.partition(":")
        if number < len(networks):
            chosen = networks[number]
            if chosen in ("user", "none"):
                kind, source = chosen, ""
            elif chosen != source:
                kind, source = "network", chosen
        checks.append(_check(name, kind, source, target, starts))
    return tuple(checks)


def _check(name: str, kind: str, source: str, target: HostSnapshot, starts: bool) -> FitnessCheck:
    if kind == "user":
        return FitnessCheck(name, CheckState.PASS, "QEMU's own user network needs nothing of the host")
    if kind == "none":
        return FitnessCheck(name, CheckState.PASS, "it stays unplugged")
    if kind == "network":
        return _network(name, source, target, starts)
    if kind == "bridge":
        return _bridge(name, source, target)
    what = f"{kind} {source}".strip()
    used = _used_there(kind, source, target)
    if used:
        return FitnessCheck(name, CheckState.PASS, f"{used} on {target.host} uses {source} already")
    links = _links(target)
    if kind == "direct" and links is not None:
        if source in links:
            return FitnessCheck(name, CheckState.PASS, f"{target.host} has the network device {source}")
        return _missing(name, f"{target.host} has no network device {source}, to which its card was connected", target)
    evidence = f"it was connected by {what}; whether {target.host} has that cannot be seen from here"
    return _unseen(name, evidence, f"look on {target.host}: `ip link`, or choose a network")


def _network(name: str, source: str, target: HostSnapshot, starts: bool) -> FitnessCheck:
    found = next((network for network in target.networks if network.name == source), None)
    if found is None:
        known = ", ".join(network.name for network in target.networks if network.active) or "none that is active"
        return _missing(name, f"{target.host} has no network {source}; it has {known}", target, define=source)
    if found.active:
        return FitnessCheck(name, CheckState.PASS, f"{target.host} has the network {source}")
    return FitnessCheck(
        name=name,
        state=CheckState.FAIL if starts else CheckState.WARN,
        evidence=f"the network {source} on {target.host} is not active, so the VM would not start",
        remedy=f"`{virsh(target)} net-start {shlex.quote(source)}`",
        changeable=starts,
        meaning=WOULD_NOT_START,
    )


def _bridge(name: str, source: str, target: HostSnapshot) -> FitnessCheck:
    network = next((each for each in target.networks if each.bridge == source and each.active), None)
    if network:
        return FitnessCheck(name, CheckState.PASS, f"{target.host} has the bridge {source} (network {network.name})")
    used = _used_there("bridge", source, target)
    if used:
        return FitnessCheck(name, CheckState.PASS, f"{used} on {target.host} uses the bridge {source} already")
    links = _links(target)
    if links is not None:
        if source in links:
            return FitnessCheck(name, CheckState.PASS, f"{target.host} has the bridge {source}")
        return _missing(name, f"{target.host} has no bridge {source}, to which its card was connected", target)
    evidence = f"no network or VM on {target.host} uses a bridge {source}; whether it exists cannot be seen from here"
    return _unseen(name, evidence, f"look on {target.host}: `ip link show {shlex.quote(source)}`, or choose a network")


def _missing(name: str, evidence: str, target: HostSnapshot, *, define: str = "") -> FitnessCheck:
    choices = ", ".join([*(network.name for network in target.networks if network.active), "user", "none"])
    remedy = f"choose another network ({choices})" + (f", or define {define} there" if define else "")
    return FitnessCheck(name, CheckState.FAIL, evidence, remedy, changeable=True, meaning=WOULD_NOT_START)


def _unseen(name: str, evidence: str, remedy: str) -> FitnessCheck:
    return FitnessCheck(name, CheckState.WARN, evidence, remedy, meaning=f"if it is not there, {WOULD_NOT_START}")


def _links(target: HostSnapshot) -> tuple[str, ...] | None:
    return target.facts.links if target.facts is not None else None


def virsh(target: HostSnapshot) -> str:
    """Return the beginning of a virsh command for a host, as a shell takes it."""
    return shlex.join(("virsh", "-c", target.uri))


def _used_there(kind: str, source: str, target: HostSnapshot) -> str | None:
    for vm in target.vms:
        if any((nic.kind, nic.source) == (kind, source) for nic in vm.nics):
            return vm.name
    return None
