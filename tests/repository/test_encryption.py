"""An encrypted repository does all that a plain one does, opens for those who have a key, and shows nobody else a word.

What is tried on plain repositories elsewhere is tried here on encrypted ones where the two could differ.
"""

from __future__ import annotations

import json
import random
import shutil
import threading
from pathlib import Path

import pytest
from blake3 import blake3

from engine.errors import NewhopeError
from engine.repository import (
    Extent,
    MasterKey,
    Passphrase,
    Repository,
    RepositoryDamaged,
    RepositoryLocked,
    Severity,
    VerifyRequest,
    key_slots,
)
from engine.repository.block_record import decode_record, encode_header
from engine.repository.directory_storage import DirectoryStorage
from engine.repository.errors import Unsound
from engine.repository.frame import HEADER as FRAME_HEADER
from engine.repository.frame import FrameKind, decode_frame, encode_frame
from engine.repository.keys import Keys
from engine.repository.lease import HeldLease
from engine.repository.manifest import point_key
from engine.repository.pack import read_pack_index
from tests.repository.building import (
    BLOCK,
    PASSPHRASE,
    SMALL,
    back_up,
    facts,
    later,
    mixed_disk,
    packs_of,
    restored,
    unlock,
)

WORD = b"nobody must see this "


@pytest.fixture
def repository(folder: Path) -> Repository:
    return Repository.create(folder, name="vault", block_bytes=BLOCK, passphrase=PASSPHRASE)


def objects_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def verified(repository: Repository, extent: Extent = Extent.FULL) -> list[tuple[str, Severity]]:
    found = repository.verifier(VerifyRequest(extent)).run().findings
    return [(finding.object, finding.severity) for finding in found]


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 4
    path.write_bytes(content)


def test_disks_come_back_by_passphrase_and_by_master_key(repository: Repository, folder: Path):
    contents = mixed_disk(), bytes(70_000), b""
    point = back_up(repository, *contents)
    master = repository.master_key()
    assert master is not None

    for secret in (PASSPHRASE, master):
        opened = Repository.open(folder, unlock=lambda repository_id, name, secret=secret: secret)
        assert opened.encrypted
        assert [found.manifest for found in opened.points()] == [point.manifest]
        for record, content in zip(point.manifest.disks, contents, strict=True):
            assert restored(opened, record) == content
        with opened.reader() as reader:
            assert reader.file(point.manifest.files[0]) == b"<domain/>"


def test_a_second_backup_of_the_same_stores_nothing_new(repository: Repository, folder: Path):
    content = mixed_disk()
    back_up(repository, content)

    again = back_up(Repository.open(folder, unlock=unlock), content, moment=later(1))
    assert again.manifest.new_bytes == 0


def test_a_plain_repository_asks_for_nothing(folder: Path):
    Repository.create(folder)
    opened = Repository.open(folder, unlock=lambda repository_id, name: pytest.fail("it asked"))

    assert (opened.encrypted, opened.master_key(), opened.keys()) == (False, None, ())


def test_unlock_is_told_what_it_is_for(repository: Repository, folder: Path):
    asked: list[tuple[str, str]] = []

    def remember(repository_id: str, name: str) -> Passphrase:
        asked.append((repository_id, name))
        return PASSPHRASE

    Repository.open(folder, name="vault", unlock=remember)
    Repository.open(folder, unlock=remember)
    assert asked == [(repository.info().id, "vault"), (repository.info().id, str(folder))]


def test_nothing_in_the_clear_lies_in_it(repository: Repository, folder: Path):
    text = (WORD * 300)[:BLOCK]
    old = back_up(repository, text + mixed_disk(20), moment=later(-50))
    point = back_up(repository, text + mixed_disk(20, 3))
    repository.pin(point, why="audit at nobody must see this", by="hester")
    repository.protect(point, until=later(10), why="nobody must see this", by="hester")
    repository.put_record("restores", "report", WORD)
    verified(repository)
    storage = DirectoryStorage(folder)
    HeldLease(storage, "writer", "hester", 60, Keys(master_of(repository), repository.info().id))
    with repository.writer("hester", limits=SMALL), repository.collector("hester", limits=SMALL) as collector:
        collector.drop([old])
        collector.collect()
        found = objects_of(folder)

    kinds = {key.partition("/")[0] for key in found}
    assert kinds >= {"packs", "index", "points", "guards", "records", "leases", "condemned", "witnesses", "keys"}
    for key, content in found.items():
        for word in (WORD.strip(), b"hester", b"alderaan", b'"vm":', b"52:54:", b"domain", repository.name.encode()):
            assert word not in content, key
        if content[:8] == b"NHFRAME\n":
            *_, flags, _raw_length, _stored_length = FRAME_HEADER.unpack_from(content)
            assert flags == (0 if key.startswith("keys/") else 1), key
    for pack in packs_of(folder):
        assert {entry.flags for entry in read_pack_index(storage, str(pack.relative_to(folder)))} == {1}


