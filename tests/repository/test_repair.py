"""Repair: whatever is damaged, nothing sound is lost by it, what can be healed is, and the rest is named exactly."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.repository import Passphrase, Remedy, Severity, StorageFailed
from tests.faults.repository_scenario import fast_folder
from tests.repository.building import BLOCK
from tests.repository.damaging import DAMAGES, KINDS, Blocks, Vault, exchanged, victims


@pytest.fixture(params=["plain", "encrypted"])
def vault(request: pytest.FixtureRequest) -> Iterator[Vault]:
    with fast_folder() as folder:
        yield Vault(folder, Passphrase(b"a long one") if request.param == "encrypted" else None)


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
    for victim in victims(vault, kind, chance, 2 if kind == "pack" else 1):
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
    for _ in range(2 if kind == "pack" else 1):
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


def test_one_flipped_bit_in_a_small_object_is_taken_back_without_help(vault: Vault):
    whole = vault.readable()
    chance = random.Random(8)
    for kind in ("manifest", "guard", "condemnation", "pending point", "witnesses", "record"):
        DAMAGES["flipped"](vault.objects(kind)[1], chance)

    report = vault.repair()

    assert {done.step.remedy for done in report.done} == {Remedy.HEAL}
    assert vault.readable() == whole
    assert vault.verify().sound


def test_a_manifest_that_nobody_has_is_set_aside_on_request_only(vault: Vault):
    victim = vault.objects("manifest")[0]
    DAMAGES["cut"](victim, random.Random(1))

    asked = vault.repair()
    assert victim.exists()
    assert [left.object for left in asked.left] == [str(victim.relative_to(vault.folder))]
    assert "--set-aside" in asked.left[0].remedy

    vault.repair(set_aside=True)
    assert not victim.exists()
    assert len(vault.open().points()) == 2
    assert vault.verify().sound


def test_an_unreadable_guard_is_replaced_by_a_pin_so_that_its_point_stays(vault: Vault):
    victim = vault.objects("guard")[0]
    DAMAGES["emptied"](victim, random.Random(1))
    guarded = vault.open().guarded().keys()

    vault.repair(set_aside=True)

    assert not victim.exists()
    assert vault.open().guarded().keys() == guarded
    assert "stands in for a guard" in str(vault.open().guarded())
    assert vault.verify().sound


def test_unreadable_witnesses_are_written_anew_and_collections_go_on(vault: Vault):
    for path in [*vault.folder.glob("leases/*"), *vault.folder.glob("pending/*")]:
        path.unlink()
    for victim in vault.objects("witnesses"):
        DAMAGES["cut"](victim, random.Random(1))

    vault.repair()
    with vault.open().collector("a test") as collector:
        collector.collect()

    assert vault.objects("witnesses") == vault.objects("condemnation") == []


def test_where_nothing_may_be_deleted_it_stops_before_it_changes_anything(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
):
    DAMAGES["cut"](vault.objects("manifest")[0], random.Random(1))
    vault.verify()
    before = vault.files()
    real = os.unlink

    def unlink(path: str | Path) -> None:
        if ".new-" not in str(path):
            raise PermissionError(13, "Permission denied")
        real(path)

    with monkeypatch.context() as patched, pytest.raises(StorageFailed, match="Could not delete"):
        patched.setattr(os, "unlink", unlink)
        vault.repair(vault.copy)

    changed = {name for name, content in vault.files().items() if before.get(name) != content}
    assert {name.rpartition("/")[0] for name in changed} == {"records/verify"}
    assert before.keys() <= vault.files().keys()
