"""Whether a VM fits on a host, check by check."""

from __future__ import annotations

from typing import Any

import pytest

from engine.fleet import (
    CheckState,
    FitnessCheck,
    HostFitness,
    Verdict,
    fitness,
    format_bytes,
    machine_is_offered,
    ranked,
)
from engine.hosts.model import HostStatus
from tests.builders import (
    GIB,
    MACHINES,
    make_host,
    make_host_facts,
    make_pool,
    make_vm_facts,
)


def fit(vm: dict[str, Any] | None = None, host: dict[str, Any] | None = None, **choices: Any) -> HostFitness:
    """Fitness of the ordinary VM on the ordinary host `coruscant`, each with changes."""
    facts = make_host_facts("coruscant", **(host or {}))
    return fitness(make_vm_facts("web", **(vm or {})), make_host("coruscant", facts=facts), **choices)


def check_of(found: HostFitness, name: str) -> FitnessCheck:
    return next(check for check in found.checks if check.name == name)


def test_an_ordinary_vm_fits_on_an_ordinary_host_and_every_check_says_why() -> None:
    found = fit()

    assert found.verdict is Verdict.FITS
    assert found.reason == ""
    assert all(check.state is CheckState.PASS and check.evidence for check in found.checks)


@pytest.mark.parametrize("status", [HostStatus.OFFLINE, HostStatus.STALE])
def test_nothing_fits_on_a_host_that_does_not_answer(status: HostStatus) -> None:
    found = fitness(make_vm_facts(), make_host("coruscant", status=status))

    assert found.verdict is Verdict.DOES_NOT_FIT
    assert check_of(found, "host").state is CheckState.FAIL
    assert check_of(found, "host").remedy == "ping coruscant"
    assert all(check.state is CheckState.SKIP for check in found.checks[1:])
    assert "no route to host" in found.reason


def test_a_silent_host_without_reason_still_says_what_to_do() -> None:
    found = fitness(make_vm_facts(), make_host("coruscant", status=HostStatus.OFFLINE, reason=None, next_step=None))

    assert "coruscant" in check_of(found, "host").remedy


@pytest.mark.parametrize(
    ("vm", "host", "name", "state", "verdict"),
    [
        ({"arch": "aarch64"}, {}, "architecture", "fail", "does not fit"),
        ({"arch": "i686"}, {}, "architecture", "pass", "fits"),
        ({"arch": "x86_64"}, {"arch": "i686"}, "architecture", "fail", "does not fit"),
        ({"machine": "pc-q35-8.2"}, {}, "machine type", "fail", "fits with changes"),
        ({"machine": "microvm"}, {}, "machine type", "fail", "does not fit"),
        ({"machine": "q35"}, {}, "machine type", "pass", "fits"),
        ({"machine": "pc-q35-8.2"}, {"machines": ()}, "machine type", "skip", "fits"),
        ({}, {"kvm": False}, "acceleration", "warn", "fits with changes"),
        ({"virt_type": "qemu"}, {"kvm": False}, "acceleration", "pass", "fits"),
        ({"virt_type": "qemu"}, {"kvm": True}, "acceleration", "pass", "fits"),
        ({"cpu_mode": ""}, {"cpu_modes": ("custom",)}, "CPU", "pass", "fits"),
        ({"cpu_mode": "host-passthrough"}, {}, "CPU", "pass", "fits"),
        ({"cpu_mode": "host-passthrough"}, {"kvm": False}, "CPU", "warn", "fits with changes"),
        ({"cpu_mode": "host-model"}, {"cpu_modes": ("maximum",)}, "CPU", "warn", "fits with changes"),
        ({"cpu_mode": "host-model"}, {"cpu_modes": ()}, "CPU", "pass", "fits"),
        ({"cpu_mode": "host-model"}, {"cpu_modes": ("custom",)}, "CPU", "fail", "does not fit"),
        ({"cpu_mode": "custom", "cpu_model": "Haswell-noTSX"}, {}, "CPU", "pass", "fits"),
        ({"cpu_mode": "custom", "cpu_model": "EPYC"}, {}, "CPU", "warn", "fits with changes"),
        ({"cpu_mode": "custom", "cpu_model": "EPYC"}, {"cpu_models": ()}, "CPU", "skip", "fits"),
        ({"cpu_mode": "custom", "cpu_model": None}, {}, "CPU", "pass", "fits"),
        ({"vcpus": 16}, {}, "processors", "pass", "fits"),
        ({"vcpus": 17}, {}, "processors", "warn", "fits with changes"),
        ({"vcpus": 289}, {"max_vcpus": 288}, "processors", "fail", "does not fit"),
        ({"vcpus": 16}, {"max_vcpus": 288}, "processors", "pass", "fits"),
        ({"memory_bytes": 32 * GIB}, {}, "memory", "pass", "fits"),
        ({"memory_bytes": 33 * GIB}, {}, "memory", "warn", "fits with changes"),
        ({"memory_bytes": 65 * GIB}, {}, "memory", "fail", "does not fit"),
        ({"firmware": "efi"}, {}, "firmware", "pass", "fits"),
        ({"firmware": "efi"}, {"efi": False}, "firmware", "fail", "does not fit"),
        ({"firmware": "bios"}, {"efi": False}, "firmware", "pass", "fits"),
        ({"tpm": True}, {}, "TPM", "pass", "fits"),
        ({"tpm": True}, {"tpm": False}, "TPM", "fail", "does not fit"),
        ({"tpm": False}, {"tpm": False}, "TPM", "pass", "fits"),
        ({"host_devices": ("PCI 0000:01:00.0",)}, {}, "devices", "warn", "fits with changes"),
    ],
)
def test_each_need_is_held_against_what_the_host_has(
    vm: dict[str, Any], host: dict[str, Any], name: str, state: str, verdict: str
) -> None:
    found = fit(vm, host)

    assert check_of(found, name).state == state
    assert found.verdict == verdict