def test_names_of_blocks_tell_nothing_to_who_has_the_content(repository: Repository, tmp_path: Path):
    content = mixed_disk(30)
    other = Repository.create(tmp_path / "other", block_bytes=BLOCK, passphrase=PASSPHRASE)
    roots = {back_up(each, content).manifest.disks[0].map_root for each in (repository, other)}
    names = {
        entry.name
        for folder in (tmp_path / "vault", tmp_path / "other")
        for pack in packs_of(folder)
        for entry in read_pack_index(DirectoryStorage(folder), str(pack.relative_to(folder)))
    }

    assert len(roots) == 2
    assert not names & {blake3(content[at : at + BLOCK]).digest() for at in range(0, len(content), BLOCK)}


def test_verifying_finds_nothing_in_a_healthy_one(repository: Repository):
    for number in range(3):
        back_up(repository, mixed_disk(200, number), moment=later(number))

    for extent in Extent:
        assert verified(repository, extent) == []


def test_what_dropped_points_needed_is_collected_and_the_rest_stays(repository: Repository, folder: Path):
    shared = mixed_disk(150, 1)
    contents = [shared + random.Random(number).randbytes(120 * BLOCK) for number in range(3)]
    points = [back_up(repository, content, moment=later(number)) for number, content in enumerate(contents)]
    told = repository.forecast(points[:2])
    before = sum(path.stat().st_size for path in packs_of(folder))

    with Repository.open(folder, unlock=unlock).collector("a test", limits=SMALL) as collector:
        assert collector.drop(points[:2]) == 2
        done = collector.collect()

    assert done.freed_bytes == pytest.approx(told.frees_bytes, rel=0.05)
    assert before - sum(path.stat().st_size for path in packs_of(folder)) >= 200 * BLOCK
    assert restored(repository, points[2].manifest.disks[0]) == contents[2]
    assert verified(repository) == []


def test_pins_records_and_leases_are_read_back(repository: Repository, folder: Path):
    point = back_up(repository, mixed_disk(10))
    repository.pin(point, why="audit", by="hester")
    repository.put_record("restores", "one", b"well")
    opened = Repository.open(folder, unlock=unlock)

    assert opened.guarded() == {point.id: ("pinned by hester: audit",)}
    assert opened.record("restores", "one") == b"well"
    assert opened.unpin(point) == 1
    with opened.writer("hester"):
        assert repository.info().writers == 1
    assert opened.damaged == ()


def test_an_index_is_rebuilt_from_packs_without_a_key(repository: Repository, folder: Path):
    content = mixed_disk(100)
    point = back_up(repository, content)
    shutil.rmtree(folder / "index")

    assert restored(Repository.open(folder, unlock=unlock), point.manifest.disks[0]) == content


