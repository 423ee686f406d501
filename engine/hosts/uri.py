"""What the lane needs to know of a connection URI before anything is asked (https://libvirt.org/uri.html)."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

from engine.hosts.errors import HostUnreachable
from engine.settings.connection_uri import flaws


def check(host: str, uri: str) -> None:
    """Refuse what libvirt would misread: for an unknown driver it tries a local daemon and complains about that.

    Raises HostUnreachable.
    """
    for what, fix in flaws(uri):
        raise HostUnreachable(host, f"its uri is wrong: {what.rstrip('.')}", next_step=fix)


def to_open(uri: str) -> str:
    """The URI to hand to libvirt: SSH must never ask for a password on the operator's terminal."""
    parts = urlsplit(uri)
    if not parts.scheme.endswith("+ssh"):
        return uri
    if any(key == "no_tty" for key, _ in parse_qsl(parts.query)):
        return uri
    return uri + ("&" if parts.query else "?") + "no_tty=1"


def is_local(uri: str) -> bool:
    """Whether the host's files are this machine's files: no transport that leaves the machine."""
    parts = urlsplit(uri)
    transport = parts.scheme.partition("+")[2]
    return transport in ("", "unix") and not parts.netloc
