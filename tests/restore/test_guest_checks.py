"""What the checks of a level make of what a guest answers, and what a test proves by them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from msgspec import structs

from engine.repository import GuestCheckResult, GuestCheckState, ProofOutcome, ProofVerdict, SignsOfLife
from engine.restore import Mode, Phase, Request
from engine.restore.guest_checks import first_lines, judge_file, listening_ports
from engine.restore.journal import Entry, Mark
from engine.restore.proof import proof_of
from engine.settings import FileCheck, PortCheck
from tests.builders import make_point

MOMENT = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
REGULAR, FOLDER = "81a4", "41ed"
TABLES = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 17 1 0 100 0 0 10 0
   1: 0100007F:1538 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 18 1 0 100 0 0 10 0
   2: 0100007F:9C40 0100007F:1538 01 00000000:00000000 00:00000000 00000000     0        0 19 1 0 20 4 30 10 -1
  sl  local_address                         remote_address                        st
   0: 00000000000000000000000000000000:01BB 00000000000000000000000000000000:0000 0A 00000000:00000000 00:0 0 0 0 2
"""


def told(mode: str, size_bytes: int, written: datetime) -> str:
    return f"{mode} {size_bytes} {int(written.timestamp())}\n"


def test_only_ports_that_are_listened_on_count():
    assert listening_ports(TABLES) == {22, 5432, 443}
    assert listening_ports("") == frozenset()


@pytest.mark.parametrize(
    ("answer", "state", "evidence"),
    [
        (told(REGULAR, 2048, MOMENT - timedelta(hours=2)), GuestCheckState.PASSED, "2h before the point"),
        (told(REGULAR, 2048, MOMENT + timedelta(days=6)), GuestCheckState.PASSED, "since it was booted"),
        (told(REGULAR, 10, MOMENT), GuestCheckState.FAILED, "smaller than 1 KiB"),
        (told(REGULAR, 2048, MOMENT - timedelta(days=2)), GuestCheckState.FAILED, "older than 1d"),
        (told(FOLDER, 4096, MOMENT), GuestCheckState.FAILED, "no regular file"),
        ("what?", GuestCheckState.UNABLE, "what?"),
    ],
)
def test_a_file_is_held_against_the_moment_of_its_point(answer: str, state: GuestCheckState, evidence: str):
    check = FileCheck("dump", "/var/dump.sql", min_size_bytes=1024, max_age_s=86400)

    judged = judge_file(answer, check, MOMENT)

    assert judged.state is state
    assert evidence in judged.evidence


def test_a_folder_that_need_only_be_there_is_there():
    assert judge_file(told(FOLDER, 64, MOMENT), FileCheck("data", "/srv"), MOMENT).state is GuestCheckState.PASSED


def test_the_evidence_of_a_command_is_short_and_can_be_shown_anywhere():
    evidence = first_lines(b"\n one\n\n\x1b[31mtwo\xff\n" + b"x" * 9000 + b"\n4\n5\n6\n")

    assert evidence.startswith("one; ?[31mtwo")
    assert len(evidence) < 500


def test_a_check_that_no_agent_could_be_asked_for_is_told_with_the_proof():
    proof = proof_of(entry(checks=(PortCheck("ssh", 22),), done=("watch",)), point(agent=False))

    assert proof is not None and proof.verdict is ProofVerdict.STARTED
    assert [(each.name, each.state) for each in proof.checks] == [("ssh", GuestCheckState.UNABLE)]


@pytest.mark.parametrize(
    ("states", "verdict", "outcome"),
    [
        (("passed", "passed"), ProofVerdict.ANSWERED, ProofOutcome.PROVEN),
        (("passed", "failed"), ProofVerdict.FAILED, ProofOutcome.FAILED),
        (("could not be run", "failed"), ProofVerdict.FAILED, ProofOutcome.FAILED),
        (("could not be run", "passed"), ProofVerdict.UNCHECKED, ProofOutcome.OPEN),
        (("passed",), ProofVerdict.UNCHECKED, ProofOutcome.OPEN),
    ],
)
def test_a_point_is_proven_when_its_agent_answered_and_every_check_passed(
    states: tuple[str, ...], verdict: ProofVerdict, outcome: ProofOutcome
):
    results = tuple(result(f"check {number}", state) for number, state in enumerate(states))
    checks = (PortCheck("check 0", 1), PortCheck("check 1", 2))

    proof = proof_of(entry(checks=checks, results=results, answered_s=9.5), point())

    assert proof is not None
    assert (proof.verdict, proof.verdict.outcome, proof.boot_s) == (verdict, outcome, 9.5)
    assert proof.sentence


@pytest.mark.parametrize("agent", [True, False])
def test_a_guest_that_went_off_is_not_proven(agent: bool):
    proof = proof_of(entry(seen=signs(running=False), done=("ask-agent", "watch")), point(agent=agent))

    assert proof is not None and proof.verdict is ProofVerdict.STOPPED
    assert "went off within 20 s" in proof.sentence


def test_a_silent_guest_is_not_proven_and_what_was_seen_of_it_is_told():
    proof = proof_of(entry(seen=signs()), point())

    assert proof is not None and proof.verdict is ProofVerdict.SILENT
    assert "read 512 KiB" in proof.sentence and "screen stood still" in proof.sentence


def test_what_was_cancelled_or_is_no_whole_test_proves_nothing():
    asked = entry(answered_s=1.0)

    assert proof_of(entry(done=()), point()) is None
    assert proof_of(entry(done=()), point(agent=False)) is None
    assert proof_of(structs.replace(asked, request=structs.replace(asked.request, start=False)), point()) is None
    assert proof_of(structs.replace(asked, request=structs.replace(asked.request, mode=Mode.BESIDE)), point()) is None


def point(*, agent: bool = True):
    made = make_point("web")
    vm = structs.replace(made.manifest.vm, agent=agent)
    return structs.replace(made, manifest=structs.replace(made.manifest, vm=vm))


def signs(*, running: bool = True) -> SignsOfLife:
    return SignsOfLife(20.0, running, 3.0, 512 << 10, 0, screen_changed=False)


def result(name: str, state: str) -> GuestCheckResult:
    return GuestCheckResult(name, "something", GuestCheckState(state), "so it was", 0.1)


def entry(
    *,
    checks: tuple[PortCheck, ...] = (),
    results: tuple[GuestCheckResult, ...] = (),
    answered_s: float | None = None,
    seen: SignsOfLife | None = None,
    done: tuple[str, ...] = ("ask-agent",),
) -> Entry:
    made = point()
    request = Request(
        repository="vault",
        vm_uuid=made.manifest.vm.uuid,
        point_id=made.id,
        to_host="coruscant",
        mode=Mode.TEST,
        checks=checks,
        proves=True,
    )
    return Entry(
        id="0a1b2c3d",
        vm="web",
        moment=MOMENT,
        request=request,
        phase=Phase.UNDER_WAY,
        created=MOMENT,
        changed=MOMENT,
        marks=tuple(Mark(key, key, MOMENT, MOMENT) for key in done),
        guest_checks=results,
        seen=seen,
        agent_answered_s=answered_s,
    )
