"""Levels, recovery points, exposure and copies."""

from __future__ import annotations

import pytest

from engine.hosts.model import HostStatus
from engine.repository import ProofMark, ProofVerdict
from engine.resilience import Severity
from tests.builders import (
    ago,
    make_fleet,
    make_host,
    make_level,
    make_point,
    make_repository,
    make_repository_info,
    make_settings,
    make_vm,
    uuid_of,
)
from tests.resilience.finding_of import findings, flaws, severities

GOLD_FOR_WEB = make_settings(levels=[make_level("gold", vms=("web",))])


def two_vms() -> list[object]:
    return [make_host("alderaan", vms=[make_vm("web"), make_vm("db")]), make_host("yavin")]


def test_a_vm_without_recovery_point_is_a_failure_with_the_command_that_makes_one() -> None:
    (found,) = flaws("no-recovery-point", make_fleet())

    assert found.severity is Severity.FAIL
    assert found.what == "web has no recovery point."
    assert found.fix == ("`newhope backup web`",)
    assert found.evidence == ("looked into: vault",)
    assert found.vms == (uuid_of("web"),)


def test_one_without_point_says_nothing_of_exposure_and_copies() -> None:
    fleet = make_fleet()

    assert findings("exposure-beyond-rpo", fleet) == ()
    assert "web" not in severities(findings("one-copy-only", fleet))
    assert findings("repository-on-same-host", fleet) == ()


def test_with_a_silent_repository_the_absence_of_points_is_unknown() -> None:
    fleet = make_fleet(repositories=[make_repository(), make_repository("attic", reachable=False)])

    (found,) = flaws("no-recovery-point", fleet)

    assert found.severity is Severity.UNKNOWN
    assert "attic cannot be looked into" in found.what
    assert found.fix == ("mount /srv/attic",)


def test_without_any_repository_the_first_step_is_to_make_one() -> None:
    settings = make_settings(repositories=[])

    (found,) = flaws("no-recovery-point", make_fleet(repositories=[]), settings)

    assert found.evidence == ("looked into: no repository",)
    assert "newhope repo init" in found.fix[0]


def test_a_vm_of_a_silent_host_cannot_be_backed_up_until_it_is_back() -> None:
    fleet = make_fleet(hosts=[make_host("alderaan", status=HostStatus.STALE, vms=[make_vm("web")])])

    (found,) = flaws("no-recovery-point", fleet)

    assert found.fix == ("bring alderaan back, then `newhope backup web`",)


def test_names_in_commands_are_quoted_for_the_shell() -> None:
    fleet = make_fleet(hosts=[make_host("alderaan", vms=[make_vm("my web; rm")])])

    (found,) = flaws("no-recovery-point", fleet)

    assert found.fix == ("`newhope backup 'my web; rm'`",)


def test_a_vm_without_level_is_a_finding_of_its_own_and_no_other_check_repeats_it() -> None:
    fleet = make_fleet(hosts=two_vms(), points=[make_point("web"), make_point("db", age="9d")])

    assert severities(findings("no-level", fleet, GOLD_FOR_WEB)) == {"web": "ok", "db": "warn"}
    assert severities(findings("no-recovery-point", fleet, GOLD_FOR_WEB)) == {"web": "ok"}
    assert severities(findings("exposure-beyond-rpo", fleet, GOLD_FOR_WEB)) == {"web": "ok"}
    assert "9d old" in flaws("no-level", fleet, GOLD_FOR_WEB)[0].what


@pytest.mark.parametrize(("silent", "severity"), [(False, "fail"), (True, "warn")])
def test_a_vm_without_level_and_without_point_is_a_failure_if_that_is_sure(silent: bool, severity: str) -> None:
    repositories = [make_repository(), make_repository("attic", reachable=not silent)]
    fleet = make_fleet(hosts=two_vms(), repositories=repositories, points=[make_point("web")])

    assert severities(findings("no-level", fleet, GOLD_FOR_WEB))["db"] == severity


