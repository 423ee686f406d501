"""Whether a VM can run on a host: pure, from what is known of both, before anything is touched.

1. A host that does not answer cannot be asked: it fails, and everything else is skipped.
2. What nobody can change there and then decides: architecture, machine type, memory, firmware, TPM.
3. What another choice in a restore lifts, pool and network, fails as changeable.
4. What works, but otherwise than before, warns: emulation in place of KVM, another CPU, a device of the old host that
   is left out, little memory left, a network that is off.

Each check follows from a failure that libvirt or QEMU reports only when the VM is defined or started, which is after
its disks were written.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from engine.fleet.fitness_model import CheckState, FitnessCheck, HostFitness, Verdict
from engine.fleet.fitness_network import network_checks, virsh
from engine.hosts.model import HostFacts, HostSnapshot, HostStatus, Pool
from engine.repository.model import VmFacts

RESERVE_PERCENT = 10
"""Share of a restore's bytes that must remain free in a pool beyond them."""

_ALIASES = {"q35": "pc-q35-", "pc": "pc-i440fx-", "virt": "virt-", "pseries": "pseries-"}
_VERDICT_ORDER = (Verdict.FITS, Verdict.FITS_WITH_CHANGES, Verdict.DOES_NOT_FIT)
_WHAT_DEPENDS = ("architecture", "machine type", "acceleration", "CPU", "memory", "pool", "firmware", "TPM", "network")


def fitness(
    facts: VmFacts,
    target: HostSnapshot,
    *,
    pool: str | None = None,
    needed_bytes: int = 0,
    networks: Sequence[str] | None = None,
) -> HostFitness:
    """Return whether the VM can run on the host.

    `pool` is where its disks are to go (None: any pool with room), `needed_bytes` what has to be written there.
    `networks` says for each network card where it is to be connected: a network's name, `user` or `none`; cards
    beyond its end, and all without it, keep what they had.
    """
    host = target.facts
    if target.status is not HostStatus.ONLINE or host is None:
        checks = _not_answering(target)
    else:
        checks = (
            FitnessCheck("host", CheckState.PASS, f"{target.host} answers"),
            _architecture(facts, host, target.host),
            _machine(facts, host, target.host),
            _acceleration(facts, host, target.host),
            _cpu(facts, host, target.host),
            _processors(facts, host, target.host),
            _memory(facts, host, target.host),
            _storage(target, pool, needed_bytes),
            _firmware(facts, host, target.host),
            _tpm(facts, host, target.host),
            *network_checks(facts, target, networks or ()),
            _devices(facts),
        )
    return HostFitness(host=target.host, verdict=_verdict(checks), checks=checks)


def ranked(found: Iterable[HostFitness]) -> tuple[HostFitness, ...]:
    """Return fitnesses with the best host first: by verdict, then by the number of checks that did not pass."""

    def flaws(each: HostFitness) -> int:
        return sum(check.state in (CheckState.FAIL, CheckState.WARN) for check in each.checks)

    return tuple(sorted(found, key=lambda each: (_VERDICT_ORDER.index(each.verdict), flaws(each))))


def _verdict(checks: Iterable[FitnessCheck]) -> Verdict:
    verdict = Verdict.FITS
    for check in checks:
        if check.state is CheckState.FAIL and not check.changeable:
            return Verdict.DOES_NOT_FIT
        if check.state in (CheckState.FAIL, CheckState.WARN):
            verdict = Verdict.FITS_WITH_CHANGES
    return verdict


def _not_answering(target: HostSnapshot) -> tuple[FitnessCheck, ...]:
    reason = target.reason or "it does not answer"
    remedy = target.next_step or f"bring {target.host} back, or choose another host"
    skipped = f"{target.host} does not answer"
    return (
        FitnessCheck("host", CheckState.FAIL, f"{target.host} is {target.status.value}: {reason}", remedy),
        *(FitnessCheck(name, CheckState.SKIP, skipped) for name in _WHAT_DEPENDS),
    )


def _architecture(facts: VmFacts, host: HostFacts, name: str) -> FitnessCheck:
    # A 64-bit x86 QEMU runs 32-bit x86 guests; every other pair needs another emulator.
    if facts.arch == host.arch or (facts.arch, host.arch) == ("i686", "x86_64"):
        return FitnessCheck("architecture", CheckState.PASS, f"{facts.arch} on {host.arch}")
    evidence = f"{facts.name} is {facts.arch}, {name} is {host.arch}"
    return FitnessCheck("architecture", CheckState.FAIL, evidence, f"choose a host of architecture {facts.arch}")


