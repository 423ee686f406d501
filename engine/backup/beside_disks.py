"""What a recovery point keeps beside the disks: everything else that a restore, or the people who do it, may need.

1. It is read right after the moment is fixed and before any disk is read: what can change while the VM runs (UEFI
   variables, TPM state) belongs to the moment, not to the end of the copy.
2. That state is also read just before. Where both are equal, it is what the VM had at the moment; where not, the guest
   has changed it within that second, and the recovery point says so.
3. Secrets (passwords in the definition, values of libvirt's secrets) are kept only where everything is sealed. In a
   repository that is not encrypted they are left out, and the recovery point says so.
4. What the point cannot hold is said in its notes: internal snapshots, memory that the host keeps for a VM that is off,
   disks that QEMU cannot read.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from engine.hosts import HostLane, checkpoints, definition, secrets_of_host, snapshots
from engine.hosts.model import BootFile, Definition, Disk, HostSecret, HostSnapshot, Snapshot, Vm
from engine.repository import FileRecord, SnapshotRecord, Writer

CHANGING = {"nvram": "UEFI variables", "tpm": "TPM state"}
"""Roles of files that a guest writes while it runs, and what people call them."""


class Kept(Struct, frozen=True):
    """What of a VM was stored beside its disks."""

    files: tuple[FileRecord, ...]
    notes: tuple[str, ...]
    snapshots: tuple[SnapshotRecord, ...]


def changing_state(lane: HostLane, vm: Vm) -> tuple[BootFile, ...]:
    """Files that the guest may write at any time, as they are now."""
    return tuple(file for file in definition.boot_files(lane, vm) if file.role in CHANGING)


def keep(
    lane: HostLane,
    snapshot: HostSnapshot,
    vm: Vm,
    writer: Writer,
    *,
    sealed: bool,
    before: tuple[BootFile, ...],
    checkpoint: str | None,
) -> Kept:
    """Store everything but the disks. `sealed`: the repository is encrypted; `before`: `changing_state` just before."""
    described = definition.read(lane, vm.uuid, passwords=sealed)
    secrets = secrets_of_host.needed_by(lane, described, values=sealed)
    boot = definition.boot_files(lane, vm)
    had = snapshots.snapshots_of(lane, vm.uuid)

    found = [("definition-inactive", vm.name, described.inactive)]
    if described.live is not None:
        found.append(("definition-live", vm.name, described.live))
    found += [(file.role, str(file.path), file.content) for file in boot]
    found += [("snapshot", each.name, each.content) for each in had]
    if checkpoint is not None:
        mark = checkpoints.description(lane, vm.uuid, checkpoint)
        if mark is not None:
            found.append(("checkpoint", checkpoint, mark))
    for secret in secrets:
        found.append(("secret", secret.uuid, secret.description))
        if secret.value is not None:
            found.append(("secret-value", secret.uuid, secret.value))
    found += [(each.role, each.name, each.content) for each in definition.related_definitions(lane, vm)]
    found.append(("host", snapshot.host, msgspec.json.encode(snapshot.facts)))
    return Kept(
        files=tuple(writer.file(role, name, content) for role, name, content in found),
        notes=(
            *notes_on_disks(vm.disks),
            *notes_on_snapshots(had),
            *notes_on_state(before, boot),
            *notes_on_secrets(secrets, sealed=sealed),
            *(() if sealed else _notes_on_passwords(lane, vm, described)),
        ),
        snapshots=tuple(_record(each) for each in had),
    )


def notes_on_disks(disks: tuple[Disk, ...]) -> tuple[str, ...]:
    """What an operator must know of the disks before relying on them."""
    notes = [f"{each.target} is left out: {each.out_of_reach}" for each in disks if each.out_of_reach]
    for disk in disks:
        if not disk.holds_data:
            continue
        if disk.encrypted:
            notes.append(
                f"{disk.target} is encrypted on its host; here it is as the guest sees it, and so is a restored one"
            )
        if disk.shareable:
            notes.append(f"{disk.target} is shared with other VMs; a restored VM gets a copy of its own")
        if disk.transient:
            notes.append(
                f"{disk.target} is transient: this is what it starts from, not what the guest has written since"
            )
    return tuple(notes)


def notes_on_snapshots(had: tuple[Snapshot, ...]) -> tuple[str, ...]:
    """Which snapshots stay behind."""
    inside = [each.name for each in had if each.internal or each.memory == "internal"]
    notes: list[str] = []
    if inside:
        notes.append(
            f"the content of its internal snapshots stays on the host, only their list is here: {_some(inside)}"
        )
    layered = [each.name for each in had if each.external]
    if layered:
        notes.append(
            f"a restored VM cannot go back to its external snapshots, for its disks have one layer: {_some(layered)}"
        )
    return tuple(notes)


def notes_on_state(before: tuple[BootFile, ...], after: tuple[BootFile, ...]) -> tuple[str, ...]:
    """What has changed between two looks, just before the moment and just after it."""
    contents = {file.role: file.content for file in before}
    changed = [
        file.role for file in after if file.role in CHANGING and file.role in contents
        and contents[file.role] != file.content
    ]  # fmt: skip
    return tuple(
        f"its {CHANGING[role]} changed while the moment was fixed; what is here is from just after it"
        for role in changed
    )


def notes_on_secrets(secrets: tuple[HostSecret, ...], *, sealed: bool) -> tuple[str, ...]:
    """Whose values are not in the recovery point."""
    missing = [f"{each.uuid} ({each.usage})" for each in secrets if each.value is None]
    if not missing:
        return ()
    why = "the host does not give them" if sealed else "the repository is not encrypted"
    return (f"the values of libvirt secrets that it uses are not here, for {why}: {_some(missing)}",)


def _notes_on_passwords(lane: HostLane, vm: Vm, without: Definition) -> tuple[str, ...]:
    if definition.read(lane, vm.uuid).inactive == without.inactive:
        return ()
    return ("passwords in its definition (of its screen, ...) are left out, for the repository is not encrypted",)


def _record(each: Snapshot) -> SnapshotRecord:
    return SnapshotRecord(each.name, each.created, each.parent, each.current, each.internal, each.external, each.memory)


def _some(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
