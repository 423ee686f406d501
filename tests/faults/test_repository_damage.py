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

from engine.errors import NewhopeError
from engine.repository import Extent, Repository, Severity, VerifyRequest
from tests.faults.figures import Fault, count
from tests.faults.repository_scenario import Scenario, fast_folder

KINDS = {
    "identity": "newhope-repository",
    "pack": "packs/*/*",
    "index": "index/*",
    "manifest": "points/*/*",
    "record": "records/*/*",
}
NAMES = {"identity": "identity", "pack": "packs", "index": "index", "manifest": "points", "record": "records"}
REPORT = b"# Restored\n" * 20


class Vault:
    def __init__(self, folder: Path) -> None:
        self.scenario = Scenario(folder)
        Repository.open(self.scenario.template).put_record("restores", "one", REPORT)
        Repository.open(self.scenario.template).put_record("restores", "two", REPORT[::-1])
        self.scenario.begin()

    def objects(self, kind: str) -> list[Path]:
        return sorted(path for path in self.scenario.folder.glob(KINDS[kind]) if path.is_file())

    def mend(self) -> None:
        self.scenario.begin()

    def verify_names(self, *damaged: Path) -> bool:
        """A verification that reads everything names what is damaged, or there is no repository to be read.

        Only of the identity something may change and mean nothing: the white space at its end.
        """
        wanted = {str(path.relative_to(self.scenario.folder)) for path in damaged}
        try:
            found = Repository.open(self.scenario.folder).verifier(VerifyRequest(Extent.FULL, anew=True)).run()
        except NewhopeError as error:
            assert wanted == {KINDS["identity"]}
            assert error.next_step
            return True
        finally:
            shutil.rmtree(self.scenario.folder / "records" / "verify", ignore_errors=True)
        if wanted == {KINDS["identity"]}:
            return False
        assert {finding.object for finding in found.findings if finding.severity is not Severity.NOTE} >= wanted
        return True

    def look(self) -> str:
        """`whole`, or `found` where damage was met; fails if anything wrong was handed out."""
        try:
            repository = Repository.open(self.scenario.folder)
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
def vault() -> Iterator[Vault]:
    with fast_folder() as folder:
        yield Vault(folder)


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit_is_never_handed_out(vault: Vault, kind: str):
    chance = random.Random(kind)
    outcomes = {"whole": 0, "found": 0}
    for victim in chance.sample(vault.objects(kind), min(4, len(vault.objects(kind)))):
        content = victim.read_bytes()
        ends = [*range(0, min(70, len(content)), 4), *range(max(0, len(content) - 70), len(content), 4)]
        for position in (*ends, *(chance.randrange(len(content)) for _ in range(20))):
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


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_object_is_never_handed_out(vault: Vault, kind: str):
    chance = random.Random(kind)
    outcomes = {"whole": 0, "found": 0}
    for victim in chance.sample(vault.objects(kind), min(3, len(vault.objects(kind)))):
        content = victim.read_bytes()
        for length in {0, 1, 20, len(content) - 1, *(chance.randrange(len(content)) for _ in range(10))}:
            victim.write_bytes(content[:length])
            outcomes[vault.look()] += 1
            count(Fault.CUT, NAMES[kind], harmless=not vault.verify_names(victim))
        victim.write_bytes(content)

    assert outcomes["found"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_missing_object_is_never_made_up(vault: Vault, kind: str):
    for victim in vault.objects(kind):
        victim.unlink()
        outcome = vault.look()
        vault.mend()
        # Without an index the packs are asked. A point that was deleted is no longer there.
        assert outcome == ("whole" if kind == "index" else "found")
        count(Fault.MISSING, NAMES[kind])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "identity"])
def test_exchanged_objects_are_never_taken_for_each_other(vault: Vault, kind: str):
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


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "identity"])
def test_an_object_copied_over_another_of_any_kind_is_never_taken_for_it(vault: Vault, kind: str):
    chance = random.Random(kind)
    for other in KINDS:
        victim, source = chance.choice(vault.objects(kind)), chance.choice(vault.objects(other))
        if victim != source:
            victim.write_bytes(source.read_bytes())
            assert vault.look() == "found" or kind in ("pack", "index")
            vault.verify_names(victim)
            vault.mend()
            count(Fault.EXCHANGED, NAMES[kind])


def test_objects_that_are_there_twice_do_no_harm(vault: Vault):
    for kind in ("pack", "index"):
        for path in vault.objects(kind):
            copy = path.with_name(path.name[::-1])
            shutil.copyfile(path, copy)
            count(Fault.TWICE, NAMES[kind])
    shutil.copyfile(
        vault.objects("manifest")[0], vault.objects("manifest")[0].with_name("20200101T000000Z-0123456789abcdef")
    )

    repository = Repository.open(vault.scenario.folder)
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
