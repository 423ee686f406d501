from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from engine.repository import Consistency, DiskRecord, FileRecord, Manifest, VmFacts, VolumeKind, five_volumes

VM = VmFacts("web", "u", "h", 1, 1, "x86_64", "q35", "kvm", "", None, "bios", True, True, (), ())


def manifest(*files: tuple[str, int], disks: tuple[DiskRecord, ...] = ()) -> Manifest:
    now = datetime(2026, 11, 28, tzinfo=UTC)
    kept = tuple(FileRecord(role, "name", size_bytes, "", 0) for role, size_bytes in files)
    return Manifest(1, VM, now, now, "hot", Consistency.CRASH, "", disks, kept, 0.0, 0, 0, None, "newhope")


def test_every_disk_and_file_is_in_one_of_the_five() -> None:
    disk = DiskRecord("vda", 1 << 30, "qcow2", "", 0, data_bytes=1000, read_reason="full")
    roles = ("host", "pool", "definition-live", "tpm", "network", "filter", "saved-state", "of a later version")

    volumes = five_volumes(manifest(*((role, 1) for role in roles), disks=(disk,)))

    assert {each.kind: each.size_bytes for each in volumes} == {
        VolumeKind.HOST_CONFIGURATION: 2,
        VolumeKind.VM_DEFINITION: 3,
        VolumeKind.VIRTUAL_DISKS: 1000,
        VolumeKind.VIRTUAL_NETWORKS: 2,
        VolumeKind.SAVED_STATE: 1,
    }
    assert sum(each.size_bytes for each in volumes) == len(roles) + 1000


def test_a_point_without_saved_state_still_shows_the_volume() -> None:
    *_, saved = five_volumes(manifest(("host", 1)))

    assert (saved.kind, saved.size_bytes, saved.parts) == (VolumeKind.SAVED_STATE, 0, ())


def test_a_manifest_from_before_there_were_notes_is_stored_as_it_was() -> None:
    disk = DiskRecord("vda", 1, "raw", "", 0, 0, "full")

    stored = msgspec.json.decode(msgspec.json.encode(manifest(disks=(disk,))))

    assert {"notes", "snapshots"}.isdisjoint(stored)
    assert {"source", "kind", "encrypted"}.isdisjoint(stored["disks"][0])
