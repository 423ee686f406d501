"""Whether a host can be the machine that a VM was made for: machine type, processors, firmware, TPM, versions. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from engine.fleet.fitness_model import WOULD_NOT_START, CheckState, FitnessCheck
from engine.hosts.answers import CpuAnswer, HostAnswers
from engine.hosts.model import HostFacts
from engine.repository.model import VmFacts

_ALIASES = {"q35": "pc-q35-", "pc": "pc-i440fx-", "virt": "virt-", "pseries": "pseries-"}
_REFUSED = "the host refuses to define it, so the restore stops before it writes anything"


def machine_checks(
    facts: VmFacts, host: HostFacts, name: str, answers: HostAnswers | None, saved_with: str
) -> tuple[FitnessCheck, ...]:
    """Every check of this file. `answers`: what the host itself said, if it was asked; `saved_with`: version of the
    QEMU that saved the memory it is to go on from, empty if it boots."""
    return (
        _architecture(facts, host, name),
        _machine(facts, host, name),
        _acceleration(facts, host, name),
        _cpu(facts, host, name, answers),
        _processors(facts, host, name),
        _firmware(facts, host, name, answers),
        _tpm(facts, host, name),
        _versions(facts, host, name, saved_with),
    )


def _architecture(facts: VmFacts, host: HostFacts, name: str) -> FitnessCheck:
    # A 64-bit x86 QEMU runs 32-bit x86 guests; every other pair needs another emulator.
    if facts.arch == host.arch or (facts.arch, host.arch) == ("i686", "x86_64"):
        return FitnessCheck("architecture", CheckState.PASS, f"{facts.arch} on {host.arch}")
    return FitnessCheck(
        name="architecture",
        state=CheckState.FAIL,
        evidence=f"{facts.name} is {facts.arch}, {name} is {host.arch}",
        remedy=f"choose a host of architecture {facts.arch}",
        meaning=f"not one instruction of its guest runs there: {_REFUSED}",
    )


def _machine(facts: VmFacts, host: HostFacts, name: str) -> FitnessCheck:
    if not host.machines:
        return FitnessCheck("machine type", CheckState.SKIP, f"{name} does not say which machine types it offers")
    if machine_is_offered(facts.machine, host.machines):
        return FitnessCheck("machine type", CheckState.PASS, f"{name} offers {facts.machine}")
    nearest = nearest_machine(facts.machine, host.machines)
    there = f"; the nearest that it has is {nearest}" if nearest else ""
    instead = f", or take the nearest: --machine {nearest}" if nearest else ""
    return FitnessCheck(
        name="machine type",
        state=CheckState.FAIL,
        evidence=f"{name} (QEMU {host.qemu_version}) does not offer {facts.machine}{there}",
        remedy=f"install a QEMU on {name} that offers {facts.machine}, or choose another host{instead}",
        changeable=nearest is not None,
        meaning="on another machine type the guest finds other hardware: network cards may get other names, Windows"
        " may want to be activated again, and memory that was saved cannot go on"
        if nearest
        else _REFUSED,
    )


def machine_is_offered(machine: str, offered: Iterable[str]) -> bool:
    """Whether a machine type is among those offered; `q35` stands for any `pc-q35-...`, as QEMU resolves it."""
    names = set(offered)
    prefix = _ALIASES.get(machine)
    return machine in names or (prefix is not None and any(name.startswith(prefix) for name in names))


def nearest_machine(machine: str, offered: Iterable[str]) -> str | None:
    """The machine type of the same kind that differs least from one that is not offered.

    The newest that is older, whose hardware the guest's drivers know; otherwise the oldest. None if there is none of
    its kind.
    """
    prefix = next((each for each in _ALIASES.values() if machine.startswith(each)), None)
    if prefix is None:
        return None
    kind = sorted((name for name in offered if name.startswith(prefix)), key=numbers_in)
    older = [name for name in kind if numbers_in(name) <= numbers_in(machine)]
    return (older[-1:] or kind[:1] or [None])[0]


def numbers_in(text: str) -> tuple[int, ...]:
    """The numbers of a version or of a name that ends in one, to compare them by: `pc-q35-7.2` is (35, 7, 2)."""
    return tuple(int(part) for part in re.findall(r"\d+", text))


def _acceleration(facts: VmFacts, host: HostFacts, name: str) -> FitnessCheck:
    if facts.virt_type != "kvm":
        return FitnessCheck("acceleration", CheckState.PASS, f"{facts.name} needs none: it is emulated")
    if host.kvm:
        return FitnessCheck("acceleration", CheckState.PASS, f"{name} has KVM")
    return FitnessCheck(
        name="acceleration",
        state=CheckState.WARN,
        evidence=f"{facts.name} runs on KVM and {name} has none: it would be emulated, many times slower",
        remedy=f"choose a host with KVM, or give {name} /dev/kvm (virtualisation on in its firmware)",
        meaning="it boots and answers, many times slower: enough to get at its data, seldom enough for its users",
    )


def _cpu(facts: VmFacts, host: HostFacts, name: str, answers: HostAnswers | None) -> FitnessCheck:
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
    if host.cpu_models and facts.cpu_model not in host.cpu_models:
        evidence = f"{facts.name} has the CPU {facts.cpu_model}, which {name} ({host.cpu_model}) does not offer"
        return _another_cpu(evidence, host)
    if answers is not None and answers.cpu is not CpuAnswer.NOT_SAID:
        return _asked_cpu(facts, host, name, answers)
    if not host.cpu_models:
        return FitnessCheck("CPU", CheckState.SKIP, f"{name} does not say which CPU models it offers")
    return FitnessCheck("CPU", CheckState.PASS, f"{name} offers {facts.cpu_model}")


def _asked_cpu(facts: VmFacts, host: HostFacts, name: str, answers: HostAnswers) -> FitnessCheck:
    """The model may be there, and still not every feature that the definition asks for beside it."""
    if answers.cpu is CpuAnswer.FITS:
        return FitnessCheck("CPU", CheckState.PASS, f"{name} can give it {facts.cpu_model} with every feature it names")
    other = _other_mode(host)
    return FitnessCheck(
        name="CPU",
        state=CheckState.FAIL,
        evidence=f"{name} cannot give it {facts.cpu_model} as it is defined: {answers.cpu_reason}",
        remedy=f"let it have what {name} can give: --cpu {other}" if other else "choose a host with that CPU",
        changeable=other is not None,
        meaning=_OTHER_CPU if other else WOULD_NOT_START,
    )


_OTHER_CPU = (
    "the guest wakes on another CPU: programs that were built for the old one may stop, and licences that are bound"
    " to it may ask again"
)


def _other_mode(host: HostFacts) -> str | None:
    # The same choice as a rewritten definition makes (`hosts.rewrite`).
    return next((mode for mode in ("host-model", "maximum") if mode in host.cpu_modes), None)


def _another_cpu(evidence: str, host: HostFacts) -> FitnessCheck:
    other = _other_mode(host)
    if other is None:
        remedy = "choose a host with that CPU, or change the VM's"
        meaning = WOULD_NOT_START
        return FitnessCheck("CPU", CheckState.FAIL, evidence, remedy, meaning=meaning)
    remedy = f"a restore gives it {other} there; choose a host with that CPU to keep it"
    return FitnessCheck("CPU", CheckState.WARN, evidence, remedy, meaning=_OTHER_CPU)


def _processors(facts: VmFacts, host: HostFacts, name: str) -> FitnessCheck:
    if host.max_vcpus and facts.vcpus > host.max_vcpus:
        return FitnessCheck(
            name="processors",
            state=CheckState.FAIL,
            evidence=f"{facts.name} has {facts.vcpus} processors, and one VM can have {host.max_vcpus} on {name}",
            remedy="choose another host",
            meaning=_REFUSED,
        )
    if facts.vcpus <= host.cpus:
        return FitnessCheck("processors", CheckState.PASS, f"{facts.vcpus} wanted, {host.cpus} there")
    return FitnessCheck(
        name="processors",
        state=CheckState.WARN,
        evidence=f"{facts.name} has {facts.vcpus} processors, {name} has {host.cpus}: they would wait for each other",
        remedy="expect it to be slow, or choose a larger host",
        meaning="it runs, and is slower the more its processors have to do at once",
    )


def _firmware(facts: VmFacts, host: HostFacts, name: str, answers: HostAnswers | None) -> FitnessCheck:
    if facts.firmware != "efi":
        return FitnessCheck("firmware", CheckState.PASS, f"{facts.name} starts from BIOS")
    install = f"on {name}: `apt install ovmf` (Debian, Ubuntu) or `dnf install edk2-ovmf` (Fedora)"
    loader = answers.missing_loader if answers is not None else ""
    if loader:
        return FitnessCheck(
            name="firmware",
            state=CheckState.FAIL,
            evidence=f"its definition names the firmware {loader}, which {name} does not have",
            remedy=f"{install}; if it lies elsewhere there, link it to that path",
            meaning=WOULD_NOT_START,
        )
    if host.efi:
        return FitnessCheck("firmware", CheckState.PASS, f"{name} has EFI firmware")
    evidence = f"{facts.name} needs EFI firmware, {name} has none"
    meaning = "nothing there could start its boot loader: it would not start"
    return FitnessCheck("firmware", CheckState.FAIL, evidence, install, meaning=meaning)


def _tpm(facts: VmFacts, host: HostFacts, name: str) -> FitnessCheck:
    if not facts.tpm:
        return FitnessCheck("TPM", CheckState.PASS, f"{facts.name} has no TPM")
    if host.tpm:
        return FitnessCheck("TPM", CheckState.PASS, f"{name} can emulate a TPM")
    return FitnessCheck(
        name="TPM",
        state=CheckState.FAIL,
        evidence=f"{facts.name} has a TPM, {name} cannot emulate one",
        remedy=f"on {name}: `apt install swtpm swtpm-tools` (Debian, Ubuntu) or `dnf install swtpm swtpm-tools`"
        " (Fedora)",
        meaning=_REFUSED,
    )


def _versions(facts: VmFacts, host: HostFacts, name: str, saved_with: str) -> FitnessCheck:
    there = f"QEMU {host.qemu_version}, libvirt {host.libvirt_version}"
    if not saved_with or numbers_in(host.qemu_version) >= numbers_in(saved_with):
        kept = f"; its memory was saved by QEMU {saved_with}" if saved_with else ""
        return FitnessCheck("versions", CheckState.PASS, f"{name} has {there}{kept}")
    return FitnessCheck(
        name="versions",
        state=CheckState.FAIL,
        evidence=f"its memory was saved by QEMU {saved_with}, and {name} has {host.qemu_version}, which is older",
        remedy="let it boot from its disks: --no-memory; or choose a host with a QEMU that is not older",
        changeable=True,
        meaning="an older QEMU cannot read the memory of a newer one: it would not go on",
    )