def test_a_missing_level_names_those_there_are() -> None:
    (found,) = flaws("no-level", make_fleet(), make_settings(levels=[make_level("gold", vms=("db",))]))

    assert found.evidence == ("levels in /etc/newhope/newhope.toml: gold; none matches the name web",)
    assert "default = true" in found.fix[1]


@pytest.mark.parametrize(("age", "severity"), [("1m", "ok"), ("1h", "ok"), ("1h1s", "fail"), ("2d", "fail")])
def test_exposure_is_held_against_the_rpo(age: str, severity: str) -> None:
    fleet = make_fleet(points=[make_point("web", age=age)])

    assert severities(findings("exposure-beyond-rpo", fleet)) == {"web": severity}


def test_exposure_beyond_rpo_says_what_would_be_lost_and_since_when() -> None:
    fleet = make_fleet(points=[make_point("web", age="4h12m", point_id="a1b2c3d4e5f60718")])

    (found,) = flaws("exposure-beyond-rpo", fleet)

    assert found.what == "The newest recovery point of web is 4h12m old; its level gold allows 1h."
    assert found.why == "If alderaan were lost now, the last 4h12m of web would be gone."
    assert found.evidence == ("newest: 2026-11-22 07:48 UTC, a1b2c3d4e5f60718 in vault", "late by 3h12m")
    assert found.fix == ("`newhope backup web`",)


def test_exposure_mentions_that_a_newer_point_may_be_out_of_reach() -> None:
    repositories = [make_repository(), make_repository("attic", reachable=False)]
    fleet = make_fleet(repositories=repositories, points=[make_point("web", age="4h")])

    (found,) = flaws("exposure-beyond-rpo", fleet)

    assert any("attic" in line for line in found.evidence)


TWO_COPIES = make_settings(repositories=("vault", "attic"), levels=[make_level("gold", copies=2)])


@pytest.mark.parametrize(
    ("in_attic", "severity"),
    [(None, "fail"), ("30m", "ok"), ("45m", "ok"), ("1h30m", "ok"), ("1h31m", "fail"), ("2d", "fail")],
)
def test_a_copy_counts_if_it_loses_no_more_than_the_level_accepts(in_attic: str | None, severity: str) -> None:
    points = [make_point("web", age="30m")]
    if in_attic:
        points.append(make_point("web", age=in_attic, repository="attic"))
    fleet = make_fleet(repositories=[make_repository(), make_repository("attic")], points=points)

    assert severities(findings("one-copy-only", fleet, TWO_COPIES)) == {"web": severity}


def test_one_copy_is_mended_by_a_backup_to_the_other_repository() -> None:
    fleet = make_fleet(repositories=[make_repository(), make_repository("attic")], points=[make_point("web")])

    (found,) = flaws("one-copy-only", fleet, TWO_COPIES)

    assert found.what == "web has 1 copy of its newest recovery point; its level gold wants 2."
    assert found.fix == ("`newhope backup web --repository attic`",)


def test_two_names_of_one_repository_are_one_copy() -> None:
    same = make_repository_info("vault")
    repositories = [make_repository("vault", info=same), make_repository("attic", info=same)]
    points = [make_point("web"), make_point("web", repository="attic")]

    (found,) = flaws("one-copy-only", make_fleet(repositories=repositories, points=points), TWO_COPIES)

    assert found.severity is Severity.FAIL


def test_missing_copies_are_unknown_while_a_silent_repository_may_hold_them() -> None:
    repositories = [make_repository(), make_repository("attic", reachable=False)]

    (found,) = flaws("one-copy-only", make_fleet(repositories=repositories, points=[make_point("web")]), TWO_COPIES)

    assert found.severity is Severity.UNKNOWN
    assert found.fix == ("mount /srv/attic",)


