"""Every kind of damage to every kind of object is found, under the right name, with exactly the points it hurts.

What is hurt is not believed: every block of every disk of every point is read through a reader, and what it refuses
must be exactly what the verification calls lost.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from engine.repository import Repository, Severity, VerifyRequest
from engine.repository.block_record import BlockKind, Codec, block_name
from engine.repository.directory_storage import DirectoryStorage
from engine.repository.index import Index
from engine.repository.pack import OpenPack, read_pack_index
from tests.repository.building import DB, back_up, facts, later, packs_of
from tests.repository.vault_to_damage import FULL, KINDS, NEW, OLD, OTHER, QUICK, Vault, damaged, flip


def test_what_these_tests_damage_is_sound_before(vault: Vault):
    assert vault.verify().findings == ()
    assert vault.unreadable() == {}
    assert {kind: len(vault.objects(kind)) >= 1 for kind in KINDS} == dict.fromkeys(KINDS, True)


PACK_REGIONS: dict[str, Callable[[Path, int], int]] = {
    "magic": lambda path, size: 0,
    "version": lambda path, size: 8,
    "flags": lambda path, size: 10,
    "reserved": lambda path, size: 12,
    "salt": lambda path, size: 20,
    "record's magic": lambda path, size: 32,
    "record's kind": lambda path, size: 36,
    "record's codec": lambda path, size: 37,
    "record's flags": lambda path, size: 38,
    "record's raw length": lambda path, size: 40,
    "record's stored length": lambda path, size: 44,
    "record's name": lambda path, size: 50,
    "record's checksum": lambda path, size: 80,
    "record's first byte": lambda path, size: 84,
    "a record's middle": lambda path, size: size // 2,
    "table's name": lambda path, size: _table(path) + 5,
    "table's offset": lambda path, size: _table(path) + 32,
    "table's stored length": lambda path, size: _table(path) + 36,
    "table's raw length": lambda path, size: _table(path) + 40,
    "table's kind": lambda path, size: _table(path) + 44,
    "table's codec": lambda path, size: _table(path) + 45,
    "table's flags": lambda path, size: _table(path) + 46,
    "table's end": lambda path, size: size - 57,
    "trailer's count": lambda path, size: size - 56,
    "trailer's flags": lambda path, size: size - 52,
    "trailer's offset": lambda path, size: size - 48,
    "trailer's checksum": lambda path, size: size - 30,
    "end": lambda path, size: size - 1,
}


def _table(path: Path) -> int:
    return int.from_bytes(path.read_bytes()[-48:-40], "little")


@pytest.mark.parametrize("region", PACK_REGIONS)
def test_a_bit_flipped_in_a_pack_is_found_by_a_full_verification(vault: Vault, region: str):
    victim = vault.objects("pack")[0]
    flip(victim, PACK_REGIONS[region](victim, victim.stat().st_size), 3)

    found = vault.verify()

    assert list(damaged(found)) == [vault.key(victim)]
    vault.check_losses(found)


def test_a_flipped_bit_costs_the_blocks_that_it_hit_and_no_others(vault: Vault):
    victim = vault.objects("pack")[0]
    entries = read_pack_index(DirectoryStorage(vault.folder), vault.key(victim))
    entry = next(entry for entry in entries if entry.kind == 1)
    flip(victim, entry.offset + entry.record_length - 1)

    found = vault.verify()

    assert found.losses
    assert all(len(loss.objects) == 1 for loss in found.losses)
    vault.check_losses(found)


def test_bits_flipped_anywhere_in_any_pack_are_found(vault: Vault):
    chance = random.Random(11)
    for _ in range(40):
        victim = chance.choice(vault.objects("pack"))
        position = chance.randrange(victim.stat().st_size)
        flip(victim, position, chance.randrange(8))

        found = vault.verify()

        assert list(damaged(found)) == [vault.key(victim)], position
        vault.mend()


INDEX_REGIONS = {
    "magic": 0, "version": 8, "reserved": 12, "first record's name": 16, "first record's pack": 48,
    "first record's offset": 52, "first record's length": 56, "trailer's count": -64, "trailer's packs": -56,
    "trailer's superseded": -52, "trailer's time": -48, "trailer's checksum": -40, "fan-out": -300,
    "a pack's size": -2048 - 64 - 8, "end": -1,
}  # fmt: skip


@pytest.mark.parametrize("request_", [QUICK, FULL], ids=["quick", "full"])
@pytest.mark.parametrize("region", INDEX_REGIONS)
def test_a_bit_flipped_in_an_index_file_is_found_and_hurts_nobody(vault: Vault, region: str, request_: VerifyRequest):
    for victim in vault.objects("index"):
        flip(victim, INDEX_REGIONS[region], 2)

        found = vault.verify(request_)

        assert {key: finding.severity for key, finding in damaged(found).items()} == {
            vault.key(victim): Severity.DAMAGE
        }
        assert found.losses == ()
        vault.mend()


FRAME_REGIONS = {"magic": 0, "version": 8, "kind": 10, "codec": 11, "flags": 12, "raw length": 16,
                 "stored length": 20, "payload": 40, "checksum": -32, "end": -1}  # fmt: skip


@pytest.mark.parametrize("kind", ["manifest", "record", "lease"])
@pytest.mark.parametrize("region", FRAME_REGIONS)
def test_a_bit_flipped_in_a_framed_object_is_found_by_the_quickest_verification(vault: Vault, kind: str, region: str):
    victim = vault.objects(kind)[0]
    flip(victim, FRAME_REGIONS[region], 1)

    found = vault.verify(QUICK)

    (finding,) = found.findings
    assert finding.object == vault.key(victim)
    assert finding.severity is (Severity.LOSS if kind == "manifest" else Severity.DAMAGE)
    if kind == "manifest":
        vm, name = victim.parts[-2:]
        assert [(point.vm, f"{point.time}-{point.id}") for point in finding.points] == [(vm, name)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", ["empty", "first bytes", "half", "last byte missing", "one byte more"])
def test_a_cut_or_grown_object_is_found_by_the_quickest_verification(vault: Vault, kind: str, cut: str):
    for victim in vault.objects(kind)[:4]:
        content = victim.read_bytes()
        lengths = {"empty": 0, "first bytes": 30, "half": len(content) // 2, "last byte missing": len(content) - 1}
        victim.chmod(0o600)
        victim.write_bytes(content[: lengths[cut]] if cut in lengths else content + b"\0")

        found = vault.verify(QUICK)

        assert list(damaged(found)) == [vault.key(victim)]
        vault.check_losses(found)
        vault.mend()


def test_a_missing_pack_is_found_by_the_quickest_verification_with_all_it_hurts(vault: Vault):
    for victim in vault.objects("pack"):
        victim.unlink()

        found = vault.verify(QUICK)

        assert [finding.object for finding in found.findings] == [vault.key(victim)]
        assert found.findings[0].what == "it is missing"
        assert found.findings[0].severity is Severity.LOSS
        vault.check_losses(found)
        vault.mend()


def test_two_missing_packs_are_told_apart(vault: Vault):
    # The newest holds the other VM's disk. Of one VM, a pack may hold all that leads to the blocks of the other: what
    # is in that one nobody can tell.
    *_, two, one = sorted(vault.objects("pack"), key=lambda pack: pack.stat().st_mtime_ns)
    one.unlink()
    two.unlink()

    found = vault.verify(QUICK)

    assert set(damaged(found)) == {vault.key(one), vault.key(two)}
    vault.check_losses(found)


def test_a_missing_index_file_is_found_and_hurts_nobody(vault: Vault):
    for victim in vault.objects("index"):
        victim.unlink()

        found = vault.verify(QUICK)

        assert [(finding.object, finding.severity) for finding in found.findings] == [("index/", Severity.DAMAGE)]
        assert found.losses == ()
        vault.mend()


def test_without_any_index_every_point_is_still_known_to_be_whole(vault: Vault):
    shutil.rmtree(vault.folder / "index")

    found = vault.verify()

    assert [(finding.object, finding.severity) for finding in found.findings] == [("index/", Severity.DAMAGE)]
    assert found.losses == ()


def test_a_pack_and_the_index_file_that_named_it_missing_together_are_found(vault: Vault):
    shutil.rmtree(vault.folder / "index")
    vault.objects("pack")[0].unlink()

    found = vault.verify(QUICK)

    assert set(damaged(found)) == {"index/", "packs/"}
    vault.check_losses(found)


def test_everything_missing_is_everything_lost(vault: Vault):
    shutil.rmtree(vault.folder / "packs")
    shutil.rmtree(vault.folder / "index")

    found = vault.verify(QUICK)

    assert [finding.object for finding in found.findings] == ["packs/"]
    assert len(found.findings[0].points) == 3
    vault.check_losses(found)


class _Entry(NamedTuple):
    """A record that a writer with bad memory makes: `said` goes into its header, `stored` behind it."""

    said: bytes
    stored: bytes
    kind_in_table: int = 1


def _wrong_pack(folder: Path, *entries: _Entry, indexed_at: int = 0) -> str:
    """A pack that is named by its true hash and still not what it should be; its key."""
    storage = DirectoryStorage(folder)
    pack = OpenPack(storage.open_new())
    for entry in entries:
        pack.append(BlockKind.DATA, Codec.STORED, len(entry.stored), block_name(entry.said), entry.stored)
    kept = pack._entries  # pyright: ignore[reportPrivateUsage]
    kept[:] = [replace(one, kind=entry.kind_in_table) for one, entry in zip(kept, entries, strict=True)]
    sealed = pack.seal()
    pack.target.finish(sealed.key)
    if indexed_at:
        moved = tuple(replace(entry, offset=entry.offset + indexed_at) for entry in sealed.entries)
        Index(storage).add([replace(sealed, entries=moved)])
    return sealed.key


SOUND_ENTRY = _Entry(b"a" * 500, b"a" * 500)


@pytest.mark.parametrize(
    ("entry", "indexed_at", "what"),
    [
        (SOUND_ENTRY, 0, None),
        (_Entry(b"a" * 500, b"b" * 500), 0, "its content does not match its name"),
        (_Entry(b"a" * 500, b"a" * 500, kind_in_table=2), 0, "its header contradicts the pack's table"),
        (SOUND_ENTRY, 4, "an index names its block"),
    ],
    ids=["as it should", "content and name", "header and table", "index and pack"],
)
def test_what_a_writer_with_bad_memory_wrote_is_found_though_the_packs_name_fits(
    vault: Vault, entry: _Entry, indexed_at: int, what: str | None
):
    key = _wrong_pack(vault.folder, SOUND_ENTRY, entry, indexed_at=indexed_at)

    found = vault.verify()

    assert found.losses == ()
    if what is None:
        assert found.findings == ()
    else:
        (finding,) = found.findings
        assert (finding.object, finding.severity) == (key, Severity.DAMAGE)
        assert what in finding.what


@pytest.mark.parametrize("seed", range(40))
def test_of_any_mixture_of_damage_exactly_what_cannot_be_read_is_called_lost(vault: Vault, seed: int):
    chance = random.Random(seed)
    for _ in range(chance.randrange(1, 6)):
        victims = [*vault.objects("pack"), *vault.objects("index")]
        if not victims:
            break
        victim = chance.choice(victims)
        match chance.randrange(4):
            case 0:
                victim.unlink()
            case 1:
                victim.write_bytes(victim.read_bytes()[: chance.randrange(victim.stat().st_size + 1)])
            case 2:
                victim.write_bytes(chance.choice(victims).read_bytes())
            case _ if victim.stat().st_size:
                flip(victim, chance.randrange(victim.stat().st_size), chance.randrange(8))
            case _:
                victim.unlink()

    vault.check_losses(vault.verify())


def test_a_block_that_is_stored_twice_survives_the_loss_of_one_copy(vault: Vault):
    one = next(path for path in vault.objects("pack"))
    kept = one.read_bytes()
    one.unlink()
    back_up(Repository.open(vault.folder), OLD, bytes(3000), moment=later(60))
    back_up(Repository.open(vault.folder), NEW, b"x", moment=later(61))
    back_up(Repository.open(vault.folder), OTHER, moment=later(62), vm=facts(DB, "db"))
    one.write_bytes(kept)
    flip(one, len(kept) // 2)

    found = vault.verify()

    assert {key: finding.severity for key, finding in damaged(found).items()} == {vault.key(one): Severity.DAMAGE}
    assert found.losses == ()
    assert vault.unreadable() == {}


def test_what_was_damaged_and_brought_back_is_whole_again(vault: Vault):
    victim = vault.objects("pack")[0]
    content = victim.read_bytes()
    flip(victim, 100)
    repository = Repository.open(vault.folder)
    assert not repository.verifier(FULL).run().sound
    victim.write_bytes(content)

    # Damaged packs are read again by every verification.
    found = repository.verifier(QUICK).run()

    assert found.packs_read == 1
    assert found.findings == ()
    assert packs_of(vault.folder)
