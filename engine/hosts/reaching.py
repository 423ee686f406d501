"""Which way leads to a host, by its URI."""

from __future__ import annotations

from engine.hosts import uri
from engine.hosts.reach import LibvirtAlone, Reach, ThisMachine
from engine.hosts.ssh_reach import SshReach
from engine.hosts.tls_reach import TlsReach
from engine.settings.connection_uri import flaws
from engine.settings.model import Host


def reach_to(host: Host) -> Reach:
    """The way to a host; nothing is begun yet, and a URI that is wrong shows when something is."""
    if flaws(host.uri):
        return LibvirtAlone(host, "its uri is wrong")
    if uri.is_local(host.uri):
        return ThisMachine(host)
    if uri.transport_of(host.uri) in uri.OVER_SSH:
        return SshReach(host)
    if uri.transport_of(host.uri) in ("", "tls"):
        # A machine without a transport means TLS, to libvirt too.
        return TlsReach(host)
    return LibvirtAlone(host, "libvirt's own transport brings neither its files nor its sockets")
