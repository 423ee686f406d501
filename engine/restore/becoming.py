"""What a VM's definition becomes on its new host: the choices of a decided request in the words of `hosts.rewrite`.

The same function serves the preflight, which knows the places only by name, and the step that defines the VM.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from engine.hosts.model import Definition, HostFacts
from engine.hosts.rewrite import CpuChoice, NetworkChoice, NetworkKind, Rewrite, ServedBelow, rewrite
from engine.repository import Point
from engine.restore.model import Request

_CPU_MODES = ("host-model", "host-passthrough", "maximum")


class Places(Struct, frozen=True):
    """Where everything of the restored VM lies on its host."""

    disks: Mapping[str, tuple[str, str]]
    """Path and format, by target."""
    block_disks: frozenset[str] = frozenset()
    """Targets of those that lie on a block device."""
    boot_files: Mapping[str, str] = {}
    """Path by role."""
    served: Mapping[str, ServedBelow] = {}
    """By target: what lies below the layer of a disk that is still served."""


def becomes(
    definition: Definition, point: Point, request: Request, places: Places, target: HostFacts | None
) -> Definition:
    """A definition of the VM as it was, made that of the restored one."""
    return rewrite(
        definition,
        Rewrite(
            name=request.name,
            uuid=request.new_uuid,
            disk_paths=dict(places.disks),
            served=dict(places.served),
            block_disks=places.block_disks,
            macs=request.new_macs,
            networks=_network_choices(point, request),
            nvram_path=places.boot_files.get("nvram"),
            kernel_path=places.boot_files.get("kernel"),
            initrd_path=places.boot_files.get("initrd"),
            machine=request.machine or None,
            cpu=cpu_choice(request.cpu),
        ),
        target,
    )


def cpu_choice(text: str) -> CpuChoice | None:
    """A CPU as it is chosen on a command line: a mode, or the name of a model."""
    if not text:
        return None
    return CpuChoice(text) if text in _CPU_MODES else CpuChoice("custom", text)


def _network_choices(point: Point, request: Request) -> dict[int, NetworkChoice]:
    """Where each card is plugged in; a card that keeps what it had is not rewritten."""
    plain = {"user": NetworkChoice(NetworkKind.USER), "none": NetworkChoice(NetworkKind.UNPLUGGED)}
    choices: dict[int, NetworkChoice] = {}
    for mapping in request.networks:
        kind, _, source = point.manifest.vm.nics[mapping.nic].partition(":")
        if mapping.to not in (source, kind):
            choices[mapping.nic] = plain.get(mapping.to) or NetworkChoice(NetworkKind.NETWORK, mapping.to)
    return choices
