"""Which way leads to a host, by its URI."""

from __future__ import annotations

from engine.hosts import uri
from engine.hosts.reach import LibvirtAlone, Reach, ThisMachine
from engine.settings.model import Host


def reach_to(host: Host) -> Reach:
    """The way to a host; nothing is begun yet."""
    if uri.is_local(host.uri):
        return ThisMachine(host)
    return LibvirtAlone(host, uri.to_open(host.uri), "libvirt's own transport brings no files")
