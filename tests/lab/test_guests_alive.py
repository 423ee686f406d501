"""What the practice guests promise to every other test, asked of real ones."""

from __future__ import annotations

import json
import time
from pathlib import Path
from xml.etree import ElementTree

import libvirt
import libvirt_qemu
import pytest

from engine.fleet import open_repository
from engine.lab import Lab
from engine.settings import load
from tests.lab.live import asked_on_the_console, is_off_within, journal, libvirt_of
from tests.waiting import wait_for

pytestmark = [pytest.mark.lab, pytest.mark.slow, pytest.mark.guests("db", "vault", "legacy")]

AGENTS = [("alderaan", "web"), ("alderaan", "db"), ("coruscant", "vault")]


def test_every_host_and_guest_is_as_planned(lab: Lab) -> None:
    status = lab.status()

    assert [host.state for host in status.hosts] == ["running"] * 3
    seen = {guest.name: (host.name, guest.state, guest.agent) for host in status.hosts for guest in host.guests}
    assert seen["web"] == ("alderaan", "running", "answers")
    assert seen["db"] == ("alderaan", "running", "answers")
    assert seen["vault"] == ("coruscant", "running", "answers")
    assert seen["legacy"] == ("coruscant", "running", "none")
    assert seen["build"] == ("yavin", "off", "off")


@pytest.mark.parametrize(("host", "vm"), AGENTS)
def test_the_journal_grows_by_durable_lines(lab: Lab, host: str, vm: str) -> None:
    before = journal(lab, host, vm)
    assert wait_for(lambda: journal(lab, host, vm)["acked"] >= before["acked"] + 3)
    after = journal(lab, host, vm)

    assert before["vm"] == vm
    assert before["boots"] >= 1
    head = lab.run_in_guest(host, vm, ["/usr/bin/journal", "head", str(after["acked_bytes"])]).stdout
    lines = head.splitlines()
    assert len(head) == after["acked_bytes"]
    assert [int(line.split()[0]) for line in lines] == list(range(1, after["acked"] + 1))


def test_the_second_disk_never_runs_ahead_and_lags_by_one_line_at_most(lab: Lab) -> None:
    for _ in range(5):
        found = lab.run_in_guest(
            "alderaan",
            "db",
            ["/bin/sh", "-c", "a=$(tail -n 1 /second/journal); b=$(tail -n 1 /data/journal); echo ${a%% *} ${b%% *}"],
        )
        second, first = (int(word) for word in found.stdout.split())
        # The second is read first, and reading both takes a while in which a line may be added.
        assert second <= first <= second + 2


def test_the_payload_is_what_was_put_on_the_disk(lab: Lab) -> None:
    told = lab.run_in_guest("alderaan", "web", ["/usr/bin/journal", "payload"])

    assert told.exit_code == 0
    assert json.loads(told.stdout)["intact"] is True


def test_a_freeze_stops_the_journal_and_a_thaw_lets_it_go_on(lab: Lab) -> None:
    with libvirt_of(lab, "alderaan") as opened:
        domain = opened.lookupByName("db")
        assert domain.fsFreeze() == 2
        try:
            # A line that was written before the freeze may be acknowledged after it, but only one.
            frozen = asked_on_the_console(lab, "alderaan", "db")
            time.sleep(5)
            still = asked_on_the_console(lab, "alderaan", "db")
        finally:
            assert domain.fsThaw() == 2

    assert frozen["acked"] <= still["acked"] <= frozen["acked"] + 1
    assert wait_for(lambda: journal(lab, "alderaan", "db")["acked"] > still["acked"])


def test_the_agent_tells_who_the_guest_is(lab: Lab) -> None:
    with libvirt_of(lab, "alderaan") as opened:
        domain = opened.lookupByName("web")

        system = json.loads(libvirt_qemu.qemuAgentCommand(domain, '{"execute":"guest-get-osinfo"}', 5, 0))["return"]
        name = json.loads(libvirt_qemu.qemuAgentCommand(domain, '{"execute":"guest-get-host-name"}', 5, 0))["return"]
        cards = libvirt_qemu.qemuAgentCommand(domain, '{"execute":"guest-network-get-interfaces"}', 5, 0)

    assert system["pretty-name"] == "newhope practice guest"
    assert name["host-name"] == "web"
    assert "10.0.2.15" in cards


