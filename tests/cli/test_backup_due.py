"""`newhope backup --due`: who is due and why, and what becomes of it; exclusions in every list of VMs."""

from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.backup import Request
from engine.cli.backups_job import make_backups
from engine.jobs import JobContext, JobResult, JobState, Journal, Step, StepState
from engine.jobs.process import ProcessIdentity, identify
from engine.repository import Repository
from engine.settings import Method, load
from tests.cli.conftest import Place, Run, make_point

NAMES = ("db-1", "web", "tmp-1", "fresh")
UUIDS = {name: f"00000000-0000-4000-8000-{name.encode().hex():0>12}" for name in NAMES}


@pytest.fixture
def host(place: Place, tmp_path: Path) -> str:
    """A host of libvirt's own test driver with four VMs, which it shows and cannot back up."""
    domains = "".join(
        f"<domain type='test'><name>{name}</name><uuid>{uuid}</uuid><memory>65536</memory><vcpu>1</vcpu>"
        "<os><type arch='x86_64'>hvm</type></os>"
        "<metadata><newhope:tags xmlns:newhope='urn:newhope:tags'>gold</newhope:tags></metadata>"
        f"<devices><disk type='file'><source file='{tmp_path}/{name}.img'/><target dev='vda'/></disk></devices>"
        "</domain>"
        for name, uuid in UUIDS.items()
    )
    file = tmp_path / "host.xml"
    file.write_text(f"<node>{domains}</node>")
    section = f'[hosts.alderaan]\nuri = "test://{file}"\n'
    place.write(hosts=section, more='[exclude]\nvms = ["tmp-*"]')
    with Repository.create(place.vault, name="vault") as repository:
        make_point(repository, "fresh", age=timedelta(minutes=3))
        make_point(repository, "web", age=timedelta(hours=5))
    return section


def test_a_dry_run_says_who_is_due_why_and_when_the_others_will_be(host: str, newhope: Run) -> None:
    answer = newhope("--json", "backup", "--due", "--dry-run")

    assert answer.code == 0
    assert [(each["vm"], each["why"]) for each in answer.document["due"]] == [
        ("db-1", "no recovery point of it can be reached"),
        ("web", "late: 125 % of its RPO is over"),
    ]
    (later,) = answer.document["later"]
    assert later["vm"] == "fresh"
    assert datetime.fromisoformat(later["due_at"]) > datetime.now(UTC) + timedelta(hours=1)
    assert [each["why"] for each in answer.document["left_out"]] == ['excluded by vms = "tmp-*"']


def test_the_same_as_a_table(host: str, newhope: Run) -> None:
    lines = newhope("backup", "--due", "--dry-run").out.splitlines()

    assert [line.split()[0] for line in lines[1:4]] == ["db-1", "web", "fresh"]
    assert '- left out tmp-1 on alderaan: excluded by vms = "tmp-*"' in lines


def test_all_that_are_due_are_tried_and_those_that_failed_wait(
    host: str, newhope_process: Run, newhope: Run, journal: Journal
) -> None:
    answer = newhope_process("backup", "--due", "--yes")

    assert answer.code == 11, answer.err
    assert "2 of 2 backups failed: db-1, web" in answer.err
    assert sorted(job.subject for job in journal.jobs() if job.kind == "backup") == ["db-1", "web"]
    waiting = newhope("--json", "backup", "--due", "--dry-run").document
    assert waiting["due"] == []
    failed = {job.subject: f"the last attempt failed (job {job.id})" for job in journal.jobs() if job.kind == "backup"}
    assert {each["vm"]: each["why"] for each in waiting["later"] if each["failed"]} == failed
    # A timer must not call it well before they have their recovery points.
    assert newhope("backup", "--due", "--yes").code == 11


