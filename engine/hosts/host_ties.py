"""What ties a definition to the host it was made on, cut so that another host (or a second VM on the same) can run it.

Nothing here changes what the guest sees, except for devices that were the host's own.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element

_CHARACTER_DEVICES = ("serial", "parallel", "console")
_OWN_ENDS = ("pty", "null", "stdio", "spicevmc", "spiceport", "dbus", "qemu-vdagent")
"""Character devices that need nothing of the host but what libvirt makes itself."""
_ANYWHERE = ("127.0.0.1", "0.0.0.0", "::", "::1", "localhost")  # noqa: S104 (compared with, never listened on)
_PINNING = (
    "vcpupin", "emulatorpin", "iothreadpin", "vcpusched", "iothreadsched", "emulatorsched", "cachetune", "memorytune",
)  # fmt: skip


def cut_host_ties(domain: Element, *, host_devices: bool, host_tuning: bool) -> None:
    """Cut them all; what is passed through and how it is pinned stays if that is asked for."""
    domain.attrib.pop("id", None)
    drop(domain, "resource")
    _drop_labels(domain)
    devices = domain.find("devices")
    if devices is not None:
        # The old host's path of QEMU; without it libvirt takes its own.
        drop(devices, "emulator")
        _drop_generated_aliases(devices)
        _free_channels(devices)
        _free_character_devices(devices)
        _free_graphics(devices)
        _free_sockets(devices)
        if not host_devices:
            _drop_host_devices(devices)
    if not host_tuning:
        _drop_tuning(domain)


def drop_accelerator_features(domain: Element) -> None:
    """Remove what only KVM offers, for a VM that will be emulated."""
    features = domain.find("features")
    if features is not None:
        for tag in ("kvm", "hyperv", "pmu", "pvspinlock"):
            drop(features, tag)
        for ioapic in features.findall("ioapic[@driver='kvm']"):
            features.remove(ioapic)
    clock = domain.find("clock")
    if clock is not None:
        for timer in clock.findall("timer"):
            if timer.get("name") in ("kvmclock", "hypervclock", "tsc"):
                clock.remove(timer)


def drop(parent: Element, tag: str) -> None:
    """Remove every child of that tag."""
    for child in parent.findall(tag):
        parent.remove(child)


def _drop_labels(domain: Element) -> None:
    # Labels of SELinux or AppArmor are the old host's; the new one gives its own.
    for parent in list(domain.iter()):
        drop(parent, "seclabel")


def _drop_generated_aliases(devices: Element) -> None:
    for device in devices:
        for alias in device.findall("alias"):
            if not alias.get("name", "").startswith("ua-"):
                device.remove(alias)


def _free_channels(devices: Element) -> None:
    for channel in devices.findall("channel"):
        source = channel.find("source")
        if channel.get("type") == "unix" and (source is None or source.get("mode", "bind") == "bind"):
            # Two VMs cannot listen on one path: without a path libvirt makes one for this VM.
            drop(channel, "source")
        drop(channel, "log")


def _free_character_devices(devices: Element) -> None:
    for tag in _CHARACTER_DEVICES:
        for device in devices.findall(tag):
            drop(device, "log")
            drop(device, "source")
            drop(device, "protocol")
            device.attrib.pop("tty", None)
            if device.get("type") not in _OWN_ENDS:
                device.set("type", "pty")


def _free_graphics(devices: Element) -> None:
    for graphics in devices.findall("graphics"):
        if graphics.get("type") not in ("vnc", "spice", "rdp"):
            continue
        for attribute in ("port", "tlsPort", "websocket", "socket"):
            graphics.attrib.pop(attribute, None)
        graphics.set("autoport", "yes")
        if graphics.get("listen", "127.0.0.1") not in _ANYWHERE:
            graphics.set("listen", "127.0.0.1")
        for listen in graphics.findall("listen"):
            _free_listen(graphics, listen)


def _free_listen(graphics: Element, listen: Element) -> None:
    kind = listen.get("type")
    if kind == "socket":
        listen.attrib.pop("socket", None)
        graphics.attrib.pop("autoport", None)
    elif kind == "network" or listen.get("address", "127.0.0.1") not in _ANYWHERE:
        listen.attrib.clear()
        listen.set("type", "address")
        listen.set("address", "127.0.0.1")
        graphics.set("listen", "127.0.0.1")


def _free_sockets(devices: Element) -> None:
    for cid in devices.findall("vsock/cid"):
        # Context ids are one to a VM on a host.
        cid.attrib.clear()
        cid.set("auto", "yes")
    for tpm in devices.findall("tpm"):
        backend = tpm.find("backend")
        if backend is not None and backend.get("type") == "emulator":
            # Its state is kept by UUID; a path of its own would be the original's.
            drop(backend, "source")


def _drop_host_devices(devices: Element) -> None:
    for tag in ("hostdev", "filesystem", "shmem"):
        drop(devices, tag)
    for tpm in devices.findall("tpm"):
        if tpm.find("backend[@type='passthrough']") is not None:
            devices.remove(tpm)
    for given in devices.findall("input[@type='passthrough']") + devices.findall("input[@type='evdev']"):
        devices.remove(given)


def _drop_tuning(domain: Element) -> None:
    drop(domain, "numatune")
    vcpu = domain.find("vcpu")
    if vcpu is not None:
        vcpu.attrib.pop("cpuset", None)
        vcpu.attrib.pop("placement", None)
    tuning = domain.find("cputune")
    if tuning is not None:
        for tag in _PINNING:
            drop(tuning, tag)
        if len(tuning) == 0:
            domain.remove(tuning)
    backing = domain.find("memoryBacking")
    if backing is not None:
        for tag in ("hugepages", "locked"):
            drop(backing, tag)
        if len(backing) == 0:
            domain.remove(backing)
