"""Objects of a repository in places where they do not belong."""

from __future__ import annotations

import shutil

import pytest

from engine.repository import Severity
from tests.repository.vault_to_damage import KINDS, QUICK, Vault, damaged


@pytest.mark.parametrize("kind", ["pack", "manifest", "record", "index"])
def test_exchanged_objects_are_found_both(vault: Vault, kind: str):
    one, two = vault.objects(kind)[0], vault.objects(kind)[-1]
    assert one != two
    first, second = one.read_bytes(), two.read_bytes()
    one.chmod(0o600), two.chmod(0o600)
    one.write_bytes(second)
    two.write_bytes(first)

    found = vault.verify()

    assert set(damaged(found)) == {vault.key(one), vault.key(two)}
    vault.check_losses(found)


def test_packs_of_other_sizes_in_each_others_places_are_found_by_the_quickest_verification(vault: Vault):
    packs = sorted(vault.objects("pack"), key=lambda path: path.stat().st_size)
    small, large = packs[0], packs[-1]
    first, second = small.read_bytes(), large.read_bytes()
    small.write_bytes(second)
    large.write_bytes(first)

    found = vault.verify(QUICK)

    assert set(damaged(found)) == {vault.key(small), vault.key(large)}
    vault.check_losses(found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_an_object_in_the_place_of_another_of_any_kind_is_found(vault: Vault, kind: str, other: str):
    victim, source = vault.objects(kind)[0], vault.objects(other)[-1]
    if victim == source:
        pytest.skip("there is only one")
    shutil.copyfile(source, victim)

    found = vault.verify()

    assert list(damaged(found)) == [vault.key(victim)]
    vault.check_losses(found)


@pytest.mark.parametrize("kind", ["manifest", "record", "index", "lease"])
def test_a_copy_under_another_name_is_found_and_hurts_nobody_else(vault: Vault, kind: str):
    source = vault.objects(kind)[0]
    copy = source.with_name(source.name[:-1] + ("0" if source.name[-1] != "0" else "1"))
    shutil.copyfile(source, copy)

    found = vault.verify(QUICK)

    assert list(damaged(found)) == [vault.key(copy)]
    assert found.losses == ()


def test_a_copy_of_a_pack_under_another_name_is_found_and_hurts_nobody(vault: Vault):
    source = vault.objects("pack")[0]
    copy = source.with_name(source.name[:-1] + ("0" if source.name[-1] != "0" else "1"))
    shutil.copyfile(source, copy)

    found = vault.verify()

    assert {key: finding.severity for key, finding in damaged(found).items()} == {vault.key(copy): Severity.DAMAGE}
    assert found.losses == ()


def test_a_file_that_is_no_object_is_told_and_is_no_damage(vault: Vault):
    (vault.folder / "packs" / "README").write_text("put here by somebody")

    found = vault.verify()

    assert [(finding.object, finding.severity) for finding in found.findings] == [("packs/README", Severity.NOTE)]
    assert found.sound