def _machine(facts: VmFacts, host: HostFacts, name: str) -> FitnessCheck:
    if not host.machines:
        return FitnessCheck("machine type", CheckState.SKIP, f"{name} does not say which machine types it offers")
    if machine_is_offered(facts.machine, host.machines):
        return FitnessCheck("machine type", CheckState.PASS, f"{name} offers {facts.machine}")
    kind = next((alias for alias, prefix in _ALIASES.items() if facts.machine.startswith(prefix)), None)
    newest = _newest(host.machines, _ALIASES[kind]) if kind else None
    there = f"; its newest of that kind is {newest}" if newest else ""
    evidence = f"{name} (QEMU {host.qemu_version}) does not offer {facts.machine}{there}"
    remedy = f"install a QEMU on {name} that offers {facts.machine}, or choose another host"
    return FitnessCheck("machine type", CheckState.FAIL, evidence, remedy)


def machine_is_offered(machine: str, offered: Iterable[str]) -> bool:
    """Whether a machine type is among those offered; `q35` stands for any `pc-q35-...`, as QEMU resolves it."""
    names = set(offered)
    prefix = _ALIASES.get(machine)
    return machine in names or (prefix is not None and any(name.startswith(prefix) for name in names))


def _newest(offered: Iterable[str], prefix: str) -> str | None:
    def version(name: str) -> tuple[int, ...]:
        return tuple(int(part) for part in name[len(prefix) :].split(".") if part.isdigit())

    return max((name for name in offered if name.startswith(prefix)), key=version, default=None)


def _acceleration(facts: VmFacts, host: HostFacts, name: str) -> FitnessCheck:
    if facts.virt_type != "kvm":
        return FitnessCheck("acceleration", CheckState.PASS, f"{facts.name} needs none: it is emulated")
    if host.kvm:
        return FitnessCheck("acceleration", CheckState.PASS, f"{name} has KVM")
    evidence = f"{facts.name} runs on KVM and {name} has none: it would be emulated, many times slower"
    remedy = f"choose a host with KVM, or give {name} /dev/kvm (virtualisation on in its firmware)"
    return FitnessCheck("acceleration", CheckState.WARN, evidence, remedy)


def _cpu(facts: VmFacts, host: HostFacts, name: str) -> FitnessCheck:
    mode = facts.cpu_mode
    if not mode:
        return FitnessCheck("CPU", CheckState.PASS, f"{facts.name} asks for no particular CPU")
    if mode == "host-passthrough" and not host.kvm:
        evidence = f"{facts.name} uses its host's CPU as it is, which needs KVM, and {name} has none"
        return _another_cpu(evidence, host)
    if host.cpu_modes and mode not in host.cpu_modes:
        return _another_cpu(f"{name} does not offer the CPU mode {mode}", host)
    if mode != "custom" or facts.cpu_model is None:
        return FitnessCheck("CPU", CheckState.PASS, f"{mode}: {facts.name} gets what {name} has, {host.cpu_model}")
    if not host.cpu_models:
        return FitnessCheck("CPU", CheckState.SKIP, f"{name} does not say which CPU models it offers")
    if facts.cpu_model in host.cpu_models:
        return FitnessCheck("CPU", CheckState.PASS, f"{name} offers {facts.cpu_model}")
    evidence = f"{facts.name} has the CPU {facts.cpu_model}, which {name} ({host.cpu_model}) does not offer"
    return _another_cpu(evidence, host)


def _another_cpu(evidence: str, host: HostFacts) -> FitnessCheck:
    # The same choice as a rewritten definition makes (`hosts.rewrite`).
    other = next((mode for mode in ("host-model", "maximum") if mode in host.cpu_modes), None)
    if other is None:
        return FitnessCheck("CPU", CheckState.FAIL, evidence, "choose a host with that CPU, or change the VM's")
    remedy = f"a restore gives it {other} there; a guest that is bound to its CPU may ask for its licence again"
    return FitnessCheck("CPU", CheckState.WARN, evidence, remedy)


def _processors(facts: VmFacts, host: HostFacts, name: str) -> FitnessCheck:
    if facts.vcpus <= host.cpus:
        return FitnessCheck("processors", CheckState.PASS, f"{facts.vcpus} wanted, {host.cpus} there")
    evidence = f"{facts.name} has {facts.vcpus} processors, {name} has {host.cpus}: they would wait for each other"
    return FitnessCheck("processors", CheckState.WARN, evidence, "expect it to be slow, or choose a larger host")


