"""Fleets for tests, made of as few words as the test is about: everything not named is healthy and ordinary.

    fleet = make_fleet(
        hosts=[make_host("alderaan", vms=[make_vm("web")]), make_host("coruscant")],
        points=[make_point("web", age="2h")],
    )

Moments are counted back from `NOW`. A VM's UUID follows from its name, so `make_vm("web")` and `make_point("web")`
belong together. Every builder takes the fields of its struct as keywords.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from engine.fleet.model import DiskDevice, Fleet, RepositoryView
from engine.fleet.vms import facts_of
from engine.hosts.model import (
    AgentState,
    Disk,
    HostFacts,
    HostSnapshot,
    HostStatus,
    Network,
    Nic,
    Pool,
    Vm,
    VmState,
)
from engine.repository.model import (
    Consistency,
    DiskRecord,
    FileRecord,
    GuestFiles,
    Manifest,
    Point,
    PointKind,
    RepositoryInfo,
    VmFacts,
)
from engine.repository.point_names import of_kind
from engine.settings import Host, Level, Repository, Settings, parse_duration

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
MIB = 1024**2
GIB = 1024**3
MACHINES = ("pc", "pc-i440fx-7.2", "q35", "pc-q35-6.2", "pc-q35-7.2")


def ago(duration: str) -> datetime:
    """The moment that long before `NOW`; `""` is `NOW` itself."""
    return NOW - timedelta(seconds=parse_duration(duration)) if duration else NOW


def uuid_of(name: str) -> str:
    """The UUID that builders give to a VM of that name."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))


def make_disk(target: str = "vda", **changes: Any) -> Disk:
    values: dict[str, Any] = {
        "target": target,
        "device": "disk",
        "source_kind": "file",
        "source": f"/var/lib/libvirt/images/{target}.qcow2",
        "format": "qcow2",
        "bus": "virtio",
        "capacity_bytes": 10 * GIB,
        "allocation_bytes": 2 * GIB,
    }
    return Disk(**(values | changes))


def make_nic(source: str | None = "default", *, kind: str = "network", **changes: Any) -> Nic:
    values: dict[str, Any] = {"mac": "52:54:00:00:00:01", "kind": kind, "source": source, "model": "virtio"}
    return Nic(**(values | changes))


def make_vm(name: str = "web", **changes: Any) -> Vm:
    """A running Linux VM with one qcow2 disk, one card on the network `default`, and an agent that answers."""
    values: dict[str, Any] = {
        "uuid": uuid_of(name),
        "name": name,
        "host": "alderaan",
        "state": VmState.RUNNING,
        "agent": AgentState.CONNECTED,
        "disks": (make_disk(source=f"/var/lib/libvirt/images/{name}.qcow2"),),
        "nics": (make_nic(),),
        "vcpus": 2,
        "memory_bytes": 2 * GIB,
        "arch": "x86_64",
        "machine": "pc-q35-7.2",
        "virt_type": "kvm",
        "cpu_mode": "host-model",
    }
    if changes.get("state") is VmState.OFF:
        values["agent"] = AgentState.DISCONNECTED
    return Vm(**(values | changes))


def make_vm_facts(name: str = "web", **changes: Any) -> VmFacts:
    """What a recovery point knows of the VM that `make_vm` makes; takes the fields of either struct."""
    of_facts = {key: changes.pop(key) for key in ("nics", "macs") if key in changes}
    return replace(facts_of(make_vm(name, **changes)), **of_facts)


def make_pool(name: str = "default", *, available: int = 100 * GIB, **changes: Any) -> Pool:
    values: dict[str, Any] = {
        "name": name,
        "kind": "dir",
        "path": f"/var/lib/libvirt/{name}",
        "active": True,
        "capacity_bytes": 200 * GIB,
        "available_bytes": available,
    }
    return Pool(**(values | changes))


def make_network(name: str = "default", **changes: Any) -> Network:
    values: dict[str, Any] = {"name": name, "active": True, "forward": "nat", "bridge": "virbr0"}
    return Network(**(values | changes))


