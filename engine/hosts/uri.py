"""What the lane needs to know of a connection URI before anything is asked (https://libvirt.org/uri.html)."""

from __future__ import annotations

from urllib.parse import urlsplit

from engine.hosts.errors import HostUnreachable
from engine.settings.connection_uri import flaws

OVER_SSH = ("ssh", "libssh", "libssh2")
"""Transports that are all the system's `ssh` here: it alone knows the operator's whole configuration."""

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def check(host: str, uri: str) -> None:
    """Refuse what libvirt would misread, and what would send disks and passwords over a network in clear text.

    For an unknown driver libvirt tries a local daemon and complains about that. Of TCP with SASL nobody can tell from
    here whether it encrypts. Raises HostUnreachable.
    """
    for what, fix in flaws(uri):
        raise HostUnreachable(host, f"its uri is wrong: {what.rstrip('.')}", next_step=fix)
    parts = urlsplit(uri)
    if transport_of(uri) == "tcp" and parts.hostname not in _LOOPBACK:
        raise HostUnreachable(
            host,
            "its uri asks for TCP without encryption, which newhope does not use beyond this machine",
            next_step="Use qemu+ssh://user@HOST/system, or qemu+tls://HOST/system with certificates.",
        )


def transport_of(uri: str) -> str:
    """The word behind the `+` of the scheme; empty if there is none."""
    return urlsplit(uri).scheme.partition("+")[2]


def is_local(uri: str) -> bool:
    """Whether the host's files are this machine's files: no transport that leaves the machine."""
    return transport_of(uri) in ("", "unix") and not urlsplit(uri).netloc


def is_system(uri: str) -> bool:
    """Whether the daemon is the machine's own, whose files are root's and QEMU's, rather than a user's."""
    return urlsplit(uri).path == "/system"
