"""What the options of `newhope restore` say, read into the request that the plan decides."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct, structs

from engine.cli.failures import Usage
from engine.cli.knob_words import turned
from engine.jobs import Knobs
from engine.repository import Point
from engine.restore import (
    WATCH_S,
    AtEnd,
    DiskTarget,
    MacChoice,
    Mode,
    NetworkMapping,
    Request,
    UuidChoice,
    as_proof,
)
from engine.settings import parse_duration


class Choices(Struct, frozen=True):
    """The options as they were typed; what is left open is for the plan to decide."""

    point_name: str
    to_host: str = ""
    name: str = ""
    mode: str = "beside"
    pools: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    macs: str = "auto"
    uuid: str = "auto"
    instant: bool = False
    start: bool = True
    memory: bool | None = None
    autostart: bool | None = None
    repository: str | None = None
    verify: bool = False
    salvage: bool = False
    power_off: bool = False
    keep_for: str = ""
    then: str | None = None
    reason: str = ""
    ticket: str = ""
    machine: str = ""
    cpu: str = ""
    accept: tuple[str, ...] = ()
    bandwidth: str | None = None
    priority: str | None = None
    streams: int | None = None
    watch: str = ""
    proves: bool = False
    """Whether it is made a proof, which has a mode, an end and acceptances of its own."""

    @property
    def knobs(self) -> Knobs:
        """How it is to begin. Raises `InvalidRate`."""
        begins = turned(Knobs(), paused=None, bandwidth=self.bandwidth, priority=self.priority, streams=None)
        return structs.replace(begins, streams=self.streams)


def request_of(choices: Choices, point: Point, operator: str) -> Request:
    """The request that the options ask for. Raises `Usage`, `InvalidDuration`."""
    manifest = point.manifest
    targets = [disk.target for disk in manifest.disks]
    pool, pools = _by_disk("--pool", choices.pools, targets, manifest.vm.name)
    image_format, formats = _by_disk("--format", choices.formats, targets, manifest.vm.name)
    everywhere, devices = _by_disk("--device", choices.devices, targets, manifest.vm.name)
    if everywhere:
        raise Usage(f"--device {everywhere} names no disk.", next_step="say which one: --device vda=/dev/sdx.")
    for word in (image_format, *formats.values()):
        if word not in ("", "raw", "qcow2"):
            raise Usage(f"--format {word} is not one that can be written.", next_step="choose raw or qcow2.")
    networks = tuple(_network(text) for text in choices.networks)
    _refuse_cards_it_has_not(networks, len(manifest.vm.nics), manifest.vm.name)
    if choices.then is not None and not choices.keep_for and choices.mode != Mode.TEST.value:
        raise Usage("--then says what happens after a time, and there is none.", next_step="add --keep-for 24h.")
    request = Request(
        repository=point.repository,
        vm_uuid=manifest.vm.uuid,
        point_id=point.id,
        to_host=choices.to_host,
        name=choices.name,
        pool=pool,
        networks=networks,
        macs=MacChoice(choices.macs),
        instant=choices.instant,
        start=choices.start,
        memory=choices.memory,
        operator=operator,
        salvage=choices.salvage,
        mode=Mode(choices.mode),
        uuid=UuidChoice(choices.uuid),
        format=image_format,
        disks=tuple(
            DiskTarget(target, pools.get(target, ""), formats.get(target, ""), devices.get(target, ""))
            for target in targets
            if target in pools or target in formats or target in devices
        ),
        verify=choices.verify,
        power_off=choices.power_off,
        autostart=choices.autostart,
        keep_for_s=parse_duration(choices.keep_for) if choices.keep_for else None,
        at_end=AtEnd(choices.then) if choices.then is not None else None,
        machine=choices.machine,
        cpu=choices.cpu,
        accepted=tuple(sorted({name for text in choices.accept for name in text.lower().split(",") if name})),
        reason=choices.reason,
        ticket=choices.ticket,
        watch_s=parse_duration(choices.watch) if choices.watch else WATCH_S,
    )
    return as_proof(request) if choices.proves else request


def _by_disk(option: str, values: Sequence[str], targets: Sequence[str], vm: str) -> tuple[str, dict[str, str]]:
    """What was said for all disks, and what for single ones."""
    everywhere = ""
    single: dict[str, str] = {}
    for text in values:
        target, equals, value = text.partition("=")
        if not equals:
            everywhere = text
        elif target not in targets:
            raise Usage(
                f"{option} {text}: {vm} has no disk {target}; it has {', '.join(targets)}.",
                next_step=f"`newhope points show {vm}` lists its disks.",
            )
        elif not value:
            raise Usage(f"{option} {text} says nothing about {target}.", next_step=f"write {option} {target}=VALUE.")
        else:
            single[target] = value
    return everywhere, single


def _refuse_cards_it_has_not(networks: tuple[NetworkMapping, ...], cards: int, vm: str) -> None:
    for mapping in networks:
        if mapping.nic >= cards:
            raise Usage(
                f"--network {mapping.nic}={mapping.to}: {vm} has no network card {mapping.nic}; it has {cards},"
                " numbered from 0.",
                next_step=f"`newhope points show {vm}` lists its network cards.",
            )


def _network(text: str) -> NetworkMapping:
    nic, equals, to = text.partition("=")
    if not equals or not nic.isdecimal() or not to:
        raise Usage(
            f"--network {text} is not NIC=NETWORK.",
            next_step="number the VM's network cards from 0: --network 0=default, 0=user or 0=isolated.",
        )
    return NetworkMapping(int(nic), to)
