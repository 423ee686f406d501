"""The passphrases of a repository, and its recovery sheet: who has one gets in, who has none any more does not."""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path

import msgspec
import pytest
from blake3 import blake3

from engine.errors import Conflict, NewhopeError, NotFound
from engine.repository import MasterKey, Passphrase, Repository, RepositoryLocked, VerifyRequest, key_slots
from engine.repository.directory_storage import DirectoryStorage
from engine.repository.keys import Keys
from engine.repository.lease import HeldLease
from engine.repository.recovery_sheet import sheet
from engine.repository.verify_model import Extent
from tests.repository.building import BLOCK, FIRST_MOMENT, PASSPHRASE, back_up, mixed_disk, restored, unlock

SECOND = Passphrase(b"zeus barium otter")
SHOWN = re.compile(r"correct horse|zeus barium", re.IGNORECASE)


@pytest.fixture
def repository(folder: Path) -> Repository:
    return Repository.create(folder, name="vault", block_bytes=BLOCK, passphrase=PASSPHRASE, key_name="hester")


def opens(folder: Path, secret: Passphrase | MasterKey) -> bool:
    try:
        Repository.open(folder, unlock=lambda repository_id, name: secret)
    except RepositoryLocked:
        return False
    return True


def key_files(folder: Path) -> list[Path]:
    return sorted((folder / "keys").iterdir())


def names_of(repository: Repository) -> list[str]:
    return [slot.name for slot in repository.keys()]  # noqa: SIM118  (not those of a dict)


def master_of(repository: Repository) -> MasterKey:
    master = repository.master_key()
    assert master is not None
    return master


def test_every_key_opens_it_until_it_is_removed(repository: Repository, folder: Path):
    content = mixed_disk(20)
    point = back_up(repository, content)
    assert not opens(folder, SECOND)

    added = repository.add_key("office", SECOND)
    assert names_of(repository) == ["hester", "office"]
    for secret in (PASSPHRASE, SECOND):
        opened = Repository.open(folder, unlock=lambda *_, secret=secret: secret)
        assert restored(opened, point.manifest.disks[0]) == content

    repository.remove_key("hester")
    assert repository.keys() == (added,)
    assert opens(folder, SECOND)
    assert not opens(folder, PASSPHRASE)


def test_the_last_key_is_never_removed(repository: Repository, folder: Path):
    with pytest.raises(Conflict, match="last key"):
        repository.remove_key("hester")
    added = repository.add_key("office", SECOND)
    repository.remove_key(added.id)
    with pytest.raises(Conflict, match="last key"):
        repository.remove_key(repository.keys()[0].id)

    assert opens(folder, PASSPHRASE)


def test_a_damaged_key_does_not_count_as_one_and_may_be_removed(repository: Repository, folder: Path):
    added = repository.add_key("office", SECOND)
    path = folder / "keys" / added.id
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(Conflict, match="last key"):
        repository.remove_key("hester")
    repository.remove_key(added.id)
    assert [file.name for file in key_files(folder)] == [repository.keys()[0].id]


def test_a_key_that_is_not_there_is_not_removed(repository: Repository):
    repository.add_key("office", SECOND)

    with pytest.raises(NotFound, match="no key attic"):
        repository.remove_key("attic")


def test_a_name_is_used_once_and_the_id_tells_two_apart(repository: Repository, folder: Path):
    with pytest.raises(Conflict, match="already"):
        repository.add_key("hester", SECOND)
    # Two machines that add a key at the same time do not see each other.
    twin = key_slots.create_slot(
        DirectoryStorage(folder), repository.info().id, "hester", SECOND, master_of(repository)
    )
    with pytest.raises(Conflict, match="2 keys named hester"):
        repository.remove_key("hester")
    repository.remove_key(twin.id)

    assert opens(folder, PASSPHRASE)
    assert not opens(folder, SECOND)


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 65])
def test_a_name_that_cannot_be_shown_is_refused(repository: Repository, name: str):
    with pytest.raises(Conflict, match="no name for a key"):
        repository.add_key(name, SECOND)