def test_a_guest_without_an_agent_answers_on_its_console(lab: Lab) -> None:
    told = asked_on_the_console(lab, "coruscant", "legacy")

    assert told["vm"] == "legacy"
    assert told["acked"] >= 1


def test_the_uefi_guest_has_its_own_nvram_and_the_others_have_none(lab: Lab) -> None:
    with libvirt_of(lab, "coruscant") as opened:
        vault = ElementTree.fromstring(opened.lookupByName("vault").XMLDesc(0))
        legacy = ElementTree.fromstring(opened.lookupByName("legacy").XMLDesc(0))

    assert vault.findtext("os/nvram", "").endswith("vault_VARS.fd")
    assert legacy.find("os/nvram") is None
    told = lab.run_in_guest("coruscant", "vault", ["/bin/sh", "-c", "[ -d /sys/firmware/efi ] && echo efi"])
    assert told.stdout == b"efi\n"


def test_every_host_has_a_pool_that_runs_and_a_network_that_is_defined(lab: Lab) -> None:
    for host in lab.hosts:
        with libvirt_of(lab, host) as opened:
            (pool,) = opened.listAllStoragePools()
            (network,) = opened.listAllNetworks()

            assert (pool.name(), pool.isActive()) == ("default", 1)
            assert network.name() == "default"


def test_settings_and_repository_are_ready(lab: Lab) -> None:
    settings = load(lab.settings_file)

    assert [host.name for host in settings.hosts] == list(lab.hosts)
    assert [level.name for level in settings.levels] == ["gold", "silver", "bronze"]
    assert settings.repositories[0].name == "vault-store"
    assert settings.repositories[0].on_host == "yavin"
    with open_repository(settings.repositories[0]) as repository:
        assert repository.damaged == ()


def test_guests_and_daemons_never_run_as_root(lab: Lab) -> None:
    for host in lab.status().hosts:
        for pid in (host.pid, *host.qemu_pids):
            status = Path(f"/proc/{pid}/status").read_text()
            uids = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
            assert "0" not in uids


def test_a_session_pull_backup_begins_and_ends_on_a_practice_guest(lab: Lab) -> None:
    scratch = lab.settings.hosts[0].scratch
    backup = f"""<domainbackup mode='pull'><server transport='unix' socket='{scratch}/probe.sock'/>
      <disks><disk name='vda' backup='yes' type='file'><scratch file='{scratch}/probe.scratch'/></disk></disks>
    </domainbackup>"""
    with libvirt_of(lab, "alderaan") as opened:
        domain = opened.lookupByName("web")

        domain.backupBegin(backup, None, 0)
        began = "probe.sock" in domain.backupGetXMLDesc(0)
        domain.abortJob()

        assert began
        assert wait_for(lambda: domain.jobInfo()[0] == libvirt.VIR_DOMAIN_JOB_NONE)


def test_a_guest_shuts_down_cleanly_by_agent_and_by_power_button_and_goes_on_with_its_journal(
    lab: Lab,
) -> None:
    for flag in (libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT, libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN):
        before = journal(lab, "alderaan", "web")
        with libvirt_of(lab, "alderaan") as opened:
            opened.lookupByName("web").shutdownFlags(flag)
        assert is_off_within(lab, "alderaan", "web", 120)
        with libvirt_of(lab, "alderaan") as opened:
            opened.lookupByName("web").create()
        lab.wait_until_up("alderaan", "web")

        after = journal(lab, "alderaan", "web")
        assert after["boots"] == before["boots"] + 1
        assert before["acked"] <= after["found_last"]
        log = lab.run_in_guest("alderaan", "web", ["/bin/dmesg"]).stdout
        assert b"recovery complete" not in log, "the file system was not unmounted"
