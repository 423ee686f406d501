"""Whether each network card finds its network, bridge or device on a host."""

from __future__ import annotations

import pytest

from engine.fleet import CheckState, FitnessCheck, Verdict, fitness
from engine.hosts.model import HostSnapshot, Network
from tests.builders import make_host, make_network, make_nic, make_vm, make_vm_facts


def checks(
    *nics: str,
    networks: tuple[str, ...] | None = None,
    there: tuple[Network, ...] | None = None,
    host: HostSnapshot | None = None,
) -> list[FitnessCheck]:
    target = host or make_host("coruscant", networks=(make_network(),) if there is None else there)
    facts = make_vm_facts(nics=nics, macs=tuple(f"52:54:00:00:00:{number:02x}" for number in range(len(nics))))
    return [check for check in fitness(facts, target, networks=networks).checks if check.name.startswith("network")]


@pytest.mark.parametrize(
    ("card", "state"),
    [
        ("network:default", "pass"),
        ("network:prod", "fail"),
        ("user:", "pass"),
        ("bridge:virbr0", "pass"),
        ("bridge:br-prod", "warn"),
        ("direct:eth7", "warn"),
        ("ethernet:", "warn"),
        ("vhostuser:", "warn"),
    ],
)
def test_a_card_is_looked_for_by_kind_and_name(card: str, state: str) -> None:
    assert [check.state for check in checks(card)] == [state]


def test_a_vm_without_cards_needs_no_network() -> None:
    assert [check.state for check in checks()] == [CheckState.PASS]


def test_several_cards_are_numbered() -> None:
    assert [check.name for check in checks("user:", "network:default")] == ["network 1", "network 2"]


def test_a_missing_network_names_those_that_are_there_and_can_be_changed() -> None:
    (check,) = checks("network:prod", there=(make_network(), make_network("dmz"), make_network("off", active=False)))

    assert check.evidence == "coruscant has no network prod; it has default, dmz"
    assert "default, dmz, user, none" in check.remedy
    assert check.changeable


def test_a_missing_network_alone_means_fits_with_changes() -> None:
    facts = make_vm_facts(nics=("network:prod",))

    assert fitness(facts, make_host("coruscant")).verdict is Verdict.FITS_WITH_CHANGES


def test_an_inactive_network_is_answered_with_the_command_that_starts_it() -> None:
    (check,) = checks("network:default", there=(make_network(active=False),))

    assert check.state is CheckState.FAIL
    assert check.changeable
    assert check.remedy == "`virsh -c qemu+ssh://root@coruscant/system net-start default`"


def test_a_bridge_that_another_vm_there_uses_exists() -> None:
    neighbour = make_vm("neighbour", nics=(make_nic("br-prod", kind="bridge"),))

    (check,) = checks("bridge:br-prod", host=make_host("coruscant", vms=[neighbour]))

    assert check.state is CheckState.PASS
    assert "neighbour on coruscant uses the bridge br-prod" in check.evidence


def test_the_bridge_of_an_inactive_network_does_not_exist_now() -> None:
    (check,) = checks("bridge:virbr0", there=(make_network(active=False),))

    assert check.state is CheckState.WARN


def test_a_device_that_another_vm_there_uses_exists() -> None:
    neighbour = make_vm("neighbour", nics=(make_nic("eth7", kind="direct"),))

    (check,) = checks("direct:eth7", host=make_host("coruscant", vms=[neighbour]))

    assert check.state is CheckState.PASS


@pytest.mark.parametrize(
    ("card", "choice", "state"),
    [
        ("network:prod", "default", "pass"),
        ("network:prod", "prod", "fail"),
        ("network:default", "prod", "fail"),
        ("network:prod", "user", "pass"),
        ("network:prod", "none", "pass"),
        ("bridge:br-prod", "default", "pass"),
        ("bridge:br-prod", "br-prod", "warn"),
        ("bridge:virbr0", "virbr0", "pass"),
        ("user:", "default", "pass"),
        ("user:", "prod", "fail"),
    ],
)
def test_a_choice_is_judged_in_place_of_what_the_card_had(card: str, choice: str, state: str) -> None:
    assert [check.state for check in checks(card, networks=(choice,))] == [state]


def test_cards_beyond_the_choices_keep_what_they_had() -> None:
    states = [check.state for check in checks("network:prod", "network:prod", networks=("user",))]

    assert states == [CheckState.PASS, CheckState.FAIL]
