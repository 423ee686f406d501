"""The state of emulated TPMs, with a real libvirt and a real swtpm."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from engine.errors import Conflict
from engine.hosts import aside, define, power_off, start, tpm_state, undefine, vm_state
from engine.hosts.model import BootFile, Definition, VmState
from engine.hosts.rewrite import Rewrite, rewrite
from engine.hosts.xml_tree import parse

TPM = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"


def defined(lane, xml: str) -> str:
    define(lane, Definition(live=None, inactive=xml.encode()))
    return parse(xml).findtext("uuid") or ""


@pytest.fixture
def started_once(lane, tiny_vm) -> str:
    """UUID of a VM that is off and has a TPM with keys of its own."""
    vm = defined(lane, tiny_vm("keys", devices=TPM))
    start(lane, vm)
    power_off(lane, vm)
    return vm


def state_of(lane, vm: str) -> bytes:
    state = tpm_state.read(lane, vm)
    assert state is not None
    return state.content


def test_a_vm_that_never_ran_has_no_state_and_one_without_a_tpm_no_place_for_it(lane, tiny_vm) -> None:
    fresh, without = defined(lane, tiny_vm("fresh", devices=TPM)), defined(lane, tiny_vm("without"))

    assert tpm_state.read(lane, fresh) is None
    assert fresh in str(tpm_state.path_of(lane, fresh))
    assert tpm_state.read(lane, without) is None
    assert tpm_state.path_of(lane, without) is None


def test_what_is_put_is_what_the_tpm_begins_with(lane, tiny_vm, started_once: str) -> None:
    keys = tpm_state.read(lane, started_once)
    assert keys is not None
    other = defined(lane, tiny_vm("other", devices=TPM))

    path = tpm_state.put(lane, other, keys)
    again = tpm_state.put(lane, other, keys)

    assert path == again
    assert state_of(lane, other) == keys.content
    start(lane, other)
    assert vm_state(lane, other) is VmState.RUNNING
    power_off(lane, other)
    undefine(lane, other)
    assert not path.exists()


def test_a_state_that_is_there_is_never_overwritten_unless_it_is_known_to_be_kept(lane, started_once: str) -> None:
    mine = state_of(lane, started_once)
    another = BootFile("tpm", Path("tpm2-00.permall"), b"another")

    with pytest.raises(Conflict):
        tpm_state.put(lane, started_once, another)
    with pytest.raises(Conflict):
        tpm_state.put(lane, started_once, another, instead_of=b"something else")
    assert state_of(lane, started_once) == mine

    tpm_state.put(lane, started_once, another, instead_of=mine)
    assert state_of(lane, started_once) == b"another"


def test_a_vm_that_is_kept_aside_keeps_its_tpm_while_another_has_its_uuid(lane, tiny_vm, started_once: str) -> None:
    keys, aside_uuid = state_of(lane, started_once), str(uuid.uuid4())
    kept = aside.look(lane, started_once)

    aside.set_aside(lane, kept, "keys-kept", aside_uuid)
    aside.set_aside(lane, kept, "keys-kept", aside_uuid)
    assert state_of(lane, aside_uuid) == keys
    defined(lane, tiny_vm("keys", devices=TPM, uuid_text=started_once))
    tpm_state.put(lane, started_once, BootFile("tpm", Path("x"), b"of the restored VM"), instead_of=keys)
    undefine(lane, started_once)
    aside.put_back(lane, kept, aside_uuid)

    assert state_of(lane, started_once) == keys


def test_a_rewritten_definition_never_names_the_originals_tpm_state(tiny_vm) -> None:
    named = TPM.replace("/></tpm>", "><source type='dir' path='/srv/tpm/original'/></backend></tpm>")

    changed = rewrite(
        Definition(live=None, inactive=tiny_vm("keys", devices=named).encode()),
        Rewrite(name="copy", uuid=str(uuid.uuid4()), disk_paths={}),
    )

    assert b"/srv/tpm/original" not in changed.inactive
    assert parse(changed.inactive).find("devices/tpm/backend") is not None