def test_many_threads_may_open_it_at_once(repository: Repository, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(key_slots, "USUAL_COST", key_slots.Cost(64, 1, 4))
    repository.add_key("four lanes", Passphrase(b"four lanes"))
    failures: list[BaseException] = []

    def open_it() -> None:
        try:
            Repository.open(folder, unlock=lambda *_: Passphrase(b"four lanes"))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


@pytest.mark.parametrize(
    "secret",
    [Passphrase(b"rumpelstiltskin"), Passphrase(b""), Passphrase(PASSPHRASE.value + b"\n"), MasterKey(bytes(32))],
    ids=["wrong", "empty", "with a line's end", "another master key"],
)
def test_a_wrong_secret_opens_nothing(repository: Repository, folder: Path, secret: Passphrase | MasterKey):
    with pytest.raises(RepositoryLocked) as caught:
        Repository.open(folder, name="vault", unlock=lambda *_: secret)

    assert "vault" in caught.value.what
    assert caught.value.next_step
    assert "rumpel" not in str(caught.value)


def test_without_a_secret_it_says_that_it_is_encrypted(repository: Repository, folder: Path):
    with pytest.raises(RepositoryLocked, match="encrypted"):
        Repository.open(folder)


def test_a_repository_that_turned_plain_is_refused_where_it_is_expected_to_be_encrypted(
    repository: Repository, folder: Path, tmp_path: Path
):
    plain = Repository.create(tmp_path / "plain", block_bytes=BLOCK)
    shutil.copy(tmp_path / "plain" / "newhope-repository", folder / "newhope-repository")

    with pytest.raises(RepositoryDamaged, match="not encrypted") as caught:
        Repository.open(folder, unlock=unlock, expect_encrypted=True)
    assert "nothing was written" in caught.value.untouched
    assert not Repository.open(tmp_path / "plain").encrypted
    assert plain.keys() == ()


def test_a_changed_identity_is_refused_though_its_checksum_fits(repository: Repository, folder: Path):
    file = folder / "newhope-repository"
    values = {**json.loads(file.read_text()), "block_bytes": 2 * BLOCK}
    values.pop("checksum")
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    file.write_text(json.dumps({**values, "checksum": blake3(text.encode()).hexdigest()}))

    with pytest.raises(RepositoryLocked, match="identity"):
        Repository.open(folder, unlock=unlock)


def master_of(repository: Repository) -> MasterKey:
    master = repository.master_key()
    assert master is not None
    return master


def test_a_frame_of_another_place_of_another_key_or_of_none_is_refused(repository: Repository):
    keys = Keys(master_of(repository), "1" * 32)
    others = Keys(master_of(repository), "2" * 32)
    kind = FrameKind.RECORD
    frame = encode_frame("records/a/one", kind, WORD, keys)
    assert decode_frame("records/a/one", kind, frame, keys) == WORD
    # As somebody would do it who can write, and has no key: the checksum is made to fit.
    moved = frame[:-32] + blake3(b"records/a/two\0" + frame[:-32]).digest()
    raised = bytearray(frame[:-32])
    raised[16] ^= 1

    for place, content, with_keys, why in (
        ("records/a/two", moved, keys, "seal"),
        ("records/a/one", bytes(raised) + blake3(b"records/a/one\0" + raised).digest(), keys, "seal"),
        ("records/a/one", frame, others, "seal"),
        ("records/a/one", frame, None, "no key"),
        ("records/a/one", encode_frame("records/a/one", kind, WORD), keys, "not sealed"),
    ):
        with pytest.raises(Unsound, match=why):
            decode_frame(place, kind, content, with_keys)


def test_exchanged_and_plain_blocks_are_refused_though_everything_in_the_clear_fits(
    repository: Repository, folder: Path
):
    back_up(repository, random.Random(1).randbytes(4 * BLOCK))
    keys = Keys(master_of(repository), repository.info().id)
    content = packs_of(folder)[0].read_bytes()
    first, second = read_pack_index(DirectoryStorage(folder), str(packs_of(folder)[0].relative_to(folder)))[:2]
    one, two = (content[each.offset : each.offset + each.record_length] for each in (first, second))
    assert len(decode_record(one, first.name, BLOCK, keys)) == BLOCK

    plain = encode_header(first.kind, 0, BLOCK, BLOCK, first.name) + bytes(BLOCK)  # pyright: ignore[reportArgumentType]
    for record, why in ((one[:52] + two[52:], "seal"), (plain, "not sealed")):
        with pytest.raises(Unsound, match=why):
            decode_record(record, first.name, BLOCK, keys)
    with pytest.raises(Unsound, match="no key"):
        decode_record(one, first.name, BLOCK)


def test_what_somebody_without_the_key_adds_does_not_count(repository: Repository, folder: Path, tmp_path: Path):
    point = back_up(repository, mixed_disk(30))
    plain = Repository.create(tmp_path / "plain", block_bytes=BLOCK)
    invented = back_up(plain, mixed_disk(30), moment=later(5), vm=facts(name="evil"))
    for part in ("packs", "index", "points"):
        shutil.copytree(tmp_path / "plain" / part, folder / part, dirs_exist_ok=True)
    opened = Repository.open(folder, unlock=unlock)

    assert [found.id for found in opened.points()] == [point.id]
    assert [damaged.key for damaged in opened.damaged] == [point_key(invented)]
    assert restored(opened, point.manifest.disks[0]) == mixed_disk(30)


@pytest.mark.parametrize("where", ["start", "middle", "end"])
@pytest.mark.parametrize("kind", ["packs", "points", "keys", "records", "guards", "newhope-repository"])
def test_every_flipped_bit_is_found_by_a_full_verification(repository: Repository, folder: Path, kind: str, where: str):
    point = back_up(repository, mixed_disk(60))
    repository.pin(point, why="audit", by="hester")
    repository.put_record("restores", "one", b"well")
    path = next(
        path for path in sorted(folder.rglob("*")) if path.is_file() and str(path).startswith(f"{folder}/{kind}")
    )
    size = path.stat().st_size
    flip(path, {"start": 30, "middle": size // 2, "end": size - 60}[where])

    try:
        opened = Repository.open(folder, unlock=lambda *_: master_of(repository))
    except NewhopeError:
        assert kind == "newhope-repository"
        return
    if kind == "guards":
        assert "cannot be read" in opened.guarded()[point.id][0]
    else:
        assert str(path.relative_to(folder)) in [key for key, _ in verified(opened)]