def test_an_empty_passphrase_is_refused_before_anything_is_made(repository: Repository, tmp_path: Path):
    with pytest.raises(RepositoryLocked, match="empty"):
        repository.add_key("empty", Passphrase(b""))
    with pytest.raises(RepositoryLocked, match="empty"):
        Repository.create(tmp_path / "other", passphrase=Passphrase(b""))

    assert len(repository.keys()) == 1
    assert not list((tmp_path / "other").iterdir())


def test_two_removals_at_once_exclude_each_other(repository: Repository, folder: Path):
    repository.add_key("office", SECOND)
    keys = Keys(master_of(repository), repository.info().id)
    other = HeldLease(DirectoryStorage(folder), "keys", "somebody else", 60, keys)

    with pytest.raises(Conflict, match="somebody else"):
        repository.remove_key("office")
    other.release()
    repository.remove_key("office")
    assert list((folder / "leases").iterdir()) == []


def test_a_slot_of_another_repository_opens_nothing_and_does_not_count(repository: Repository, tmp_path: Path):
    other = Repository.create(tmp_path / "other", block_bytes=BLOCK, passphrase=SECOND)
    shutil.copy(key_files(tmp_path / "other")[0], tmp_path / "vault" / "keys")

    assert not opens(tmp_path / "vault", SECOND)
    assert names_of(repository) == ["hester"]
    with pytest.raises(Conflict, match="last key"):
        repository.remove_key("hester")
    assert other.keys()[0].name == "first"


def test_a_slot_that_was_changed_opens_nothing_though_its_checksum_fits(repository: Repository, folder: Path):
    (path,) = key_files(folder)
    whole = path.read_bytes()
    for old, new in ((b'"hester"', b'"hestor"'), (b'"passes": 1', b'"passes": 2')):
        body = whole[:-32].replace(old, new)
        path.write_bytes(body + blake3(f"keys/{path.name}\0".encode() + body).digest())
        assert repository.keys() != ()
        assert not opens(folder, PASSPHRASE)


def test_a_slot_that_asks_for_all_memory_is_refused(repository: Repository, folder: Path):
    (path,) = key_files(folder)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(key_slots, "LARGEST_COST", key_slots.Cost(32, 1, 1))
        assert repository.keys() == ()
        with pytest.raises(RepositoryLocked, match="more memory"):
            Repository.open(folder, unlock=unlock)
        found = repository.verifier(VerifyRequest(Extent.QUICK)).run().findings

    assert [finding.object for finding in found] == [f"keys/{path.name}"]


def test_every_flipped_bit_of_a_slot_shows_before_a_passphrase_is_asked_for(repository: Repository, folder: Path):
    (path,) = key_files(folder)
    whole = path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        assert repository.keys() == ()
    for length in range(0, len(whole), 13):
        path.write_bytes(whole[:length])
        assert repository.keys() == ()
    with pytest.raises(RepositoryLocked, match=f"keys/{path.name}"):
        Repository.open(folder, unlock=unlock)


def test_a_passphrase_costs_what_the_page_says():
    assert key_slots.Cost(65536, 3, 4) == msgspec.json.decode(
        b'{"memory_kib": 65536, "passes": 3, "lanes": 4}', type=key_slots.Cost
    )


def test_the_sheet_opens_it_when_every_key_is_lost(repository: Repository, folder: Path):
    content = mixed_disk(20)
    point = back_up(repository, content)
    text = repository.recovery_sheet()
    assert all(word in text for word in ("vault", str(folder), repository.info().id))
    shutil.rmtree(folder / "keys")
    assert not opens(folder, PASSPHRASE)

    opened = Repository.open(folder, unlock=lambda *_: MasterKey.from_sheet(text))
    assert restored(opened, point.manifest.disks[0]) == content
    opened.add_key("new", SECOND)
    assert opens(folder, SECOND)


KEY = bytes(range(7, 39))
SHEET = sheet(KEY, "0" * 32, "vault", "/vault", FIRST_MOMENT)
LINES = [line for line in SHEET.splitlines() if re.match(r" +\d:", line)]