def _memory(facts: VmFacts, host: HostFacts, name: str) -> FitnessCheck:
    wanted, free = format_bytes(facts.memory_bytes), format_bytes(host.memory_free_bytes)
    if facts.memory_bytes > host.memory_bytes:
        evidence = f"{facts.name} needs {wanted}, {name} has {format_bytes(host.memory_bytes)} in all"
        return FitnessCheck("memory", CheckState.FAIL, evidence, "choose a larger host")
    if facts.memory_bytes > host.memory_free_bytes:
        evidence = f"{facts.name} needs {wanted}, {name} has {free} free now"
        return FitnessCheck("memory", CheckState.WARN, evidence, f"shut something down on {name} first")
    return FitnessCheck("memory", CheckState.PASS, f"{wanted} of {free} free")


def _storage(target: HostSnapshot, pool: str | None, needed_bytes: int) -> FitnessCheck:
    active = [each for each in target.pools if each.active]
    if not pool:
        best = max(active, key=lambda each: each.available_bytes, default=None)
        if best is None:
            evidence = f"{target.host} has no active storage pool"
            remedy = f"`{virsh(target)} pool-list --all`; define or start one"
            return FitnessCheck("pool", CheckState.FAIL, evidence, remedy)
        return _room(target, best, needed_bytes, chosen=False)
    named = next((each for each in target.pools if each.name == pool), None)
    if named is None:
        known = ", ".join(each.name for each in active) or "none that is active"
        evidence = f"{target.host} has no pool {pool}; it has {known}"
        remedy = f"choose another: --pool {active[0].name}" if active else f"define the pool {pool} there"
        return FitnessCheck("pool", CheckState.FAIL, evidence, remedy, changeable=bool(active))
    if not named.active:
        remedy = f"`{virsh(target)} pool-start {shlex.quote(pool)}`"
        evidence = f"the pool {pool} on {target.host} is not active"
        return FitnessCheck("pool", CheckState.FAIL, evidence, remedy, changeable=True)
    return _room(target, named, needed_bytes, chosen=True)


def _room(target: HostSnapshot, pool: Pool, needed_bytes: int, *, chosen: bool) -> FitnessCheck:
    there = f"{format_bytes(pool.available_bytes)} free in pool {pool.name}"
    if not needed_bytes:
        return FitnessCheck("pool", CheckState.PASS, there)
    evidence = f"{format_bytes(needed_bytes)} to write, {there}"
    if pool.available_bytes < needed_bytes:
        larger = any(each.active and each.available_bytes >= needed_bytes for each in target.pools)
        remedy = f"make room in pool {pool.name} on {target.host}" + (", or choose another pool" if larger else "")
        return FitnessCheck("pool", CheckState.FAIL, evidence, remedy, changeable=chosen and larger)
    if pool.available_bytes < needed_bytes + needed_bytes * RESERVE_PERCENT // 100:
        remedy = f"make room in pool {pool.name} on {target.host}: less than {RESERVE_PERCENT} % would remain to grow"
        return FitnessCheck("pool", CheckState.WARN, evidence, remedy)
    return FitnessCheck("pool", CheckState.PASS, evidence)


def _firmware(facts: VmFacts, host: HostFacts, name: str) -> FitnessCheck:
    if facts.firmware != "efi":
        return FitnessCheck("firmware", CheckState.PASS, f"{facts.name} starts from BIOS")
    if host.efi:
        return FitnessCheck("firmware", CheckState.PASS, f"{name} has EFI firmware")
    remedy = f"on {name}: `apt install ovmf` (Debian, Ubuntu) or `dnf install edk2-ovmf` (Fedora)"
    return FitnessCheck("firmware", CheckState.FAIL, f"{facts.name} needs EFI firmware, {name} has none", remedy)


def _tpm(facts: VmFacts, host: HostFacts, name: str) -> FitnessCheck:
    if not facts.tpm:
        return FitnessCheck("TPM", CheckState.PASS, f"{facts.name} has no TPM")
    if host.tpm:
        return FitnessCheck("TPM", CheckState.PASS, f"{name} can emulate a TPM")
    remedy = f"on {name}: `apt install swtpm swtpm-tools` (Debian, Ubuntu) or `dnf install swtpm swtpm-tools` (Fedora)"
    return FitnessCheck("TPM", CheckState.FAIL, f"{facts.name} has a TPM, {name} cannot emulate one", remedy)


def _devices(facts: VmFacts) -> FitnessCheck:
    if not facts.host_devices:
        return FitnessCheck("devices", CheckState.PASS, f"{facts.name} uses no device of its host")
    evidence = f"{facts.name} uses {', '.join(facts.host_devices)} of {facts.host} itself, which a restore leaves out"
    remedy = "after a restore give it such a device of its new host, if it needs one: `virsh attach-device`"
    return FitnessCheck("devices", CheckState.WARN, evidence, remedy)


def format_bytes(count: int) -> str:
    """Return a number of bytes in three figures: `1.5 GiB`, `512 MiB`."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} TiB" if size < 1000 else f"{size:.0f} TiB"
