"""What a restored VM needs of its host beside disks and definition: the state of its TPM, and secrets that it names.

1. The TPM state goes to the new VM's own place, when it is defined and before it first starts: a host makes a new,
   empty TPM where there is none.
2. A secret that the new definition still names (a key of the TPM's state; those of disks are gone, for restored disks
   are plain) is defined where the host does not have it, with the value that an encrypted repository kept. What the
   host has is never changed.
3. What cannot be put back is told, with what its users will meet and what to do about it.
"""

from __future__ import annotations

from pathlib import Path

from engine.hosts import HostLane, secrets_of_host, tpm_state
from engine.hosts.model import BootFile, Definition
from engine.repository import FileRecord, Manifest, Reader


def put_back(
    lane: HostLane, manifest: Manifest, reader: Reader, uuid: str, defined: Definition, *, aside: str | None = None
) -> tuple[str, ...]:
    """Give the VM of that UUID, defined and never started, what it had; what could not be, as warnings.

    `aside`: UUID under which the original is kept on the same host, with a copy of its TPM's state. Undefining the VM
    takes its TPM state away again. Done twice it changes nothing. Raises HostRefused, Conflict.
    """
    warnings = list(_secrets(lane, manifest, reader, defined))
    state = next((file for file in manifest.files if file.role == "tpm"), None)
    if state is not None:
        content = reader.file(state)
        kept = tpm_state.read(lane, aside) if aside is not None else None
        put = BootFile(role="tpm", path=Path(state.name), content=content)
        tpm_state.put(lane, uuid, put, instead_of=kept.content if kept is not None else None)
    elif manifest.vm.tpm:
        warnings.append(
            "The recovery point holds no TPM state, so its TPM begins empty: have the recovery keys of its encrypted"
            " disks (BitLocker, ...) at hand."
        )
    return tuple(warnings)


def _secrets(lane: HostLane, manifest: Manifest, reader: Reader, defined: Definition) -> list[str]:
    missing = secrets_of_host.names_needed(defined) - secrets_of_host.known(lane)
    if not missing:
        return []
    descriptions = _by_name(manifest, "secret")
    values = _by_name(manifest, "secret-value")
    warnings: list[str] = []
    for name in sorted(missing):
        if name in descriptions and name in values:
            secrets_of_host.put(lane, reader.file(descriptions[name]), reader.file(values[name]))
        else:
            warnings.append(
                f"It needs the libvirt secret {name}, which {lane.host.name} does not have and the recovery point does"
                f" not hold: define it there (virsh secret-define, virsh secret-set-value) before it starts."
            )
    return warnings


def _by_name(manifest: Manifest, role: str) -> dict[str, FileRecord]:
    return {file.name: file for file in manifest.files if file.role == role}
