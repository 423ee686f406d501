"""What only the host itself can say of one VM's definition. It is asked without changing anything there.

1. The definition as the restore would make it is handed to libvirt to be turned into a QEMU command line
   (`domainXMLToNative`): it goes through every check that defining it goes through, and nothing is kept.
2. A CPU that is named with features is held against what QEMU there can give (`compareHypervisorCPU`; `compareCPU`
   looks at the host's own CPU and disagrees with what QEMU offers).
3. What the definition names on the host is looked for: secrets, firmware, media in drives, devices passed through.
4. Names that the restore is to make are looked for too: volumes, EFI variables, the state of a TPM.

A host that cannot answer one of these (another driver, no files) is no failure: the answer is then that it is not
known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element

from msgspec import Struct, structs

from engine.errors import NewhopeError
from engine.hosts import secrets_of_host, tpm_state, volumes
from engine.hosts.errors import NO_NODE_DEVICE, NO_SUPPORT
from engine.hosts.files_of_host import HostFiles
from engine.hosts.lane import HostLane
from engine.hosts.model import Definition
from engine.hosts.nvram import qemu_command, variables_in
from engine.hosts.xml_tree import attribute_of, parse, text_of, to_bytes

if TYPE_CHECKING:
    import libvirt

ANSWER_TIMEOUT_S = 20.0


class CpuAnswer(StrEnum):
    """Whether QEMU there can give the CPU that a definition names."""

    FITS = "fits"
    DOES_NOT_FIT = "does not fit"
    NOT_SAID = "not said"
    """It names no model, or the host cannot compare."""


class Medium(Struct, frozen=True):
    """What lay in a drive."""

    target: str
    path: str
    there: bool | None
    """Whether the host has it; None where that cannot be seen."""


class PassedThrough(Struct, frozen=True):
    """A device of the old host that the guest had."""

    name: str
    there: bool | None
    """Whether this host has one of that address or kind; None where that cannot be seen."""


class HostAnswers(Struct, frozen=True):
    """What a host said of one definition."""

    cpu: CpuAnswer = CpuAnswer.NOT_SAID
    cpu_reason: str = ""
    refusal: str = ""
    """Why libvirt would not take the definition as the restore makes it; empty if it would, or was not asked."""
    taken_by_libvirt: bool = False
    """Whether libvirt was asked, and would take it."""
    missing_secrets: tuple[str, ...] = ()
    """UUIDs of secrets that it needs and the host does not have."""
    missing_loader: str = ""
    """The firmware image that it names, where the host has none there."""
    media: tuple[Medium, ...] = ()
    devices: tuple[PassedThrough, ...] = ()
    left_behind: tuple[str, ...] = ()
    """What tied it to its old host and is not restored, in words: huge pages, pinning, shared folders."""
    taken: tuple[str, ...] = ()
    """Files and volumes that are there already under names that the restore is to make."""


class Question(Struct, frozen=True):
    """What a host is asked."""

    original: Definition
    """As it was backed up."""
    restored: Definition
    """As the restore would define it there."""
    devices: tuple[str, ...] = ()
    """As `Vm.host_devices` names them."""
    made: tuple[tuple[str, str], ...] = ()
    """Pool and name of each volume that is to be made."""


def ask(lane: HostLane, question: Question) -> HostAnswers:
    """Ask a host. Raises HostUnreachable."""
    original, restored = parse(question.original.inactive), parse(question.restored.inactive)

    def work(connection: libvirt.virConnect) -> tuple[HostAnswers, tuple[Path, ...]]:
        answers = _with_cpu(connection, restored, HostAnswers())
        answers, files = _pretended(connection, restored, answers)
        devices = tuple(PassedThrough(name, _device_is_there(connection, name)) for name in question.devices)
        return structs.replace(answers, devices=devices), files

    answers, files = lane.run(work, timeout_s=ANSWER_TIMEOUT_S)
    loader = text_of(restored, "os/loader")
    return structs.replace(
        answers,
        missing_secrets=_missing_secrets(lane, question.restored),
        missing_loader=loader if loader and is_there(lane.files, Path(loader)) is False else "",
        media=tuple(_media(original, lane.files)),
        left_behind=left_behind(original),
        taken=(*_taken_volumes(lane, question.made), *(str(path) for path in files if is_there(lane.files, path))),
    )


def is_there(files: HostFiles, path: Path) -> bool | None:
    """Whether there is something at a path of the host; None where that cannot be seen from here."""
    if not files.reachable:
        return None
    try:
        return path.name in files.names(path.parent)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, NewhopeError):
        return None


def left_behind(domain: Element) -> tuple[str, ...]:
    """What ties a definition to its host and is never restored, in words."""
    found: list[str] = []
    pages = domain.find("memoryBacking/hugepages")
    if pages is not None:
        size_bytes = _size_of_page(pages)
        found.append(f"huge pages of {size_bytes >> 20} MiB" if size_bytes else "huge pages")
    if domain.find("numatune") is not None or domain.find("cputune/vcpupin") is not None:
        found.append("its place on the host's processors and memory nodes")
    for share in domain.iterfind("devices/filesystem"):
        found.append(
            f"the shared folder {attribute_of(share, 'source', 'dir') or attribute_of(share, 'target', 'dir')}"
        )
    found += [f"the shared memory {each.get('name')}" for each in domain.iterfind("devices/shmem")]
    return tuple(found)


def _size_of_page(pages: Element) -> int:
    page = pages.find("page")
    if page is None:
        return 0
    units = {"k": 10, "m": 20, "g": 30}
    return int(page.get("size", "0")) << units.get(page.get("unit", "KiB")[:1].lower(), 0)


def _with_cpu(connection: libvirt.virConnect, domain: Element, answers: HostAnswers) -> HostAnswers:
    """A CPU whose features may be missing (`check='none'`) fits wherever its model is known."""
    import libvirt

    cpu = domain.find("cpu")
    if cpu is None or cpu.find("model") is None or cpu.get("check") == "none":
        return answers
    kind = (attribute_of(domain, "os/type", "arch"), attribute_of(domain, "os/type", "machine"), domain.get("type"))
    flags = libvirt.VIR_CONNECT_COMPARE_CPU_FAIL_INCOMPATIBLE
    try:
        connection.compareHypervisorCPU(None, *kind, to_bytes(cpu).decode(), flags)
    except libvirt.libvirtError as error:
        text = (error.get_error_message() or "").strip()
        if error.get_error_code() == libvirt.VIR_ERR_CPU_INCOMPATIBLE or "Unknown CPU model" in text:
            return structs.replace(answers, cpu=CpuAnswer.DOES_NOT_FIT, cpu_reason=text)
        return answers
    return structs.replace(answers, cpu=CpuAnswer.FITS)


def _pretended(
    connection: libvirt.virConnect, domain: Element, answers: HostAnswers
) -> tuple[HostAnswers, tuple[Path, ...]]:
    """With what libvirt says to the definition; and files that it would make for the VM beside its volumes."""
    import libvirt

    made: list[Path] = []
    try:
        command = qemu_command(connection, domain)
    except libvirt.libvirtError as error:
        if error.get_error_code() in (NO_SUPPORT, libvirt.VIR_ERR_ACCESS_DENIED, libvirt.VIR_ERR_OPERATION_DENIED):
            return answers, ()
        return structs.replace(answers, refusal=(error.get_error_message() or "it gave no reason").strip()), ()
    variables = variables_in(command)
    if variables is not None:
        made.append(Path(variables))
    state = tpm_state.place_for(connection, domain)
    if state is not None:
        made.append(state)
    return structs.replace(answers, taken_by_libvirt=True), tuple(made)


def _device_is_there(connection: libvirt.virConnect, name: str) -> bool | None:
    """Whether the host has the PCI address, or a USB device of that maker and kind."""
    import libvirt

    kind, _, address = name.partition(" ")
    try:
        if kind == "pci":
            connection.nodeDeviceLookupByName("pci_" + address.replace(":", "_").replace(".", "_"))
            return True
        if kind == "usb" and ":" in address:
            wanted = tuple(f"0x{part}" for part in address.split(":"))
            found = connection.listAllDevices(libvirt.VIR_CONNECT_LIST_NODE_DEVICES_CAP_USB_DEV)
            return any(_usb_kind(parse(each.XMLDesc())) == wanted for each in found)
    except libvirt.libvirtError as error:
        return False if error.get_error_code() == NO_NODE_DEVICE else None
    return None


def _usb_kind(device: Element) -> tuple[str | None, str | None]:
    return attribute_of(device, "capability/vendor", "id"), attribute_of(device, "capability/product", "id")


def _missing_secrets(lane: HostLane, restored: Definition) -> tuple[str, ...]:
    needed = secrets_of_host.names_needed(restored)
    return tuple(sorted(needed - secrets_of_host.known(lane))) if needed else ()


def _media(domain: Element, files: HostFiles) -> Iterable[Medium]:
    for disk in domain.iterfind("devices/disk"):
        path = attribute_of(disk, "source", "file") or attribute_of(disk, "source", "dev")
        if disk.get("device") in ("cdrom", "floppy") and path:
            yield Medium(attribute_of(disk, "target", "dev") or "", path, is_there(files, Path(path)))


def _taken_volumes(lane: HostLane, made: Sequence[tuple[str, str]]) -> list[str]:
    found: list[str] = []
    for pool in dict.fromkeys(pool for pool, _ in made):
        try:
            there = set(volumes.names(lane, pool))
        except NewhopeError:
            # A pool that is not there or not started is a failed check of its own.
            continue
        found += [f"volume {name} in pool {pool}" for of, name in made if of == pool and name in there]
    return found