def make_host_facts(name: str = "alderaan", **changes: Any) -> HostFacts:
    """A host with KVM, EFI and TPM, and a machine-id of its own, elsewhere."""
    values: dict[str, Any] = {
        "hostname": name,
        "machine_id": hashlib.md5(name.encode()).hexdigest(),
        "local": False,
        "libvirt_version": "9.0.0",
        "qemu_version": "7.2.0",
        "arch": "x86_64",
        "cpus": 16,
        "cpu_model": "Skylake-Server",
        "memory_bytes": 64 * GIB,
        "memory_free_bytes": 32 * GIB,
        "kvm": True,
        "machines": MACHINES,
        "efi": True,
        "tpm": True,
        "cpu_modes": ("host-passthrough", "maximum", "host-model", "custom"),
        "cpu_models": ("qemu64", "Haswell-noTSX", "Skylake-Server"),
    }
    return HostFacts(**(values | changes))


def make_host(name: str = "alderaan", *, vms: Iterable[Vm] = (), **changes: Any) -> HostSnapshot:
    """A host that answers, with a pool and a network called `default`; with status OFFLINE it has never answered."""
    status = changes.get("status", HostStatus.ONLINE)
    values: dict[str, Any] = {
        "host": name,
        "uri": f"qemu+ssh://root@{name}/system",
        "status": status,
        "taken_at": NOW,
    }
    if status is not HostStatus.OFFLINE:
        values |= {
            "facts": make_host_facts(name),
            "vms": tuple(replace(vm, host=name) for vm in vms),
            "pools": (make_pool(),),
            "networks": (make_network(),),
        }
    if status is not HostStatus.ONLINE:
        values |= {"reason": "no route to host", "next_step": f"ping {name}"}
    if status is HostStatus.STALE:
        values |= {"taken_at": ago("2h")}
    return HostSnapshot(**(values | changes))


def make_disk_record(**changes: Any) -> DiskRecord:
    """The disk of a point, read whole."""
    values: dict[str, Any] = {
        "target": "vda",
        "size_bytes": 10 * GIB,
        "format": "qcow2",
        "map_root": "ab" * 32,
        "map_height": 2,
        "data_bytes": GIB,
        "read_reason": "full: every block that is not zero was read",
    }
    return DiskRecord(**(values | changes))


def make_point(
    vm: str | Vm | VmFacts = "web",
    *,
    age: str = "30m",
    repository: str = "vault",
    size_bytes: int = GIB,
    point_id: str | None = None,
    **changes: Any,
) -> Point:
    """A hot recovery point of one disk; its id follows from VM, moment and repository. Takes fields of the manifest."""
    facts = make_vm_facts(vm) if isinstance(vm, str) else facts_of(vm) if isinstance(vm, Vm) else vm
    moment = changes.get("moment") or ago(age)
    name = point_id or hashlib.md5(f"{facts.uuid} {moment} {repository}".encode()).hexdigest()[:16]
    disk = make_disk_record(data_bytes=size_bytes)
    values: dict[str, Any] = {
        "version": 1,
        "vm": facts,
        "moment": moment,
        "finished": moment + timedelta(minutes=1),
        "method": "hot",
        "consistency": Consistency.FILESYSTEM,
        "consistency_note": "The agent froze all file systems for 0.2 s.",
        "disks": (disk,),
        "files": (FileRecord("definition-inactive", f"{facts.name}.xml", 4096, "cd" * 32, 0),),
        "downtime_s": 0.0,
        "read_bytes": size_bytes,
        "new_bytes": size_bytes // 2,
        "checkpoint": f"newhope-{name}",
        "writer": "0.1.0",
    }
    return Point(repository=repository, id=name, manifest=Manifest(**(values | changes)))