def test_missing_copies_fail_if_even_the_silent_repository_were_not_enough() -> None:
    settings = make_settings(repositories=("vault", "attic"), levels=[make_level("gold", copies=3)])
    repositories = [make_repository(), make_repository("attic", reachable=False)]

    (found,) = flaws("one-copy-only", make_fleet(repositories=repositories, points=[make_point("web")]), settings)

    assert found.severity is Severity.FAIL


def test_a_single_repository_is_one_finding_for_all_that_leans_on_it() -> None:
    fleet = make_fleet(hosts=two_vms(), points=[make_point("web"), make_point("db")])

    (found,) = findings("one-copy-only", fleet)

    assert (found.subject, found.severity) == ("vault", Severity.WARN)
    assert found.what == "vault is the only repository: 2 VMs lean on one copy."
    assert found.names == ("web", "db")


def test_an_empty_single_repository_holds_nothing_yet() -> None:
    assert findings("one-copy-only", make_fleet()) == ()


def test_one_copy_is_enough_where_the_level_says_so_and_there_are_two_repositories() -> None:
    fleet = make_fleet(repositories=[make_repository(), make_repository("attic")], points=[make_point("web")])
    settings = make_settings(repositories=("vault", "attic"))

    assert severities(findings("one-copy-only", fleet, settings)) == {"web": "ok"}


@pytest.mark.parametrize(
    ("verdicts", "severity", "words"),
    [
        ([], Severity.WARN, "web was never proven; its level gold asks for 7d."),
        (
            [("9d", ProofVerdict.ANSWERED)],
            Severity.WARN,
            "The last proof of web is 9d old; its level gold asks for 7d.",
        ),
        ([("1h", ProofVerdict.SILENT)], Severity.FAIL, "The last proof of web, 1h ago, failed."),
        ([("1h", ProofVerdict.STARTED)], Severity.UNKNOWN, "could not tell whether it booted"),
        ([("1h", ProofVerdict.UNCHECKED)], Severity.UNKNOWN, "could not tell whether it is well"),
        ([("1h", ProofVerdict.ANSWERED), ("2h", ProofVerdict.FAILED)], Severity.OK, "web was proven 1h ago."),
    ],
)
def test_a_vm_whose_level_asks_for_proofs_is_proven_or_it_is_told(
    verdicts: list[tuple[str, ProofVerdict]], severity: Severity, words: str
) -> None:
    marks = tuple(ProofMark(uuid_of("web"), "0123456789ab", ago(age), verdict, age) for age, verdict in verdicts)
    settings = make_settings(levels=[make_level("gold", prove_every_s=7 * 86400)])
    fleet = make_fleet(points=[make_point("web")], repositories=[make_repository(proofs=marks)])

    (found,) = findings("not-proven", fleet, settings)

    assert found.severity is severity
    assert words in found.what
    assert severity is Severity.OK or any("newhope prove web@latest" in each for each in found.fix)


def test_a_vm_that_cannot_be_asked_needs_an_agent_before_another_proof() -> None:
    marks = (ProofMark(uuid_of("web"), "0123456789ab", ago("1h"), ProofVerdict.STARTED, "x"),)
    fleet = make_fleet(points=[make_point("web")], repositories=[make_repository(proofs=marks)])

    (found,) = findings("not-proven", fleet)

    assert "has no agent" in found.why
    assert "let a guest agent run in it, back it up, then newhope prove web@latest" in " ".join(found.fix).replace(
        "`", ""
    )


def test_where_no_level_asks_for_proofs_only_one_that_failed_is_told() -> None:
    failed = (ProofMark(uuid_of("web"), "0123456789ab", ago("2d"), ProofVerdict.STOPPED, "x"),)

    assert findings("not-proven", make_fleet(points=[make_point("web")])) == ()
    (found,) = flaws(
        "not-proven", make_fleet(points=[make_point("web")], repositories=[make_repository(proofs=failed)])
    )
    assert found.severity is Severity.FAIL
