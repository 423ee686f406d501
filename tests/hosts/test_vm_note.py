"""Notes in a VM's metadata, kept by libvirt's own test driver: what is written is read by everybody who comes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from engine.hosts import HostLane, MissingOnHost, power_off, start, vm_note
from engine.hosts.owner import Owner, this_process
from engine.hosts.vm_note import Act, VmNote
from engine.settings import Host

VM = "6695eb01-f6a4-8304-79aa-97f2502e193f"
"""The one VM of libvirt's test driver."""


@pytest.fixture
def lane() -> Iterator[HostLane]:
    lane = HostLane(Host(name="practice", uri="test:///default"))
    yield lane
    vm_note.erase(lane, VM)
    lane.close()


def note(act: Act) -> VmNote:
    return VmNote(act=act, owner=this_process(), domain_id=1, began=datetime(2026, 11, 22, 3, 0, tzinfo=UTC))


def read(lane: HostLane) -> VmNote | None:
    return lane.run(lambda connection: vm_note.read(connection.lookupByUUIDString(VM)))


@pytest.mark.parametrize("act", Act)
def test_what_is_written_is_read_and_erased(lane: HostLane, act: Act) -> None:
    vm_note.write(lane, VM, note(act))
    written = read(lane)
    vm_note.erase(lane, VM)
    vm_note.erase(lane, VM)

    assert written == note(act)
    assert read(lane) is None


@pytest.mark.parametrize(("act", "outlives"), [(Act.SHUT_DOWN, True), (Act.FROZEN, False), (Act.PAUSED, False)])
def test_only_a_shutdown_outlives_the_run(lane: HostLane, act: Act, outlives: bool) -> None:
    vm_note.write(lane, VM, note(act))

    power_off(lane, VM)
    found = read(lane)
    start(lane, VM)

    assert (found is not None) == outlives


def test_a_note_is_no_part_of_the_metadata_of_others(lane: HostLane) -> None:
    def set_tags(connection) -> None:
        connection.lookupByUUIDString(VM).setMetadata(2, "<tags>gold</tags>", "newhope", "urn:newhope:tags", 3)

    lane.run(set_tags)

    vm_note.write(lane, VM, note(Act.SHUT_DOWN))
    vm_note.erase(lane, VM)

    assert "gold" in lane.run(lambda connection: connection.lookupByUUIDString(VM).XMLDesc())


@pytest.mark.parametrize("text", ["<work/>", "<work act='juggled' owner='a-1-1' domain='1' began='1'/>"])
def test_a_note_that_cannot_be_understood_is_none(lane: HostLane, text: str) -> None:
    lane.run(
        lambda connection: connection.lookupByUUIDString(VM).setMetadata(2, text, "newhope-work", vm_note.NAMESPACE, 1)
    )

    assert read(lane) is None


def test_without_the_vm_there_is_nothing_to_erase(lane: HostLane) -> None:
    nobody = "00000000-0000-0000-0000-000000000000"

    vm_note.erase(lane, nobody)

    with pytest.raises(MissingOnHost):
        vm_note.write(lane, nobody, note(Act.PAUSED))


def test_a_process_is_dead_once_it_has_ended_and_another_machines_is_never_known_to_be() -> None:
    here = this_process()

    assert not here.dead
    assert Owner(here.machine, here.pid, here.start_ticks + 1).dead
    assert not Owner("ffffff", here.pid, here.start_ticks + 1).dead