def make_repository_info(name: str = "vault", **changes: Any) -> RepositoryInfo:
    values: dict[str, Any] = {
        "name": name,
        "path": f"/srv/{name}",
        "id": hashlib.md5(f"repository {name}".encode()).hexdigest(),
        "format_version": 1,
        "block_bytes": 256 * 1024,
        "created": ago("30d"),
        "points": 1,
        "vms": 1,
        "packs": 10,
        "stored_bytes": 20 * GIB,
        "blocks": 80_000,
        "free_bytes": 500 * GIB,
        "writers": 0,
    }
    return RepositoryInfo(**(values | changes))


def make_repository(name: str = "vault", *, reachable: bool = True, **changes: Any) -> RepositoryView:
    """A repository that can be reached, on a machine that is none of the hosts."""
    values: dict[str, Any] = {"name": name, "path": f"/srv/{name}", "reachable": reachable}
    if reachable:
        values |= {
            "info": make_repository_info(name),
            "device": "/sys/devices/keep/sdz",
            "machine_id": hashlib.md5(b"keep").hexdigest(),
        }
    else:
        values |= {"reason": "the folder does not exist", "next_step": f"mount /srv/{name}"}
    return RepositoryView(**(values | changes))


def make_guest_point(vm: str | Vm | VmFacts = "web", **changes: Any) -> Point:
    """A recovery point of files from inside a guest."""
    values: dict[str, Any] = {
        "version": 2,
        "kind": PointKind.GUEST,
        "method": "guest",
        "consistency": Consistency.FILES,
        "consistency_note": "read while the guest ran",
        "checkpoint": None,
        "guest_files": GuestFiles("etc", ("/etc",), 12, 4096, "through a channel"),
        "files": (FileRecord("guest-listing", "guest-listing", 300, "cd" * 32, 0),),
    }
    return make_point(vm, **(values | changes))


def make_fleet(
    *,
    hosts: Iterable[HostSnapshot] | None = None,
    repositories: Iterable[RepositoryView] | None = None,
    points: Iterable[Point] = (),
    disk_devices: Iterable[DiskDevice] = (),
    taken_at: datetime = NOW,
) -> Fleet:
    """A fleet of three healthy hosts, `web` on the first, and one repository, unless told otherwise."""
    if hosts is None:
        hosts = (make_host("alderaan", vms=[make_vm()]), make_host("coruscant"), make_host("yavin"))
    ordered = tuple(sorted(points, key=lambda point: point.manifest.moment, reverse=True))
    return Fleet(
        taken_at=taken_at,
        snapshots=tuple(hosts),
        repositories=tuple(repositories) if repositories is not None else (make_repository(),),
        points=of_kind(ordered, PointKind.VM),
        guest_points=of_kind(ordered, PointKind.GUEST),
        disk_devices=tuple(disk_devices),
    )


def make_level(name: str = "gold", *, rpo: str = "1h", rto: str = "15m", **changes: Any) -> Level:
    """A level for every VM, unless told which."""
    values: dict[str, Any] = {"name": name, "rpo_s": parse_duration(rpo), "rto_s": parse_duration(rto)}
    if not {"vms", "hosts", "tags", "default"} & changes.keys():
        values["default"] = True
    return Level(**(values | changes))


def make_settings(
    *,
    hosts: Iterable[str | Host] = ("alderaan", "coruscant", "yavin"),
    repositories: Iterable[str | Repository] = ("vault",),
    levels: Iterable[Level] | None = None,
    **changes: Any,
) -> Settings:
    """Settings of three hosts, one repository, and one level for every VM, unless told otherwise."""
    values: dict[str, Any] = {
        "file": Path("/etc/newhope/newhope.toml"),
        "hosts": tuple(
            Host(name=host, uri=f"qemu+ssh://root@{host}/system") if isinstance(host, str) else host for host in hosts
        ),
        "repositories": tuple(
            Repository(name=each, path=Path("/srv") / each) if isinstance(each, str) else each for each in repositories
        ),
        "levels": tuple(levels) if levels is not None else (make_level(),),
        "state": Path("/var/lib/newhope"),
    }
    return Settings(**(values | changes))
