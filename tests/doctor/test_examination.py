"""The doctor's list of needs, and what it says of this machine."""

import os
from pathlib import Path

import pytest

from engine.doctor import Purpose, examine
from engine.doctor.examination import Family, family_of, mending_command, read_needs

LIST = Path("engine/doctor/system-packages.tsv").read_text()


def test_every_line_of_the_list_can_be_read():
    needs = read_needs(LIST)

    assert {need.needed_for for need in needs} == set(Purpose) - {Purpose.FILES}
    assert all(need.debian and need.fedora and need.purpose for need in needs)


def test_every_need_is_met_where_the_tests_run():
    needed = [check for check in examine() if check.needed_for is not Purpose.BENCH]
    missing = [check.name for check in needed if not check.found]

    assert missing == []


def test_a_found_program_says_its_version():
    versions = {check.name: check.version for check in examine()}

    assert versions["qemu-img"][0].isdigit()
    assert versions["ssh"][0].isdigit()


def test_a_missing_program_is_named_with_the_command_that_mends_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", os.fspath(tmp_path))
    monkeypatch.setattr("engine.doctor.examination._SYSTEM_FOLDERS", ())

    checks = {check.name: check for check in examine()}

    assert not checks["qemu-nbd"].found
    assert checks["qemu-nbd"].version == ""
    assert "qemu-utils" in checks["qemu-nbd"].mend


def test_the_extra_that_reads_disks_is_told_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    found = next(check for check in examine() if check.name == "dissect")
    monkeypatch.setattr("engine.disk_files.browsing._PARSERS", ("extfs", "of_tomorrow"))
    missing = next(check for check in examine() if check.name == "dissect")

    assert found.found
    assert found.version[0].isdigit()
    assert not missing.found
    assert missing.mend == "pip install 'newhope[files]'"


@pytest.mark.parametrize(
    ("release", "family"),
    [
        ({"ID": "debian"}, Family.DEBIAN),
        ({"ID": "ubuntu", "ID_LIKE": "debian"}, Family.DEBIAN),
        ({"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}, Family.DEBIAN),
        ({"ID": "fedora"}, Family.FEDORA),
        ({"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, Family.FEDORA),
        ({"ID": "arch"}, Family.OTHER),
        ({}, Family.OTHER),
    ],
)
def test_package_names_follow_the_distribution(release: dict[str, str], family: Family):
    assert family_of(release) is family


def test_each_family_gets_its_own_command():
    need = next(need for need in read_needs(LIST) if need.probe.startswith("command libvirtd"))

    assert mending_command(need, Family.DEBIAN).startswith("sudo apt-get install libvirt-daemon")
    assert mending_command(need, Family.FEDORA) == "sudo dnf install libvirt-daemon"
    assert "Debian calls" in mending_command(need, Family.OTHER)
