"""Bits flipped, ends cut, objects lost, doubled or exchanged, at every kind of object.

Whatever is damaged: a point is listed and restores byte for byte, or its restore stops with an error that names the
object, or it is passed over and reported. Never is anything else handed out.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from engine.errors import NewhopeError
from engine.repository import Extent, Passphrase, Repository, Severity, VerifyRequest
from tests.faults.figures import Fault, count
from tests.faults.repository_scenario import Scenario, fast_folder
from tests.repository.building import PASSPHRASE, unlock

KINDS = {
    "identity": "newhope-repository",
    "pack": "packs/*/*",
    "index": "index/*",
    "manifest": "points/*/*",
    "record": "records/*/*",
    "key": "keys/*",
}
NAMES = {
    "identity": "identity",
    "pack": "packs",
    "index": "index",
    "manifest": "points",
    "record": "records",
    "key": "keys",
}
REPORT = b"# Restored\n" * 20
OFFICE = Passphrase(b"zeus barium otter")
PLAIN = [pytest.param((kind, None), id=f"plain {kind}") for kind in KINDS if kind != "key"]
EVERY = [*PLAIN, *(pytest.param((kind, PASSPHRASE), id=f"encrypted {kind}") for kind in KINDS)]
EVERY_BUT_IDENTITY = [each for each in EVERY if "identity" not in str(each.id)]
Which = tuple[str, Passphrase | None]
"""A kind of object, and the passphrase of the repository that it is in."""


class Vault:
    def __init__(self, folder: Path, passphrase: Passphrase | None) -> None:
        self.scenario = Scenario(folder, passphrase)
        repository = Repository.open(self.scenario.template, unlock=unlock)
        repository.put_record("restores", "one", REPORT)
        repository.put_record("restores", "two", REPORT[::-1])
        if passphrase is not None:
            repository.add_key("office", OFFICE)
        self.master = repository.master_key()
        self.scenario.begin()

    def objects(self, kind: str) -> list[Path]:
        return sorted(path for path in self.scenario.folder.glob(KINDS[kind]) if path.is_file())

    def mend(self) -> None:
        self.scenario.begin()

    def open(self) -> Repository:
        """As somebody who has the recovery sheet, and needs none of the passphrases."""
        return Repository.open(self.scenario.folder, unlock=lambda *_: self.master or PASSPHRASE)

    def shows_without_a_key(self, path: Path) -> bool:
        """Whether what FORMAT.md says of names and checksums tells that an object is not what was written there."""
        content, key = path.read_bytes(), str(path.relative_to(self.scenario.folder))
        if key.startswith(("packs/", "index/")):
            return blake3(content).hexdigest() != path.name
        return blake3(key.encode() + b"\0" + content[:-32]).digest() != content[-32:]

    def verify_names(self, *damaged: Path) -> bool:
        """A verification that reads everything names what is damaged, or there is no repository to be read.

        Only of the identity something may change and mean nothing: the white space at its end.
        """
        wanted = {str(path.relative_to(self.scenario.folder)) for path in damaged}
        try:
            found = self.open().verifier(VerifyRequest(Extent.FULL, anew=True)).run()
        except NewhopeError as error:
            assert wanted == {KINDS["identity"]}
            assert error.next_step
            return True
        finally:
            shutil.rmtree(self.scenario.folder / "records" / "verify", ignore_errors=True)
        if wanted == {KINDS["identity"]}:
            return False
        assert all(map(self.shows_without_a_key, damaged))
        assert {finding.object for finding in found.findings if finding.severity is not Severity.NOTE} >= wanted
        return True

    def look(self) -> str:
        """`whole`, or `found` where damage was met; fails if anything wrong was handed out."""
        try:
            repository = Repository.open(self.scenario.folder, unlock=unlock)
        except NewhopeError as error:
            assert error.next_step
            return "found"
        found = False
        points = repository.points()
        for point in points:
            try:
                with repository.reader() as reader:
                    for record, content in zip(
                        point.manifest.disks, self.scenario.contents[point.manifest.moment], strict=True
                    ):
                        restored = bytearray(record.size_bytes)
                        for offset, data in reader.read_disk(record):
                            assert data == content[offset : offset + len(data)]
                            restored[offset : offset + len(data)] = data
                        assert restored == content
                    assert [reader.file(file) for file in point.manifest.files] == [b"<domain/>"]
            except NewhopeError as error:
                assert "packs/" in error.what or "no pack holds it" in error.what
                found = True
        for name, content in (("one", REPORT), ("two", REPORT[::-1])):
            try:
                assert repository.record("restores", name) == content
            except NewhopeError as error:
                assert f"restores/{name}" in error.what
                found = True
        assert len(points) == 2 or repository.damaged or len(self.objects("manifest")) < 2
        return "found" if found or repository.damaged or len(points) < 2 else "whole"


@pytest.fixture
def vault(which: Which) -> Iterator[Vault]:
    with fast_folder() as folder:
        yield Vault(folder, which[1])


@pytest.mark.parametrize("which", EVERY)
def test_a_flipped_bit_is_never_handed_out(vault: Vault, which: Which):
    kind, passphrase = which
    chance = random.Random(kind)
    outcomes = {"whole": 0, "found": 0}
    # What is in the clear is the same in both; every byte counts there, and has been through it once.
    step, inside = (4, 20) if passphrase is None else (10, 10)
    for victim in chance.sample(vault.objects(kind), min(4 if passphrase is None else 2, len(vault.objects(kind)))):
        content = victim.read_bytes()
        ends = [*range(0, min(70, len(content)), step), *range(max(0, len(content) - 70), len(content), step)]
        for position in (*ends, *(chance.randrange(len(content)) for _ in range(inside))):
            damaged = bytearray(content)
            damaged[position] ^= 1 << chance.randrange(8)
            victim.write_bytes(damaged)
            outcomes[vault.look()] += 1
            count(Fault.FLIP, _part(kind, content, position), harmless=not vault.verify_names(victim))
        victim.write_bytes(content)

    assert outcomes["found"]
    if kind in ("manifest", "record"):
        assert outcomes["whole"] == 0
    assert vault.look() == "whole"


@pytest.mark.parametrize("which", EVERY)
def test_a_cut_object_is_never_handed_out(vault: Vault, which: Which):
    kind, passphrase = which
    chance = random.Random(kind)
    outcomes = {"whole": 0, "found": 0}
    for victim in chance.sample(vault.objects(kind), min(3, len(vault.objects(kind)))):
        content = victim.read_bytes()
        for length in {
            0,
            1,
            20,
            len(content) - 1,
            *(chance.randrange(len(content)) for _ in range(10 if passphrase is None else 3)),
        }:
            victim.write_bytes(content[:length])
            outcomes[vault.look()] += 1
            count(Fault.CUT, NAMES[kind], harmless=not vault.verify_names(victim))
        victim.write_bytes(content)

    assert outcomes["found"]


@pytest.mark.parametrize("which", EVERY)
def test_a_missing_object_is_never_made_up(vault: Vault, which: Which):
    kind, _ = which
    ours = vault.open().keys()[:1]
    for victim in vault.objects(kind):
        victim.unlink()
        outcome = vault.look()
        vault.mend()
        # Without an index the packs are asked. A point that was deleted is no longer there.
        # Another's key opens nothing for us, and we do not need it.
        needless = kind == "index" or (kind == "key" and victim.name != ours[0].id)
        assert outcome == ("whole" if needless else "found")
        count(Fault.MISSING, NAMES[kind])


@pytest.mark.parametrize("which", EVERY_BUT_IDENTITY)
def test_exchanged_objects_are_never_taken_for_each_other(vault: Vault, which: Which):
    kind, _ = which
    chance = random.Random(kind)
    pairs = [chance.sample(vault.objects(kind), 2) for _ in range(6)]
    for pair in pairs:
        one, two = pair
        first, second = one.read_bytes(), two.read_bytes()
        one.write_bytes(second)
        two.write_bytes(first)
        outcome = vault.look()
        # What was exchanged may hold, at the same places, the same blocks: then nothing is wrong.
        assert outcome == "found" or kind in ("pack", "index")
        vault.verify_names(*pair)
        vault.mend()
        count(Fault.EXCHANGED, NAMES[kind])


@pytest.mark.parametrize("which", EVERY_BUT_IDENTITY)
def test_an_object_copied_over_another_of_any_kind_is_never_taken_for_it(vault: Vault, which: Which):
    kind, passphrase = which
    chance = random.Random(kind)
    for other in KINDS if passphrase is not None else list(KINDS)[:-1]:
        victim, source = chance.choice(vault.objects(kind)), chance.choice(vault.objects(other))
        if victim != source:
            victim.write_bytes(source.read_bytes())
            assert vault.look() == "found" or kind in ("pack", "index", "key")
            vault.verify_names(victim)
            vault.mend()
            count(Fault.EXCHANGED, NAMES[kind])


@pytest.mark.parametrize("which", [("", None), ("", PASSPHRASE)], ids=["plain", "encrypted"])
def test_objects_that_are_there_twice_do_no_harm(vault: Vault, which: Which):
    for kind in ("pack", "index", "key"):
        for path in vault.objects(kind):
            copy = path.with_name(path.name[::-1])
            shutil.copyfile(path, copy)
            count(Fault.TWICE, NAMES[kind])
    shutil.copyfile(
        vault.objects("manifest")[0], vault.objects("manifest")[0].with_name("20200101T000000Z-0123456789abcdef")
    )

    repository = Repository.open(vault.scenario.folder, unlock=unlock)
    assert len(repository.keys() if which[1] else ()) == (2 if which[1] else 0)
    assert len(repository.points()) == 2
    assert len(repository.damaged) == 1
    for path in vault.scenario.folder.glob("points/*/2020*"):
        path.unlink()
    vault.scenario.check()
    count(Fault.TWICE, NAMES["manifest"])


def _part(kind: str, content: bytes, position: int) -> str:
    """What of an object a byte belongs to: of packs, by the trailer that says where the table is."""
    if kind != "pack":
        return NAMES[kind]
    table = int.from_bytes(content[-48:-40], "little")
    if position < 16:
        return "packs: header"
    if position < 32:
        return "packs: salt"
    if position < table:
        return "packs: records"
    return "packs: table" if position < len(content) - 56 else "packs: trailer"
