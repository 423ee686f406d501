"""Two hosts lose their power, and so does the machine that knew all of it: a repository and its passphrase are left.

An operator at a terminal of 80x24, where newhope has never run, types what the README says. What comes back: a guest
with two disks, each in the other format than it had, and a UEFI guest with the variables of its firmware and a TPM that
still has what the guest gave it to keep, and the seed of its keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from engine.hosts import HostLane, HostLanes, definition, take_snapshot
from engine.hosts.model import Vm
from engine.jobs import Journal
from engine.lab import Lab
from engine.lab.journal import JournalStatus, ask_journal, payload_is_intact, read_journal, what_differs
from engine.repository import Point
from engine.settings import Host
from tests.e2e import guest_tpm
from tests.e2e.conftest import Operator
from tests.hosts.live import in_guest, lab_of_its_own, lane_to, vm_of
from tests.tui.terminals import PseudoTerminal, terminal

pytestmark = [pytest.mark.lab, pytest.mark.slow]

BOOT_ENTRY = "/sys/firmware/efi/efivars/Boot0007-8be4df61-93ca-11d2-aa0d-00e098032b8c"
LOAD_OPTION = r"\7\0\0\0\0\0\0\0\4\0k\0e\0p\0t\0\0\0\177\377\4\0"
"""What may be done with the variable, then an EFI_LOAD_OPTION (UEFI 2.10, 3.1.3): no flags, 4 bytes of path, "kept"."""
DISK_KEY = b"the key of vault's disk encryption"


@dataclass(frozen=True)
class Lost:
    """A guest of a host that is dead now, and what was seen of it while it lived."""

    point: Point
    before: JournalStatus
    after: JournalStatus
    written: bytes
    storage_key: bytes = b""
    """That of its TPM, if it has one."""


class Stranger:
    """An operator on a machine that knows nothing: a home of its own, and a terminal."""

    def __init__(self, home: Path, passphrase: str) -> None:
        self._passphrase = passphrase
        self._environ = {"HOME": str(home)} | {
            f"XDG_{name}_HOME": str(home / name.lower()) for name in ("CONFIG", "STATE", "CACHE", "DATA")
        }

    @contextmanager
    def types(self, line: str, *, asked: bool = True) -> Iterator[PseudoTerminal]:
        """Type a command, and the passphrase if it is asked for."""
        with terminal(line.split(), environ=self._environ) as opened:
            if asked:
                opened.read_until(lambda: opened.shows("Passphrase of the repository main: "))
                opened.type(f"{self._passphrase}\n")
            yield opened

    def reads(self, line: str, *, asked: bool = True) -> str:
        """What a command says by its end, which is a good one."""
        with self.types(line, asked=asked) as opened:
            opened.wait_for_end()
            opened.read_for(0.1)
            text = opened.received.decode()
            assert opened.exit_status == 0, text
            return text

    def restores(self, line: str) -> str:
        """Restore, and say yes when the plan is shown."""
        with self.types(line) as opened:
            opened.read_until(lambda: b"[y/N]" in opened.received or opened.exit_status is not None)
            opened.type("y\n")
            opened.wait_for_end(timeout_s=300)
            opened.read_for(0.1)
            text = opened.received.decode()
            assert opened.exit_status == 0, text
            return text


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with lab_of_its_own(hosts=("alderaan", "coruscant", "yavin"), guests=("db", "vault"), running=()) as made:
        with lane_to(made, "coruscant") as lane:
            give_tpm(lane, vm_of(lane, "vault"))
        yield Lab.up(made.folder)


def give_tpm(lane: HostLane, vm: Vm) -> None:
    with_tpm = definition.read(lane, vm.uuid).inactive.decode().replace("</devices>", f"{guest_tpm.DEVICE}</devices>")
    lane.run(lambda connection: connection.defineXML(with_tpm) and None)


def back_up(operator: Operator, name: str) -> Lost:
    vm = operator.vm(name)
    lane = operator.lanes[vm.host]
    before = ask_journal(lane, vm.uuid)
    point = operator.back_up(name)
    after = ask_journal(lane, vm.uuid)
    return Lost(point, before, after, read_journal(lane, vm.uuid, after.acked_bytes))


@pytest.fixture
def lost(lab: Lab) -> dict[str, Lost]:
    with HostLanes(lab.settings) as lanes, Journal(lab.settings.state) as journal:
        operator = Operator(lab, lanes, journal)
        vault = operator.vm("vault")
        # All of a variable is written in one call.
        in_guest(lanes[vault.host], vault, f"printf '{LOAD_OPTION}' > /run/entry; cat /run/entry > {BOOT_ENTRY}")
        guest_tpm.keep(lanes[vault.host], vault, DISK_KEY)
        sealed_under = guest_tpm.storage_key(lanes[vault.host], vault)
        seen = {"db": back_up(operator, "db"), "vault": replace(back_up(operator, "vault"), storage_key=sealed_under)}
        beside = operator.restore(seen["vault"].point, vault.host, start=False)
        assert beside.nvram and beside.nvram != operator.vm("vault").nvram
        operator.remove_restored()
    for host in ("alderaan", "coruscant"):
        lab.break_host(host)
    return seen


@pytest.fixture
def stranger(lab: Lab, tmp_path: Path) -> Stranger:
    return Stranger(tmp_path, lab.layout.passphrase_file.read_text().strip())


def test_a_repository_and_its_passphrase_bring_everything_back_on_an_empty_machine(
    lab: Lab, lost: dict[str, Lost], stranger: Stranger
) -> None:
    uri = lab.uri("yavin")

    found = stranger.reads(f"init --repository {lab.layout.repository} --host rescue={uri}", asked=False)
    listed = stranger.reads("points")
    hosts = stranger.reads("hosts", asked=False)
    database = stranger.restores("restore db@latest --format vda=raw --format vdb=qcow2 --verify")
    stranger.restores("restore vault@latest --mode replace")

    assert "There is a repository" in found and "repo init" not in found
    assert all(each.point.id[:8] in listed for each in lost.values())
    assert "rescue" in hosts
    assert "original" in database
    lane = HostLane(Host("rescue", uri))
    try:
        back = {vm.name: vm for vm in take_snapshot(lane).vms}
        for name, each in lost.items():
            came_back_whole(lane, back[name], each)
        assert [disk.format for disk in back["db"].disks] == ["raw", "qcow2"]
        entry = in_guest(lane, back["vault"], f"printf '{LOAD_OPTION}' | cmp - {BOOT_ENTRY} && echo kept")
        assert entry == "kept\n"
        assert guest_tpm.kept(lane, back["vault"], len(DISK_KEY)) == DISK_KEY
        assert guest_tpm.storage_key(lane, back["vault"]) == lost["vault"].storage_key
    finally:
        lane.close()

    # One that takes its original's place is the same VM, and its chain goes on.
    assert back["vault"].uuid == lost["vault"].point.manifest.vm.uuid
    stranger.reads("backup vault --yes")
    assert "what was written since" in stranger.reads("points show vault@latest")


def came_back_whole(lane: HostLane, vm: Vm, lost: Lost) -> None:
    found = ask_journal(lane, vm.uuid)
    kept = read_journal(lane, vm.uuid, found.found_bytes)
    assert len(kept) > 0
    assert what_differs(lost.before, lost.after, found, kept, lost.written) is None
    assert payload_is_intact(lane, vm.uuid)
