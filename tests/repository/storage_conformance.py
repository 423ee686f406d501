"""What every storage backend must do. A backend's test module derives from `StorageConformance` and gives `storage`."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from engine.repository.errors import ObjectExists, ObjectMissing, Unsound
from engine.repository.storage import Storage


class StorageConformance:
    @pytest.fixture
    def storage(self) -> Storage:
        raise NotImplementedError("the backend's tests give this fixture")

    def test_what_was_created_is_read_back(self, storage: Storage):
        storage.create("records/a/one", b"content")

        assert storage.read("records/a/one") == b"content"
        assert storage.size("records/a/one") == 7

    def test_an_empty_object_is_an_object(self, storage: Storage):
        storage.create("records/a/empty", b"")

        assert storage.read("records/a/empty") == b""
        assert len(storage.map("records/a/empty")) == 0
        assert [entry.key for entry in storage.list("records/")] == ["records/a/empty"]

    def test_ranges_are_cut_at_the_end(self, storage: Storage):
        storage.create("records/a/one", b"0123456789")

        assert storage.read("records/a/one", 3, 4) == b"3456"
        assert storage.read("records/a/one", 8, 100) == b"89"
        assert storage.read("records/a/one", 4) == b"456789"
        assert storage.read("records/a/one", 10, 1) == b""
        assert storage.read("records/a/one", 99) == b""

    def test_a_name_that_is_taken_is_refused_and_its_object_kept(self, storage: Storage):
        storage.create("records/a/one", b"first")

        with pytest.raises(ObjectExists):
            storage.create("records/a/one", b"second")

        assert storage.read("records/a/one") == b"first"

    def test_an_object_written_in_pieces_appears_whole_and_only_when_finished(self, storage: Storage):
        new = storage.open_new()
        new.write(b"one", bytearray(b"two"), memoryview(b"three"))
        new.write(*[b"x"] * 2000)

        assert list(storage.list("packs/")) == []
        new.finish("packs/ab/abcd")

        assert storage.read("packs/ab/abcd") == b"onetwothree" + b"x" * 2000
        assert [(entry.key, entry.size_bytes) for entry in storage.list("packs/")] == [("packs/ab/abcd", 2011)]

    def test_pieces_may_be_reused_after_they_were_written(self, storage: Storage):
        new = storage.open_new()
        piece = bytearray(b"before")
        new.write(piece)
        piece[:] = b"after!"
        new.finish("packs/ab/abcd")

        assert storage.read("packs/ab/abcd") == b"before"

    def test_an_object_in_pieces_does_not_replace_another_either(self, storage: Storage):
        storage.create("packs/ab/abcd", b"first")
        new = storage.open_new()
        new.write(b"second")

        with pytest.raises(ObjectExists):
            new.finish("packs/ab/abcd")

        assert storage.read("packs/ab/abcd") == b"first"
        assert len(list(storage.list("packs/"))) == 1

    def test_an_abandoned_object_never_appears(self, storage: Storage):
        new = storage.open_new()
        new.write(b"half")
        new.abandon()
        new.abandon()

        assert list(storage.list("")) == []
        assert storage.clear_leftovers() == 0

    def test_of_many_who_create_one_name_exactly_one_succeeds(self, storage: Storage):
        outcomes: list[str] = []
        gate = threading.Barrier(8)

        def create(number: int) -> None:
            gate.wait()
            try:
                storage.create("leases/one", b"%d" % number)
                outcomes.append(str(number))
            except ObjectExists:
                outcomes.append("refused")

        threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert outcomes.count("refused") == 7
        assert storage.read("leases/one").decode() in outcomes

    def test_a_listing_is_in_order_and_only_of_what_is_asked_for(self, storage: Storage):
        for key in ("points/b/2", "points/a/9", "points/b/1", "packs/aa/aaaa", "newhope-repository"):
            storage.create(key, key.encode())

        assert [entry.key for entry in storage.list("points/")] == ["points/a/9", "points/b/1", "points/b/2"]
        assert [entry.key for entry in storage.list("points/b/")] == ["points/b/1", "points/b/2"]
        assert list(storage.list("records/")) == []

    def test_a_deleted_object_is_gone_and_deleting_it_again_is_no_error(self, storage: Storage):
        storage.create("index/one", b"content")
        storage.delete("index/one")
        storage.delete("index/one")

        assert list(storage.list("index/")) == []
        storage.create("index/one", b"anew")
        assert storage.read("index/one") == b"anew"

    @pytest.mark.parametrize("ask", ["read", "size", "map", "ranges"])
    def test_what_is_not_there_is_said_to_be_missing(self, storage: Storage, ask: str):
        with pytest.raises(ObjectMissing, match="packs/ab/abcd"):
            getattr(storage, ask)("packs/ab/abcd")

    def test_a_mapped_object_stays_readable_after_it_was_deleted(self, storage: Storage):
        storage.create("index/one", b"content" * 1000)
        mapped = storage.map("index/one")
        storage.delete("index/one")

        assert mapped[:7] == b"content"
        assert len(mapped) == 7000

    def test_any_piece_of_an_opened_object_is_read_and_none_beyond_its_end(self, storage: Storage):
        content = bytes(range(256)) * 400
        storage.create("index/one", content)
        for ranges in (storage.ranges("index/one"), storage.ranges("index/one", len(content))):
            assert ranges.size_bytes == len(content)
            assert ranges.read(0, 10) == content[:10]
            assert ranges.read(65530, 20) == content[65530:65550]
            ranges.expect_all()
            assert ranges.read(len(content) - 5, 5) == content[-5:]
            with pytest.raises(Unsound, match="cut"):
                ranges.read(len(content) - 5, 6)

    def test_when_an_object_was_created_is_known(self, storage: Storage):
        begun = datetime.now(UTC)
        storage.create("index/one", b"content")

        assert abs(storage.created_at("index/one") - begun) < timedelta(seconds=60)
        with pytest.raises(ObjectMissing):
            storage.created_at("index/two")

    def test_free_space_is_known_or_said_not_to_be(self, storage: Storage):
        free = storage.free_bytes()

        assert free is None or free > 0