def test_a_sheet_is_read_as_people_copy_it():
    for text in (
        SHEET,
        "\n".join(LINES),
        "\n".join(reversed(LINES)),
        SHEET.lower(),
        "\n".join(line.replace("0", "O").replace("1:", "I:").replace("I:", "1:") for line in LINES),
        "\n".join(line.replace(" ", "") for line in LINES),
        "\r\n".join(LINES),
        "\n".join(f"> {line}" for line in LINES),
    ):
        assert MasterKey.from_sheet(text) == MasterKey(KEY)


def test_a_slip_of_the_pen_is_found_in_its_line_and_nothing_of_the_key_is_told():
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    signs = LINES[2].partition(":")[2].replace(" ", "")
    for position in range(len(signs)):
        for other in alphabet.replace(signs[position], "")[::7]:
            wrong = signs[:position] + other + signs[position + 1 :]
            with pytest.raises(RepositoryLocked, match="line 3 was not copied") as caught:
                MasterKey.from_sheet("\n".join([*LINES[:2], f"3: {wrong}", LINES[3]]))
            assert wrong not in str(caught.value)

    exchanged = [LINES[0], LINES[1], f"3:{LINES[3].partition(':')[2]}", f"4:{LINES[2].partition(':')[2]}"]
    for lines, why in (
        (exchanged, "line 3"),
        (LINES[:3], "line 4 is missing"),
        ([*LINES[:3], LINES[3][:-1]], "line 4 has 15"),
        ([*LINES[:3], LINES[3][:-1] + "U"], "line 4 has a letter"),
        ([], "missing"),
    ):
        with pytest.raises(RepositoryLocked, match=why):
            MasterKey.from_sheet("\n".join(lines))


def test_nothing_secret_is_shown(repository: Repository, folder: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    master = master_of(repository)
    shown = [repr(PASSPHRASE), str(SECOND), f"{master}", repr([master]), repr(repository), repr(repository.keys())]
    shown += [str(PASSPHRASE.__rich_repr__()), str(master.__rich_repr__())]
    repository.add_key("office", SECOND)
    for act in (
        lambda: repository.add_key("office", SECOND),
        lambda: Repository.open(folder, unlock=lambda *_: Passphrase(b"zeus barium")),
        lambda: Repository.open(folder, unlock=lambda *_: MasterKey(bytes(32))),
        lambda: Repository.create(folder, passphrase=SECOND),
        lambda: repository.remove_key("attic"),
    ):
        with pytest.raises(NewhopeError) as caught:
            act()
        shown += [str(caught.value), repr(caught.value), repr(caught.value.__cause__)]
    with pytest.raises(ValueError, match="32 bytes") as wrong_length:
        MasterKey(master.value[:-1])
    shown += [str(wrong_length.value), caplog.text]

    for text in shown:
        assert not SHOWN.search(text)
        assert master.value.hex() not in text
        assert repr(master.value)[2:-1] not in text
    everything = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert master.value not in everything
    assert master.value.hex().encode() not in everything


def test_what_a_killed_creation_left_is_not_in_the_way(tmp_path: Path):
    other = Repository.create(tmp_path / "other", passphrase=PASSPHRASE)
    (tmp_path / "vault/keys").mkdir(parents=True)
    shutil.copy(key_files(tmp_path / "other")[0], tmp_path / "vault/keys")

    repository = Repository.create(tmp_path / "vault", passphrase=SECOND)
    assert names_of(repository) == ["first"]
    assert repository.keys() != other.keys()
    assert opens(tmp_path / "vault", SECOND)


def test_somebody_s_folder_of_keys_is_no_place_for_a_repository(tmp_path: Path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/front-door.txt").write_text("under the mat")

    with pytest.raises(Conflict, match="keys"):
        Repository.create(tmp_path, passphrase=SECOND)


def test_a_plain_repository_has_no_keys_to_change(tmp_path: Path):
    plain = Repository.create(tmp_path / "plain")

    for act in (lambda: plain.add_key("office", SECOND), lambda: plain.remove_key("x"), plain.recovery_sheet):
        with pytest.raises(Conflict, match="not encrypted"):
            act()
    assert not (tmp_path / "plain/keys").exists()
