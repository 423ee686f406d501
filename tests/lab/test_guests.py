from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from engine.lab.acceleration import Acceleration
from engine.lab.guests import GUESTS, HOSTS, GuestPlan, definition, guest_uuid
from engine.lab.layout import layout_of

LAYOUT = layout_of(Path("/srv/a lab & more"))


def the_definition(guest: GuestPlan) -> ElementTree.Element:
    host = LAYOUT.host(guest.host)
    return ElementTree.fromstring(definition(guest, host, LAYOUT.folder, Acceleration.EMULATION))


def test_the_guests_differ_in_what_a_backup_tool_must_cope_with() -> None:
    formats = {tuple(disk.format for disk in guest.disks) for guest in GUESTS}

    assert {("qcow2",), ("raw",), ("qcow2", "raw")} <= formats
    assert any(guest.firmware == "efi" for guest in GUESTS)
    assert any(not guest.agent for guest in GUESTS)
    assert any(not guest.running for guest in GUESTS)
    assert {guest.host for guest in GUESTS} == set(HOSTS)


@pytest.mark.parametrize("guest", GUESTS, ids=lambda guest: guest.name)
def test_a_guest_refers_only_to_files_of_its_own_host_and_to_no_socket(guest: GuestPlan) -> None:
    root = the_definition(guest)

    files = [element.get("file") for element in root.iter("source")] + [
        root.findtext(f"os/{name}") for name in ("kernel", "initrd")
    ]

    assert all(file is not None and Path(file).is_relative_to(LAYOUT.host(guest.host).folder) for file in files)
    assert root.find("devices/channel/source") is None


def test_an_agent_channel_is_there_exactly_where_there_is_an_agent() -> None:
    for guest in GUESTS:
        assert (the_definition(guest).find("devices/channel") is not None) == guest.agent


def test_uuids_stay_the_same_in_one_lab_and_differ_between_two() -> None:
    one, two = Path("/srv/one"), Path("/srv/two")

    assert guest_uuid(one, "web") == guest_uuid(one, "web")
    assert len({guest_uuid(one, "web"), guest_uuid(two, "web"), guest_uuid(one, "db")}) == 3