@pytest.mark.parametrize(
    ("vm", "host"),
    [
        ({"arch": "aarch64"}, {}),
        ({"machine": "pc-q35-8.2"}, {}),
        ({}, {"kvm": False}),
        ({"cpu_mode": "host-passthrough"}, {"kvm": False}),
        ({"cpu_mode": "custom", "cpu_model": "EPYC"}, {}),
        ({"vcpus": 17}, {}),
        ({"memory_bytes": 33 * GIB}, {}),
        ({"memory_bytes": 65 * GIB}, {}),
        ({"firmware": "efi"}, {"efi": False}),
        ({"tpm": True}, {"tpm": False}),
        ({"host_devices": ("PCI 0000:01:00.0",)}, {}),
    ],
)
def test_what_does_not_pass_names_both_sides_and_has_a_remedy(vm: dict[str, Any], host: dict[str, Any]) -> None:
    found = fit(vm, host)

    flawed = [check for check in found.checks if check.state in (CheckState.WARN, CheckState.FAIL)]
    assert flawed
    for check in flawed:
        assert "web" in check.evidence or "coruscant" in check.evidence
        assert check.remedy
        assert check.meaning


def test_a_missing_machine_type_is_answered_with_the_nearest_of_its_kind() -> None:
    check = check_of(fit({"machine": "pc-q35-10.0"}, {"machines": ("pc-q35-9.2", "pc-q35-7.2", "q35")}), "machine type")

    assert "the nearest that it has is pc-q35-9.2" in check.evidence
    assert "--machine pc-q35-9.2" in check.remedy
    assert check.changeable


def test_a_machine_type_of_a_kind_that_is_not_there_is_just_missing() -> None:
    assert "nearest" not in check_of(fit({"machine": "virt-7.2"}), "machine type").evidence


@pytest.mark.parametrize(
    ("machine", "offered", "found"),
    [
        ("pc-q35-7.2", MACHINES, True),
        ("pc-q35-8.0", MACHINES, False),
        ("q35", MACHINES, True),
        ("q35", ("pc-q35-6.2",), True),
        ("pc", ("pc-i440fx-6.2",), True),
        ("pc", ("pc-q35-6.2",), False),
        ("virt", ("virt-7.2",), True),
        ("pseries", ("pseries-7.2",), True),
        ("pc-q35-rhel9.2.0", MACHINES, False),
        ("microvm", ("microvm",), True),
        ("", MACHINES, False),
    ],
)
def test_an_alias_stands_for_any_version_and_a_version_only_for_itself(
    machine: str, offered: tuple[str, ...], found: bool
) -> None:
    assert machine_is_offered(machine, offered) is found