def test_a_run_leaves_to_another_what_is_on_its_list(host: str, newhope: Run, journal: Journal) -> None:
    listed = [Request(UUIDS[name], name, "alderaan", "vault", Method.HOT) for name in ("db-1", "web")]
    other = insert_backups(journal, listed)
    assert journal.begin(other, here())

    assert {each["why"] for each in later(newhope) if each["vm"] != "fresh"} == {f"job {other} sees to it"}

    ended = Step(1, "db-1 on alderaan", StepState.FAIL, datetime.now(UTC))
    journal.pulse(other, [ended, Step(2, "web on alderaan", StepState.WAIT)])

    assert [each["vm"] for each in due(newhope)] == ["db-1"]
    journal.end(other, JobState.CANCELLED, steps=())
    assert [each["vm"] for each in due(newhope)] == ["db-1", "web"]


def test_what_another_run_has_done_meanwhile_is_not_done_again(host: str, newhope: Run, place: Place) -> None:
    settings = load(place.settings_file)
    requests = [Request(UUIDS[name], name, "alderaan", "vault", Method.HOT) for name in ("db-1", "web")]
    with Journal(place.state) as journal:
        mine = insert_backups(journal, requests)
        theirs = [insert_backup(journal, request) for request in requests]
        journal.end(theirs[0], JobState.WARN, steps=(), result="done")
        assert journal.begin(theirs[1], here())
        later_on = threading.Timer(1.0, lambda: journal.end(theirs[1], JobState.DONE, steps=(), result="done"))
        later_on.start()

        result = make_backups(settings, journal.job(mine), JobContext(journal, journal.job(mine)))

        later_on.join()
        assert result == JobResult("2 VMs backed up. To be looked at: db-1.", warn=True)
        assert [job.id for job in journal.jobs() if job.kind == "backup"] == [*reversed(theirs)]
        notes = {step.title: step.note for step in journal.job(mine).steps}
        assert notes == {"db-1 on alderaan": f"job {theirs[0]}", "web on alderaan": f"job {theirs[1]}"}


def due(newhope: Run) -> Any:
    return newhope("--json", "backup", "--due", "--dry-run").document["due"]


def later(newhope: Run) -> Any:
    return newhope("--json", "backup", "--due", "--dry-run").document["later"]


def here() -> ProcessIdentity:
    found = identify(os.getpid())
    assert found is not None
    return found


def insert_backup(journal: Journal, request: Request) -> int:
    spec = msgspec.json.encode(request)
    return journal.insert(kind="backup", subject=request.vm, host="", spec=spec, lock=None, again="", untouched="")


def insert_backups(journal: Journal, requests: list[Request]) -> int:
    spec = msgspec.json.encode(requests)
    return journal.insert(kind="backups", subject="VMs", host="", spec=spec, lock=None, again="", untouched="")


def test_nothing_due_is_well(host: str, newhope: Run, place: Place) -> None:
    place.write(hosts=host, more='[exclude]\nvms = ["tmp-*", "web", "db-*"]')

    answer = newhope("backup", "--due", "--yes")

    assert answer.code == 0
    assert "Nothing is due" in answer.out
    assert "Nothing is due" in newhope("backup", "--due", "--dry-run").out


def test_an_excluded_vm_is_shown_with_its_rule_and_left_out_of_all(host: str, newhope: Run) -> None:
    row = next(line for line in newhope("vms").out.splitlines() if line.startswith("tmp-1"))
    skipped = newhope("--json", "backup", "--all", "--dry-run").document["skipped"]

    assert row.endswith("EXCLUDED")
    assert 'vms = "tmp-*"' in row
    assert 'vms = "tmp-*" in [exclude] of the settings' in newhope("vms", "tmp-1").out
    assert skipped == [{"vm": "tmp-1 on alderaan", "reason": 'The settings exclude it: vms = "tmp-*".'}]


def test_a_tag_in_the_definition_chooses_the_level(host: str, newhope: Run, place: Place) -> None:
    gold = '[levels.gold]\nrpo = "1h"\nrto = "15m"\ntags = ["gold"]'
    place.write(hosts=host, more=gold)

    levels = {vm["name"]: vm["protection"]["level"]["name"] for vm in newhope("--json", "vms").document["vms"]}

    assert set(levels.values()) == {"gold"}


def test_due_goes_with_no_vm(newhope: Run) -> None:
    assert newhope("backup", "web", "--due").code == 2
