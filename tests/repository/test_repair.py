"""Repair: whatever is damaged, nothing sound is lost by it, what can be healed is, and the rest is named exactly."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.repository import Remedy, Severity
from tests.faults.repository_scenario import fast_folder
from tests.repository.building import BLOCK
from tests.repository.damaging import DAMAGES, KINDS, Blocks, Vault, exchanged, victims

TRIES = 3


@pytest.fixture
def vault() -> Iterator[Vault]:
    with fast_folder() as folder:
        yield Vault(folder)


def lost_blocks(vault: Vault, whole: Blocks) -> set[tuple[str, str, str, int]]:
    return whole.keys() - vault.readable().keys()


def check_repaired(vault: Vault, whole: Blocks, before: Blocks) -> None:
    """Nothing that could be read before is lost, what is lost is named, and there is nothing left to do."""
    after = vault.readable()
    assert before.items() <= after.items()
    assert after.items() <= whole.items()
    again = vault.plan()
    assert again.steps == ()
    found = vault.verify()
    named = {
        (loss.point.vm, loss.point.id, loss.name, run.offset // BLOCK + number)
        for loss in found.losses
        for run in loss.ranges
        for number in range(-(-run.length // BLOCK))
    }
    listed = {point.id for point in vault.open().points()}
    assert named == {block for block in whole.keys() - after.keys() if block[1] in listed}
    assert set(again.losses) == set(found.losses)
    left = {left.object for left in again.left}
    for finding in found.findings:
        assert finding.severity is not Severity.DAMAGE or finding.object in left


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_whatever_is_damaged_nothing_sound_is_lost_and_a_copy_heals_it(vault: Vault, kind: str, damage: str):
    chance = random.Random(f"{kind} {damage}")
    whole = vault.readable()
    for victim in victims(vault, kind, chance, TRIES):
        name = str(victim.relative_to(vault.folder))
        DAMAGES[damage](victim, chance)
        before = vault.readable()

        vault.repair(set_aside=damage == "scribbled")

        check_repaired(vault, whole, before)

        healed = vault.repair(vault.copy)

        if kind in ("pack", "index") or (kind == "manifest" and damage != "missing" and damage != "scribbled"):
            assert vault.readable() == whole, name
            assert healed.whole
            assert vault.plan(vault.copy).steps == ()
            assert vault.verify().sound, vault.verify().findings


@pytest.mark.parametrize("kind", KINDS)
def test_exchanged_objects_are_put_back_where_they_belong(vault: Vault, kind: str):
    chance = random.Random(kind)
    whole = vault.readable()
    for _ in range(TRIES):
        vault.mend()
        exchanged(*chance.sample(vault.objects(kind), 2))

        report = vault.repair()

        check_repaired(vault, whole, vault.readable())
        if kind not in ("lease",):
            assert vault.readable() == whole
            assert report.left == ()
            assert vault.verify().sound


@pytest.mark.parametrize("kind", KINDS)
def test_copies_under_other_names_are_taken_away(vault: Vault, kind: str):
    whole = vault.readable()
    for path in vault.objects(kind):
        digits = path.name[-8:]
        copy = path.with_name(path.name.removesuffix(digits) + digits[::-1])
        if not copy.exists():
            shutil.copyfile(path, copy)

    report = vault.repair(set_aside=kind == "lease")

    assert not [done for done in report.done if done.failed]
    check_repaired(vault, whole, whole)
    assert vault.verify().sound


def test_a_sound_repository_needs_nothing(vault: Vault):
    before = vault.files()

    plan = vault.plan()
    report = vault.repair()

    assert (plan.steps, plan.left, plan.losses) == ((), (), ())
    assert report.whole
    changed = {name for name in vault.files() if vault.files()[name] != before.get(name)}
    assert {name.rpartition("/")[0] for name in changed} == {"records/verify"}


def test_originals_are_kept(vault: Vault):
    damaged: dict[str, bytes] = {}
    for kind in ("index", "manifest", "record", "witnesses"):
        victim: Path = vault.objects(kind)[0]
        DAMAGES["cut"](victim, random.Random(kind))
        damaged[str(victim.relative_to(vault.folder))] = victim.read_bytes()

    report = vault.repair(vault.copy)

    assert {done.step.object for done in report.done if done.step.remedy is not Remedy.REINDEX} == damaged.keys()
    kept = {path: content for path, content in vault.files().items() if path.startswith("quarantine/")}
    assert {name.removeprefix("quarantine/").rpartition(".")[0]: kept[name] for name in kept} == damaged