@pytest.mark.parametrize(
    ("available", "needed", "state"),
    [
        (110, 100, "pass"),
        (109, 100, "warn"),
        (100, 100, "warn"),
        (99, 100, "fail"),
        (0, 0, "pass"),
    ],
)
def test_a_tenth_of_what_is_written_must_stay_free(available: int, needed: int, state: str) -> None:
    host = make_host("coruscant", pools=(make_pool(available=available * GIB),))

    found = fitness(make_vm_facts(), host, pool="default", needed_bytes=needed * GIB)

    assert check_of(found, "pool").state == state


def test_a_pool_that_is_not_there_can_be_chosen_otherwise() -> None:
    found = fit(pool="nvme", needed_bytes=GIB)

    check = check_of(found, "pool")
    assert check.state is CheckState.FAIL
    assert check.evidence == "coruscant has no pool nvme; it has default"
    assert check.remedy == "choose another: --pool default"
    assert found.verdict is Verdict.FITS_WITH_CHANGES


def test_a_pool_that_is_not_there_on_a_host_without_any_is_final() -> None:
    found = fitness(make_vm_facts(), make_host("coruscant", pools=()), pool="nvme")

    assert found.verdict is Verdict.DOES_NOT_FIT


def test_a_pool_that_is_off_is_answered_with_the_command_that_starts_it() -> None:
    uri = "qemu+unix:///session?socket=/run/x"
    host = make_host("coruscant", uri=uri, pools=(make_pool("my pool", active=False),))

    check = check_of(fitness(make_vm_facts(), host, pool="my pool"), "pool")

    assert check.state is CheckState.FAIL
    assert check.remedy == f"`virsh -c '{uri}' pool-start 'my pool'`"


def test_without_a_choice_the_pool_with_most_room_is_looked_at() -> None:
    pools = (make_pool("a", available=GIB), make_pool("b", available=9 * GIB), make_pool("c", active=False))

    found = fitness(make_vm_facts(), make_host("coruscant", pools=pools), needed_bytes=5 * GIB)

    assert "pool b" in check_of(found, "pool").evidence
    assert found.verdict is Verdict.FITS


def test_without_a_choice_too_little_room_anywhere_is_final() -> None:
    found = fitness(make_vm_facts(), make_host("coruscant", pools=(make_pool(available=GIB),)), needed_bytes=5 * GIB)

    assert found.verdict is Verdict.DOES_NOT_FIT


def test_a_chosen_pool_that_is_too_full_is_changeable_where_another_has_room() -> None:
    pools = (make_pool("small", available=GIB), make_pool("large", available=50 * GIB))

    found = fitness(make_vm_facts(), make_host("coruscant", pools=pools), pool="small", needed_bytes=5 * GIB)

    assert found.verdict is Verdict.FITS_WITH_CHANGES
    assert "or choose another pool" in check_of(found, "pool").remedy


def test_a_host_without_any_active_pool_takes_no_vm() -> None:
    found = fitness(make_vm_facts(), make_host("coruscant", pools=(make_pool(active=False),)))

    assert found.verdict is Verdict.DOES_NOT_FIT
    assert "pool-list" in check_of(found, "pool").remedy


def test_the_reason_is_the_hardest_failure() -> None:
    found = fit({"tpm": True, "memory_bytes": 33 * GIB}, {"tpm": False}, pool="nvme")

    assert found.reason == "web has a TPM, coruscant cannot emulate one"


def test_hosts_are_ranked_by_verdict_and_then_by_flaws() -> None:
    best = fit()
    slow = fit({}, {"kvm": False})
    slower = fit({"vcpus": 99}, {"kvm": False})
    never = fit({"arch": "riscv64"})

    assert ranked((never, slower, best, slow)) == (best, slow, slower, never)


def test_ranking_keeps_the_order_of_equals() -> None:
    first, second = (fitness(make_vm_facts(), make_host(name)) for name in ("b", "a"))

    assert [each.host for each in ranked((first, second))] == ["b", "a"]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.977 KiB"),
        (1024, "1 KiB"),
        (1536 * 1024**2, "1.5 GiB"),
        (512 * 1024**2, "512 MiB"),
        (3 * 1024**4, "3 TiB"),
        (5000 * 1024**4, "5000 TiB"),
    ],
)
def test_bytes_are_written_in_three_figures(count: int, text: str) -> None:
    assert format_bytes(count) == text
